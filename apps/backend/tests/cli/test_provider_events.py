"""`tribi providers news` and `event`: what came, without an ICCID; and to the byte for who wants it, on the audit trail."""

import json

import psycopg
import pytest

from app.house import House
from tests.cli.commands import tribi
from tests.services.news.conftest import Ears, lifecycle

STRANGER = "8999912345678901239"


@pytest.fixture
async def told(house: House) -> str:
    """The ICCID of an eSIM of which something was told; so was of a stranger, and something odd."""
    ears = Ears(house)
    _, iccid = await ears.sold()
    await ears.hear(lifecycle(iccid, "ENABLED", "10:00"), lifecycle(STRANGER, "ENABLED", "10:00"), b"\x1b[31m{")
    return iccid


async def test_the_list_says_what_became_of_each_and_has_no_iccid(database_url: str, told: str) -> None:
    listed = tribi(database_url, "providers", "news")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "2026-11-20 10:00:00" in listed.stdout
    assert "not-json" in listed.stdout
    as_json = tribi(database_url, "providers", "news", "--json")
    shapes = json.loads(as_json.stdout)
    assert [(shape["id"], shape["outcome"], shape["esim_id"]) for shape in shapes] == [
        (3, "odd", None),
        (2, "parked", None),
        (1, "applied", 1),
    ]
    assert shapes[2] == {
        "id": 1,
        "provider": "CONNECTED_YOU",
        "type": "PROFILE_LIFECYCLE",
        "at": "2026-11-20T10:00:00.000Z",
        "received_at": shapes[2]["received_at"],
        "outcome": "applied",
        "esim_id": 1,
        "warnings": [],
    }
    for said in (listed.stdout, as_json.stdout):
        assert told not in said
        assert STRANGER not in said


async def test_an_event_is_shown_to_the_byte_and_the_look_is_on_the_audit_trail(database_url: str, told: str) -> None:
    shown = json.loads(tribi(database_url, "providers", "event", "1", "--json").stdout)
    assert json.loads(shown["body"])["iccid"] == told
    odd = tribi(database_url, "providers", "event", "3").stdout
    assert "\x1b" not in odd
    assert "not-json" in odd
    with psycopg.connect(database_url) as connection:
        trail = "SELECT subject_id, actor ~ '^cli:.' FROM audit_log WHERE tag = 'providers.events_viewed' ORDER BY id"
        assert connection.execute(trail).fetchall() == [(1, True), (3, True)]
    missing = tribi(database_url, "providers", "event", "99")
    assert (missing.returncode, missing.stderr) == (1, "tribi: there is no event 99\n")


_MANY = """
    INSERT INTO provider_events (provider, fingerprint, body, outcome, settled_at)
    SELECT 'CONNECTED_YOU', int4send(number::int), '', 'odd', now() FROM generate_series(1, 1001) number
"""


async def test_a_list_ends_with_the_newest_thousand_and_says_so(database_url: str, house: House) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(_MANY)
    cut = tribi(database_url, "providers", "news", "--odd", "--json")
    assert [event["id"] for event in json.loads(cut.stdout)] == list(range(1001, 1, -1))
    assert cut.stderr == "These are the newest 1000; --limit shows more.\n"
    whole = tribi(database_url, "providers", "news", "--limit", "1001", "--json")
    assert (len(json.loads(whole.stdout)), whole.stderr) == (1001, "")
