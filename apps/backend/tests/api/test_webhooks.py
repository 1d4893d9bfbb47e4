"""POST /api/webhooks/{provider}: the provider alone, once, 200 with nothing behind it; and nobody learns anything else."""

import json
from collections.abc import AsyncIterator
from io import BytesIO, StringIO
from typing import Any

import pytest
from multidict import CIMultiDict
from pydantic import SecretStr

from app.services.news.on_file import list_events
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Shop, eventually

SECRET = "the-webhook-secret-of-tests"
GOOD = {"X-Webhook-Secret": SECRET}
PATH = "/api/webhooks/connected_you"
STRANGER = {
    "event_type": "PROFILE_LIFECYCLE",
    "iccid": "8999900000000000003",
    "event_timestamp": "2026-11-20T10:00:00Z",
}


@pytest.fixture(scope="module")
async def hearing(postgres_url: str) -> AsyncIterator[Shop]:
    """It shares its secret with the provider."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, connected_you_webhook_secret=SecretStr(SECRET))) as shop:
            yield shop


async def send(shop: Shop, body: object, headers: Any = GOOD, path: str = PATH) -> Any:
    return await shop.post(path, body, headers=headers, anonymous=True)


async def events(shop: Shop) -> int:
    async with shop.db.read() as connection:
        return len(await list_events(connection))


async def test_news_changes_what_is_seen_of_the_esim(hearing: Shop) -> None:
    esim = (await hearing.activate((await hearing.ordered())["id"])).json()
    told = [
        STRANGER | {"iccid": esim["iccid"], "status": "ENABLED"},
        {
            "event_type": "USAGE_ALERT",
            "iccid": esim["iccid"],
            "event_timestamp": "2026-11-20T10:40:00",
            "data_consumed": 2625.02,
            "data_total": 5120,
            "percentage_consumed": 51.27,
        },
    ]
    for event in told:
        reply = await send(hearing, event)
        assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (200, b"", "no-store")

    async def seen() -> dict[str, Any] | None:
        now = (await hearing.get(f"/api/esims/{esim['id']}")).json()
        return now if now["profile_state"] and now["usage_at"] else None

    now = await eventually(seen)
    assert (now["profile_state"], now["plan_state"]) == ("enabled", "not_started")
    assert (now["data_used_mb"], now["data_total_mb"], now["usage_at"]) == (2625.02, 5120, "2026-11-20T10:40:00.000Z")


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\xff", b"[]", b"{", b'{"event_type": 1e999}', b"[" * 60_000, b'{"iccid": ' + b"9" * 60_000 + b"}"],
)
async def test_whatever_the_provider_sends_is_taken_once(hearing: Shop, body: bytes) -> None:
    before = await events(hearing)
    for _ in range(2):
        assert (await send(hearing, body)).status == 200
    assert await events(hearing) == before + 1


async def test_the_headers_name_has_no_case_and_the_content_type_does_not_matter(hearing: Shop) -> None:
    for number, name in enumerate(("x-webhook-secret", "X-WEBHOOK-SECRET", "x-Webhook-SECRET")):
        headers = {name: SECRET, "Content-Type": "text/plain"}
        assert (await send(hearing, STRANGER | {"number": number}, headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Webhook-Secret": ""},
        {"X-Webhook-Secret": SECRET[:-1]},
        {"X-Webhook-Secret": f"{SECRET}x"},
        {"X-Webhook-Secret": SECRET.upper()},
        {"X-Webhook-Secrets": SECRET},
        CIMultiDict([("X-Webhook-Secret", SECRET), ("X-Webhook-Secret", SECRET)]),
    ],
)
async def test_whoever_is_not_the_provider_is_told_nothing_but_that(
    hearing: Shop, server_log: StringIO, headers: Any
) -> None:
    """The forgeries by the dozen are in tests/chaos/forgeries.py."""
    before = await events(hearing)
    for body in (STRANGER, b"{", b"x" * 100_000):
        reply = await send(hearing, body, headers)
        assert reply.problem == (401, "unauthenticated")
    assert await events(hearing) == before
    assert SECRET not in server_log.getvalue()
    refused = [line for line in server_log.getvalue().splitlines() if '"providers.event_refused"' in line]
    assert json.loads(refused[-1])["reason"] in {"header-missing", "header-given-twice", "wrong-secret"}


async def test_without_a_secret_the_door_is_closed(shop: Shop) -> None:
    for headers in ({}, {"X-Webhook-Secret": ""}, GOOD, {"X-Webhook-Secret": "None"}):
        assert (await send(shop, STRANGER, headers)).problem == (401, "unauthenticated")


@pytest.mark.parametrize(
    "name", ["local", "CONNECTED_YOU", "Connected_You", "airalo", "connected-you", "connected_you%00"]
)
async def test_who_has_no_events_has_no_address(hearing: Shop, name: str) -> None:
    path = f"/api/webhooks/{name}"
    assert (await send(hearing, STRANGER, path=path)).problem == (404, "not-found")
    assert (await hearing.get(path, anonymous=True)).problem == (404, "not-found")


async def test_a_look_without_a_body_is_answered(hearing: Shop, shop: Shop) -> None:
    for one in (hearing, shop):
        for method in ("HEAD", "GET"):
            reply = await one.call(method, PATH, anonymous=True)
            assert (reply.status, reply.body) == (200, b"")
    assert (await hearing.call("HEAD", "/api/webhooks/local", anonymous=True)).status == 404


async def test_other_methods_are_told_which_ones_there_are(hearing: Shop) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        reply = await hearing.call(method, PATH, anonymous=True)
        assert reply.problem == (405, "method-not-allowed")
        assert reply.headers["Allow"] == "GET, POST, HEAD"


async def test_a_webhook_may_have_a_mebibyte_and_no_more(hearing: Shop) -> None:
    for size, status in ((1024 * 1024, 200), (1024 * 1024 + 1, 413)):
        reply = await hearing.call("POST", PATH, data=BytesIO(b"x" * size), headers=GOOD, anonymous=True)
        assert reply.status == status


async def test_the_metrics_count_what_came_and_what_became_of_it(hearing: Shop) -> None:
    async def counted() -> str | None:
        text = (await hearing.get("/metrics", anonymous=True)).body.decode()
        return text if 'tribi_provider_news_total{outcome="odd",provider="CONNECTED_YOU"}' in text else None

    text = await eventually(counted)
    for name in (
        'tribi_provider_events_total{provider="CONNECTED_YOU",result="stored"}',
        'tribi_provider_events_total{provider="CONNECTED_YOU",result="duplicate"}',
        'tribi_provider_events_refused_total{provider="CONNECTED_YOU",reason="wrong-secret"}',
    ):
        assert name in text
    assert "\ntribi_provider_events_parked 0.0\n" in text
