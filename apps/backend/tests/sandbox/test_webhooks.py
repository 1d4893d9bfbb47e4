"""Webhooks on demand: ConnectedYou's three published events, to whoever wants to hear them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

from app.listening import listen, url_of
from app.values.eid import read_eid
from tests.sandbox.running import Sandbox, a_sandbox


@dataclass
class Receiver:
    """A storefront's, or Tribi's own, end of a webhook."""

    url: str
    status: int = 200
    heard: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(({name.lower(): value for name, value in request.headers.items()}, await request.json()))
        headers = {"Location": self.url} if self.status == 307 else {}
        return web.Response(status=self.status, headers=headers)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, event in self.heard]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    listening = listen("127.0.0.1", 0)
    receiver = Receiver(url_of(listening, "127.0.0.1") + "/hooks")
    app = web.Application()
    app.router.add_post("/hooks", receiver.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def telling(receiver: Receiver) -> AsyncIterator[Sandbox]:
    """A sandbox that sends to the receiver, and has sold one eSIM."""
    async with a_sandbox(webhook_url=receiver.url) as sandbox:
        await sandbox.bought("order-7")
        yield sandbox


async def iccid_of(sandbox: Sandbox) -> str:
    return str((await sandbox.ledger())["entries"][0]["esim"]["iccid"])


@pytest.mark.parametrize(
    ("wish", "fields"),
    [
        (
            {"event_type": "USAGE_ALERT"},
            {"data_consumed": 2625.02, "data_total": 5120.0, "percentage_consumed": 51.27},
        ),
        (
            {"event_type": "USAGE_ALERT", "percentage_consumed": 80.5, "data_total": 1000},
            {"data_consumed": 805.0, "data_total": 1000.0, "percentage_consumed": 80.5},
        ),
        ({"event_type": "PROFILE_LIFECYCLE", "status": "DELETED"}, {"status": "DELETED"}),
        (
            {"event_type": "PRODUCT_STATUS_CHANGE", "product_status": "TERMINATED"},
            {"product_status": "TERMINATED", "product_name": "Spain 5GB", "product_id": "CY-ES-5GB"},
        ),
    ],
    ids=["usage", "usage-as-told", "profile", "product"],
)
async def test_an_event_has_the_published_fields_and_no_others(
    telling: Sandbox, receiver: Receiver, wish: dict[str, Any], fields: dict[str, Any]
) -> None:
    reply = await telling.post("/sandbox/webhooks", wish | {"order_reference": "order-7"})
    assert reply.status == 200
    [event] = receiver.events
    if event["event_type"] == "PROFILE_LIFECYCLE":
        assert read_eid(event.pop("eid"))
    assert event.pop("event_timestamp").endswith("Z")
    assert event == fields | {"event_type": wish["event_type"], "iccid": await iccid_of(telling)}


async def test_an_event_carries_the_static_secret_header_and_nothing_that_names_the_order(
    telling: Sandbox, receiver: Receiver
) -> None:
    await telling.post("/sandbox/webhooks", {"event_type": "USAGE_ALERT", "order_reference": "order-7"})
    [(headers, event)] = receiver.heard
    assert headers["x-webhook-secret"] == "the-secret"
    assert headers["content-type"].startswith("application/json")
    assert "order-7" not in json.dumps(event) + json.dumps(headers)


@pytest.mark.parametrize(("secret", "carried"), [("another", "another"), ("", None)])
async def test_a_wrong_secret_or_none_can_be_sent_on_purpose(
    telling: Sandbox, receiver: Receiver, secret: str, carried: str | None
) -> None:
    wish = {"event_type": "USAGE_ALERT", "order_reference": "order-7", "secret": secret}
    await telling.post("/sandbox/webhooks", wish)
    [(headers, _)] = receiver.heard
    assert headers.get("x-webhook-secret") == carried


async def test_an_event_can_come_twice_late_and_for_an_esim_that_nobody_knows(
    telling: Sandbox, receiver: Receiver
) -> None:
    at = "2026-01-01T00:00:00Z"
    wish = {"event_type": "PROFILE_LIFECYCLE", "iccid": "8901120200045678901", "event_timestamp": at, "times": 2}
    await telling.post("/sandbox/webhooks", wish)
    first, second = receiver.events
    assert first == second
    assert (first["iccid"], first["event_timestamp"]) == ("8901120200045678901", at)


async def test_an_esim_keeps_its_handset(telling: Sandbox, receiver: Receiver) -> None:
    for status in ("DOWNLOADED", "ENABLED"):
        wish = {"event_type": "PROFILE_LIFECYCLE", "order_reference": "order-7", "status": status}
        await telling.post("/sandbox/webhooks", wish)
    assert len({event["eid"] for event in receiver.events}) == 1


async def test_an_event_may_name_its_own_address(sandbox: Sandbox, receiver: Receiver) -> None:
    await sandbox.bought("order-7")
    wish = {"event_type": "USAGE_ALERT", "order_reference": "order-7", "url": receiver.url}
    assert (await sandbox.post("/sandbox/webhooks", wish)).status == 200
    assert len(receiver.events) == 1


@pytest.mark.parametrize("status", [307, 401, 500])
async def test_a_receiver_that_does_not_take_it_is_told_and_kept(
    telling: Sandbox, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    reply = await telling.post("/sandbox/webhooks", {"event_type": "USAGE_ALERT", "order_reference": "order-7"})
    assert reply.status == 502
    assert [delivery["status"] for delivery in reply.json()] == [status]
    assert (await telling.call("GET", "/sandbox/webhooks")).json() == reply.json()
    assert len(receiver.heard) == 1


async def test_a_receiver_that_is_away_is_told(telling: Sandbox) -> None:
    wish = {"event_type": "USAGE_ALERT", "order_reference": "order-7", "url": "http://127.0.0.1:1/"}
    reply = await telling.post("/sandbox/webhooks", wish)
    [delivery] = reply.json()
    assert (reply.status, delivery["status"]) == (502, None)
    assert "ClientConnectorError" in delivery["error"]


USAGE = {"event_type": "USAGE_ALERT", "order_reference": "order-7"}


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({}, 422, "invalid_event"),
        ([], 422, "invalid_event"),
        ({"event_type": "ORDER_READY"}, 422, "invalid_event"),
        ({"event_type": "USAGE_ALERT"}, 422, "invalid_event"),
        (USAGE | {"iccid": "12"}, 422, "invalid_event"),
        (USAGE | {"status": "installed"}, 422, "invalid_event"),
        (USAGE | {"times": 11}, 422, "invalid_event"),
        (USAGE | {"note": "x"}, 422, "invalid_event"),
        (USAGE | {"order_reference": "order-8"}, 404, "no_esim"),
        (USAGE | {"url": "ftp://127.0.0.1/"}, 422, "invalid_url"),
        (USAGE | {"url": "http://"}, 422, "invalid_url"),
        (USAGE | {"secret": "a\nb"}, 422, "invalid_secret"),
        (b"{", 400, "not_json"),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    telling: Sandbox, receiver: Receiver, wish: object, status: int, code: str
) -> None:
    reply = await telling.post("/sandbox/webhooks", wish)
    assert (reply.status, reply.json()["error"]["code"]) == (status, code)
    assert receiver.heard == []


async def test_without_an_address_nothing_is_sent(sandbox: Sandbox) -> None:
    await sandbox.bought("order-7")
    reply = await sandbox.post("/sandbox/webhooks", USAGE)
    assert (reply.status, reply.json()["error"]["code"]) == (422, "no_url")


@pytest.mark.parametrize("path", ["/sandbox/webhooks", "/sandbox/forget"])
@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://sandbox.elsewhere.example:{port}"])
async def test_no_other_page_in_the_browser_sends_through_the_sandbox(
    telling: Sandbox, receiver: Receiver, path: str, origin: str
) -> None:
    """Nor one whose name its owner has led to this machine (DNS rebinding)."""
    origin = origin.format(port=telling.url.rpartition(":")[2])
    headers = {"Content-Type": "application/json", "Origin": origin}
    if "sandbox." in origin:
        headers["Host"] = origin.removeprefix("http://")
    reply = await telling.post(path, USAGE, headers)
    assert (reply.status, reply.json()["error"]["code"]) == (403, "not_from_here")
    assert receiver.heard == []
    assert (await telling.ledger())["esims"] == 1


async def test_the_pages_form_sends_and_shows_what_came_of_it(telling: Sandbox, receiver: Receiver) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": telling.url}
    form = {
        "iccid": await iccid_of(telling),
        "event_type": "USAGE_ALERT",
        "percentage_consumed": "80",
        "status": "INSTALLED",
        "product_status": "ACTIVATED",
        "times": "1",
        "url": "",
    }
    reply = await telling.post("/sandbox/webhooks", urlencode(form).encode(), headers)
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    [event] = receiver.events
    assert (event["percentage_consumed"], event["data_consumed"]) == (80, 4096)
    assert receiver.url in await telling.page()


async def test_the_pages_button_forgets(telling: Sandbox) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": telling.url}
    assert (await telling.post("/sandbox/forget", b"", headers)).status == 303
    assert (await telling.ledger())["entries"] == []
