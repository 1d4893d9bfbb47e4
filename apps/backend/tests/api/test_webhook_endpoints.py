"""/api/webhook-endpoints: a storefront manages where it hears of events, and sees what became of telling it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import text

from app.services.webhooks.events import KINDS
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Reply, Shop, eventually
from tests.services.webhooks.conftest import Receiver, a_receiver

PATH = "/api/webhook-endpoints"
URL = "https://seller.invalid/hooks"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async for one in a_receiver():
        yield one


@pytest.fixture(scope="module")
async def seller(postgres_url: str) -> AsyncIterator[Shop]:
    """A shop whose receivers may be on this machine."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, webhooks_allow_private=True)) as shop:
            yield shop


async def added(shop: Shop, url: str = URL, *events: str) -> dict[str, Any]:
    reply = await shop.post(PATH, {"url": url, "events": list(events)})
    assert reply.status == 201, reply
    return dict(reply.json())


async def patch(shop: Shop, endpoint_id: int, body: Any) -> Reply:
    return await shop.call(
        "PATCH", f"{PATH}/{endpoint_id}", headers={"Content-Type": "application/json"}, data=json.dumps(body).encode()
    )


async def test_a_secret_is_shown_when_the_endpoint_is_made_and_never_again(shop: Shop) -> None:
    made = await shop.post(PATH, {"url": URL, "events": ["esim.provisioned", "order.paid"]})
    endpoint = made.json()
    assert made.headers["Location"] == f"{PATH}/{endpoint['id']}"
    secret = endpoint.pop("secret")
    assert secret.startswith("whsec_")
    assert endpoint["events"] == ["order.paid", "esim.provisioned"]
    assert (endpoint["is_enabled"], endpoint["disabled_because"], endpoint["failing_since"]) == (True, None, None)
    looked = await shop.get(made.headers["Location"])
    assert looked.json() == endpoint
    listed = await shop.get(f"{PATH}?limit=100")
    assert endpoint in listed.json()["items"]
    assert secret.encode() not in looked.body + listed.body


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://seller.invalid/",
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::1]/",
            "https://2130706433/",
        ),
        *("https://eva@seller.invalid/", "https://seller.invalid:22/"),
    ],
)
async def test_a_url_to_which_nothing_may_be_sent_is_refused_with_the_reason(shop: Shop, url: str) -> None:
    reply = await shop.post(PATH, {"url": url})
    assert reply.problem == (422, "validation-failed")
    assert "URL" in reply.json()["detail"]
    assert url not in reply.json()["detail"]


@pytest.mark.parametrize("body", [{}, {"url": 7}, {"url": URL, "events": ["order.lost"]}, {"url": URL, "secret": "x"}])
async def test_a_body_that_cannot_be_is_refused(shop: Shop, body: dict[str, Any]) -> None:
    assert (await shop.post(PATH, body)).problem == (422, "validation-failed")


async def test_an_endpoint_is_changed_disabled_enabled_and_removed(shop: Shop) -> None:
    endpoint = await added(shop)
    changed = await patch(shop, endpoint["id"], {"events": ["esim.refused"], "url": "https://seller.invalid/new"})
    assert (changed.json()["events"], changed.json()["url"]) == (["esim.refused"], "https://seller.invalid/new")
    disabled = await patch(shop, endpoint["id"], {"is_enabled": False})
    assert (disabled.json()["is_enabled"], disabled.json()["disabled_because"]) == (False, "asked")
    assert disabled.json()["events"] == ["esim.refused"]
    assert (await patch(shop, endpoint["id"], {"is_enabled": True, "events": None})).json()["is_enabled"] is True
    assert (await patch(shop, endpoint["id"], {})).json()["events"] == ["esim.refused"]
    assert (await patch(shop, endpoint["id"], {"url": "https://10.0.0.1/"})).problem == (422, "validation-failed")
    removed = await shop.call("DELETE", f"{PATH}/{endpoint['id']}")
    assert (removed.status, removed.body) == (204, b"")
    for reply in (
        await shop.get(f"{PATH}/{endpoint['id']}"),
        await shop.call("DELETE", f"{PATH}/{endpoint['id']}"),
        await patch(shop, endpoint["id"], {"is_enabled": True}),
        await shop.call("POST", f"{PATH}/{endpoint['id']}/rotate-secret"),
        await shop.get(f"{PATH}/{endpoint['id']}/deliveries"),
        await shop.call("POST", f"{PATH}/{endpoint['id']}/deliveries/1/redeliver"),
    ):
        assert reply.problem == (404, "not-found")


async def test_a_rotated_secret_is_shown_once_and_the_former_one_ends_in_a_day(shop: Shop) -> None:
    endpoint = await added(shop)
    rotated = (await shop.call("POST", f"{PATH}/{endpoint['id']}/rotate-secret")).json()
    assert rotated["secret"] not in ("", endpoint["secret"])
    assert rotated["previous_secret_until"] is not None
    assert "secret" not in (await shop.get(f"{PATH}/{endpoint['id']}")).json()


async def test_a_sale_is_heard_and_every_attempt_is_in_the_log(seller: Shop, receiver: Receiver) -> None:
    endpoint = await added(seller, receiver.url, "esim.provisioned")
    other = await added(seller, receiver.url, "order.paid")
    order = await seller.ordered()
    await seller.activate(order["id"])

    async def delivered() -> Any:
        items = (await seller.get(f"{PATH}/{endpoint['id']}/deliveries?status=delivered")).json()["items"]
        return items or None

    [delivery] = await eventually(delivered)
    [message] = [one for one in receiver.heard if one.json()["type"] == "esim.provisioned"]
    assert message.verified(endpoint["secret"]) == delivery["payload"]
    assert message.message_id == delivery["message_id"]
    assert [(one["outcome"], one["status"]) for one in delivery["history"]] == [("delivered", 204)]
    again = await seller.call("POST", f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}/redeliver")
    assert (again.status, again.json()["status"]) == (202, "pending")

    async def heard_again() -> Any:
        return [one for one in receiver.heard if one.message_id == message.message_id][1:] or None

    await eventually(heard_again)
    foreign = await seller.call("POST", f"{PATH}/{other['id']}/deliveries/{delivery['id']}/redeliver")
    assert foreign.problem == (404, "not-found")
    await patch(seller, endpoint["id"], {"is_enabled": False})
    refused = await seller.call("POST", f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}/redeliver")
    assert refused.problem == (409, "webhook-endpoint-disabled")


async def test_deliveries_come_in_pages(seller: Shop) -> None:
    endpoint = await added(seller)
    async with seller.db.begin() as connection:
        await connection.execute(
            text(
                "WITH told AS (INSERT INTO webhook_events (type, data) SELECT 'order.paid', jsonb_build_object('order_id', n)"
                " FROM generate_series(1, 5) n RETURNING id)"
                " INSERT INTO webhook_deliveries (event_id, endpoint_id, next_attempt_at)"
                " SELECT id, :id, now() + interval '1 day' FROM told"
            ),
            {"id": endpoint["id"]},
        )
    found, cursor = [], ""
    while True:
        page = (await seller.get(f"{PATH}/{endpoint['id']}/deliveries?limit=2{cursor}")).json()
        found += [item["payload"]["data"]["order_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(found) == [1, 2, 3, 4, 5]
    bad = await seller.get(f"{PATH}/{endpoint['id']}/deliveries?status=lost")
    assert bad.problem == (422, "validation-failed")


def test_every_event_is_in_the_document_with_an_example_that_is_valid(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == set(KINDS)
    for kind, item in document["webhooks"].items():
        assert item["post"]["description"]
        content = item["post"]["requestBody"]["content"]["application/json"]
        validator = Draft202012Validator(content["schema"] | {"components": document["components"]})
        validator.validate(content["example"])
        assert content["example"]["type"] == kind
        data = content["schema"]["properties"]["data"]["$ref"].rpartition("/")[2]
        assert "is_live" in document["components"]["schemas"][data]["required"]
        for field in ("order_id", "is_live", "status" if "status" in content["example"]["data"] else "esim_id"):
            lacking = {name: value for name, value in content["example"]["data"].items() if name != field}
            assert not validator.is_valid(content["example"] | {"data": lacking})
