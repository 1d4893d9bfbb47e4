"""`tribi secrets`, each command a process of its own."""

import json

import psycopg
import pytest

from app.house import House
from app.vault import key_id
from tests.cli.commands import KEY, tribi


async def test_the_keys_are_listed_by_their_names_and_not_as_they_are(database_url: str, house: House) -> None:
    listed = tribi(database_url, "secrets", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    name = key_id(house.keyring.keys[0]).hex()
    assert " ".join(listed.stdout.split()) == f"PLACE KEY SEALED VALUES PROCESSES 1 {name} 1 in use seals"
    assert KEY not in listed.stdout
    assert json.loads(tribi(database_url, "secrets", "list", "--json").stdout) == [
        {"key_id": name, "position": 1, "values": 1, "in_use": True, "may_be_removed": False}
    ]


@pytest.mark.usefixtures("house")
def test_with_one_key_a_rotation_says_that_there_is_nothing_to_do(database_url: str) -> None:
    done = tribi(database_url, "secrets", "rotate")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Sealed anew: 0 rows.\n")
    assert done.stdout.endswith("ENCRYPTION_KEY holds one key, and everything is sealed with it.\n")


@pytest.mark.usefixtures("house")
def test_what_cannot_be_opened_is_told_without_a_traceback(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:  # sealed by a key that nobody has
        connection.execute(
            "UPDATE installation SET fingerprint_key = overlay(fingerprint_key placing '\\x00' from 2 for 1)"
        )
    done = tribi(database_url, "secrets", "rotate")
    assert done.returncode == 1
    assert done.stderr.startswith("tribi: ENCRYPTION_KEY: installation.fingerprint_key: sealed with a key that")
