"""Service keys: who may do what. (`test_authorization.py` has all callers and all routes.)"""

import re
from typing import Any

import pytest
from sqlalchemy import select

from app.models import ServiceKey
from app.services.accounts.keys import revoke_key
from tests.api.serving import Shop, a_name, a_wish, raw
from tests.builders import a_key, a_plan

# method, path, body: every route that takes a key
GUARDED = [
    ("POST", "/api/orders", b"{}"),
    ("GET", "/api/orders", None),
    ("GET", "/api/orders/1", None),
    ("POST", "/api/esims/activate", b'{"order_id": 1}'),
    ("GET", "/api/esims", None),
    ("GET", "/api/esims/1", None),
    ("GET", "/api/esims/1/qr.png", None),
    ("GET", "/api/esims/1/qr.svg", None),
    ("POST", "/api/webhook-endpoints", b"{}"),
    ("GET", "/api/webhook-endpoints", None),
    ("GET", "/api/webhook-endpoints/1", None),
    ("PATCH", "/api/webhook-endpoints/1", b"{}"),
    ("DELETE", "/api/webhook-endpoints/1", None),
    ("POST", "/api/webhook-endpoints/1/rotate-secret", None),
    ("GET", "/api/webhook-endpoints/1/deliveries", None),
    ("POST", "/api/webhook-endpoints/1/deliveries/1/redeliver", None),
    ("POST", "/api/esims/1/resend", None),
]
_WEBHOOKS = [one for one in GUARDED if "/webhook-endpoints" in one[1]]
every_guarded_route = pytest.mark.parametrize(
    ("method", "path", "body"), GUARDED, ids=[f"{m} {p}" for m, p, _ in GUARDED]
)
every_webhook_route = pytest.mark.parametrize(
    ("method", "path", "body"), _WEBHOOKS, ids=[f"{m} {p}" for m, p, _ in _WEBHOOKS]
)


def test_every_route_that_needs_a_key_is_in_the_list(document: dict[str, Any]) -> None:
    guarded = {
        (method.upper(), re.sub("{.*?}", "1", path))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if {"serviceKey": []} in operation.get("security", [])
    }
    assert {(method, path) for method, path, _ in GUARDED} == guarded


@every_guarded_route
async def test_nobody_gets_nothing(shop: Shop, method: str, path: str, body: bytes | None) -> None:
    reply = await shop.call(method, path, data=body, headers={"Content-Type": "application/json"}, anonymous=True)
    assert reply.problem == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer tribi_unknown",
        "Bearer " + "x" * 300,
        "Bearer tribi_\xe9\xff",
        "Bearer tribi_€",
        "Basic dHJpYmk6dHJpYmk=",
        "Token {secret}",
        "{secret}",
        "Bearer {secret}x",
        "Bearer {secret} {secret}",
        "Bearer {secret}, Bearer {secret}",
        "Bearer,{secret}",
    ],
)
@pytest.mark.parametrize("path", ["/api/esims", "/api/orders/1"])
async def test_an_authorization_that_is_not_a_known_key_is_nobody(shop: Shop, path: str, authorization: str) -> None:
    _, secret = await a_key(shop.db)
    reply = await shop.get(path, headers={"Authorization": authorization.replace("{secret}", secret)})
    assert reply.problem == (401, "unauthenticated")


async def test_bytes_that_are_no_utf8_are_nobody(shop: Shop) -> None:
    answer = await raw(
        shop.url,
        b"GET /api/esims HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\xed\xa0\x80\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_known_in_any_case(shop: Shop, scheme: str) -> None:
    _, secret = await a_key(shop.db)
    assert (await shop.get("/api/esims", headers={"Authorization": f"{scheme} {secret}"})).status == 200


@every_guarded_route
async def test_a_revoked_key_is_nobody_at_once(shop: Shop, method: str, path: str, body: bytes | None) -> None:
    key_id, secret = await a_key(shop.db)
    bearer = {"Authorization": f"Bearer {secret}"}
    assert (await shop.get("/api/esims", headers=bearer)).status == 200
    async with shop.db.begin() as connection:
        await revoke_key(connection, key_id, actor="test")
    reply = await shop.call(method, path, data=body, headers=bearer | {"Content-Type": "application/json"})
    assert reply.problem == (401, "unauthenticated")


async def test_a_key_without_the_scope_orders_places_none(shop: Shop) -> None:
    _, secret = await a_key(shop.db, "esims")
    reply = await shop.place(a_wish(await a_plan(shop.db)), headers={"Authorization": f"Bearer {secret}"})
    assert reply.problem == (403, "forbidden")
    assert "`orders`" in reply.json()["detail"]


async def test_a_key_without_the_scope_esims_activates_none(shop: Shop) -> None:
    _, secret = await a_key(shop.db, "orders")
    order = await shop.ordered()
    reply = await shop.activate(order["id"], headers={"Authorization": f"Bearer {secret}"})
    assert reply.problem == (403, "forbidden")
    assert (await shop.get(f"/api/esims/{order['esim']['id']}")).json()["status"] == "pending"


@every_webhook_route
async def test_a_key_without_the_scope_webhooks_sees_and_changes_no_endpoint(
    shop: Shop, method: str, path: str, body: bytes | None
) -> None:
    _, secret = await a_key(shop.db, "orders", "esims")
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    reply = await shop.call(method, path, data=body, headers=headers)
    assert reply.problem == (403, "forbidden")
    assert "`webhooks`" in reply.json()["detail"]


NONSENSE = [b"", b"{", b"[" * 10_000, b"\xff", b'{"order_id": "x"}']


@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: ascii(body[:10]))
@pytest.mark.parametrize("path", ["/api/orders", "/api/esims/activate"])
async def test_who_is_nobody_learns_nothing_about_the_rest_of_the_request(shop: Shop, path: str, body: bytes) -> None:
    assert (await shop.post(path, body, anonymous=True)).problem == (401, "unauthenticated")


@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: ascii(body[:10]))
async def test_who_may_not_learns_nothing_about_the_rest_of_the_request(shop: Shop, body: bytes) -> None:
    _, secret = await a_key(shop.db, "esims")
    reply = await shop.post("/api/orders", body, headers={"Authorization": f"Bearer {secret}"})
    assert reply.problem == (403, "forbidden")


@pytest.mark.parametrize("path", ["/api/orders?limit=x", "/api/esims?cursor=x", f"/api/esims/{2**63}"])
async def test_who_is_nobody_learns_nothing_about_parameters(shop: Shop, path: str) -> None:
    assert (await shop.get(path, anonymous=True)).problem == (401, "unauthenticated")


async def test_any_key_sees_what_another_ordered(shop: Shop) -> None:
    _, secret = await a_key(shop.db, "esims")
    order = await shop.ordered()
    reply = await shop.get(f"/api/orders/{order['id']}", headers={"Authorization": f"Bearer {secret}"})
    assert reply.json() == order


@pytest.mark.parametrize("path", ["/api/orders/{}", "/api/esims/{}", "/api/esims/{}/qr.png", "/api/esims/{}/qr.svg"])
async def test_what_does_not_exist_is_told_in_the_same_bytes_for_every_id(shop: Shop, path: str) -> None:
    told = set()
    for missing in (10**9, 10**18, 2**63 - 1):
        asked = path.format(missing)
        reply = await shop.get(asked)
        assert reply.problem == (404, "not-found")
        assert reply.json()["instance"] == asked
        body = reply.body.replace(asked.encode(), b"").replace(reply.headers["X-Request-Id"].encode(), b"")
        headers = sorted((n.lower(), v) for n, v in reply.headers.items())
        told.add((body, *((n, v) for n, v in headers if n not in {"x-request-id", "date", "content-length"})))
    assert len(told) == 1


async def test_a_keys_use_is_noted(shop: Shop) -> None:
    key_id, secret = await a_key(shop.db)
    await shop.get("/api/esims", headers={"Authorization": f"Bearer {secret}"})
    async with shop.db.read() as connection:
        assert await connection.scalar(select(ServiceKey.last_used_at).where(ServiceKey.id == key_id)) is not None


async def test_a_key_in_the_query_or_a_cookie_is_nobodys(shop: Shop) -> None:
    _, secret = await a_key(shop.db)
    for path, headers in (
        (f"/api/esims?access_token={secret}", {}),
        ("/api/esims", {"Cookie": f"access_token={secret}"}),
    ):
        assert (await shop.get(path, headers=headers, anonymous=True)).problem == (401, "unauthenticated")


async def test_a_key_is_of_no_use_with_a_name_in_front(shop: Shop) -> None:
    reply = await shop.get("/api/esims", headers={"Authorization": f"Bearer {a_name('tribi_')}"})
    assert reply.problem == (401, "unauthenticated")
