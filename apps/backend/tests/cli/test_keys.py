"""`tribi keys`, each command a process of its own."""

import json

import psycopg

from app.db import Database
from app.services.accounts.keys import key_of
from tests.builders import a_key
from tests.cli.commands import tribi


async def test_a_keys_secret_is_printed_once_alone_on_standard_output(database_url: str, db: Database) -> None:
    done = tribi(database_url, "keys", "create", "my shop", "--scope", "esims", "--scope", "orders")
    assert done.returncode == 0
    [secret] = done.stdout.splitlines()
    assert done.stderr == "Key 1 (my shop): esims, orders. Keep the secret: it can't be shown again.\n"
    async with db.begin() as connection:
        caller = await key_of(connection, secret)
    assert (caller.key_id, sorted(caller.scopes)) == (1, ["esims", "orders"])

    listed = tribi(database_url, "keys", "list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    [key] = json.loads(listed.stdout)
    assert {name: key[name] for name in ("id", "name", "scopes", "revoked_at")} == {
        "id": 1,
        "name": "my shop",
        "scopes": ["esims", "orders"],
        "revoked_at": None,
    }
    assert key["created_at"].endswith("Z")
    assert key["last_used_at"].endswith("Z")
    assert secret not in listed.stdout


async def test_a_revoked_key_stays_listed_and_its_revocation_is_on_the_audit_trail(
    database_url: str, db: Database
) -> None:
    key_id, _ = await a_key(db)
    done = tribi(database_url, "keys", "revoke", str(key_id))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Key {key_id} (a shop) is revoked.\n", "")
    listed = tribi(database_url, "keys", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "a shop" in listed.stdout
    with psycopg.connect(database_url) as connection:
        trail = "SELECT subject_id, actor ~ '^cli:.' FROM audit_log WHERE tag = 'keys.revoked'"
        assert connection.execute(trail).fetchall() == [(key_id, True)]
        assert connection.execute("SELECT revoked_at IS NOT NULL FROM service_keys").fetchall() == [(True,)]


def test_a_key_that_is_not_there_is_told_in_one_line(database_url: str) -> None:
    done = tribi(database_url, "keys", "revoke", "4711")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tribi: there is no service key 4711\n")
