"""Headers that every reply has (`keeps_the_rules` looks at each reply of all these tests), and the request id."""

import pytest
from multidict import CIMultiDict

from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Shop

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/plans", 200),
        ("GET", "/api/orders", 200),
        ("GET", "/api/docs", 200),
        ("GET", "/api/docs/swagger-ui.css", 200),
        ("GET", "/api/openapi.json", 200),
        ("GET", "/problems/", 200),
        ("GET", "/nothing", 404),
        ("GET", "/api/orders/999999999", 404),
        ("GET", "/api/orders?limit=0", 422),
        ("DELETE", "/api/orders", 405),
        ("POST", "/api/orders", 400),
        ("OPTIONS", "/api/plans", 405),
    ],
)
async def test_every_reply_has_the_security_headers(shop: Shop, method: str, path: str, status: int) -> None:
    reply = await shop.call(method, path)
    assert reply.status == status
    assert {name: reply.headers[name] for name in EVERYWHERE} == EVERYWHERE
    policy = reply.headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in policy
    assert "unsafe-eval" not in policy
    assert "Server" not in reply.headers
    assert "Access-Control-Allow-Origin" not in reply.headers


async def test_pictures_have_them_too_and_nobody_keeps_one(shop: Shop) -> None:
    order = await shop.ordered()
    await shop.activate(order["id"])
    reply = await shop.get(f"/api/esims/{order['esim']['id']}/qr.svg")
    assert reply.status == 200
    assert {name: reply.headers[name] for name in EVERYWHERE} == EVERYWHERE
    assert reply.headers["Cache-Control"] == "no-store"


async def test_a_refused_body_has_them_too(shop: Shop) -> None:
    reply = await shop.post("/api/orders", b" " * 70_000)
    assert reply.status == 413
    assert {name: reply.headers[name] for name in EVERYWHERE} == EVERYWHERE


async def test_where_clients_come_by_https_they_are_told_to_stay_there(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, public_url="https://esims.example")) as shop:
            for path in ("/healthz", "/nothing"):
                policy = (await shop.get(path)).headers["Strict-Transport-Security"]
                assert policy == "max-age=31536000; includeSubDomains"
            order = await shop.ordered()
            esim = (await shop.activate(order["id"])).json()
            assert esim["qr_png_url"] == f"https://esims.example/api/esims/{esim['id']}/qr.png"


async def test_where_they_come_by_http_they_are_not(shop: Shop) -> None:
    assert "Strict-Transport-Security" not in (await shop.get("/healthz")).headers


# --- X-Request-Id


@pytest.mark.parametrize("given", ["a-request.of_1", "x" * 64, "x" * 8])
async def test_a_given_request_id_is_taken(shop: Shop, given: str) -> None:
    reply = await shop.get("/nothing", headers={"X-Request-Id": given})
    assert reply.headers["X-Request-Id"] == given
    assert reply.json()["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [
        "",
        "short",
        "x" * 65,
        "two words",
        "a;b;c;d;e",
        "<script>alert(1)</script>",
        "\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9",
        "x" * 5000,
        "a\tbcdefgh",
    ],
)
async def test_a_hostile_request_id_is_replaced(shop: Shop, given: str) -> None:
    reply = await shop.get("/nothing", headers={"X-Request-Id": given})
    assert reply.headers["X-Request-Id"].startswith("req_")
    assert reply.json()["request_id"] == reply.headers["X-Request-Id"]


async def test_without_one_each_request_gets_its_own(shop: Shop) -> None:
    ids = {(await shop.get("/healthz")).headers["X-Request-Id"] for _ in range(10)}
    assert len(ids) == 10


async def test_of_two_request_ids_one_is_answered(shop: Shop) -> None:
    headers = CIMultiDict([("X-Request-Id", "first-of-two"), ("X-Request-Id", "second-of-two")])
    assert (await shop.get("/healthz", headers=headers)).headers["X-Request-Id"] == "first-of-two"


async def test_forwarded_headers_from_anybody_count_for_nothing(shop: Shop) -> None:
    forged = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/x",
    }
    reply = await shop.get("/api/orders?limit=1", headers=forged)
    assert reply.status == 200
    assert b"evil.example" not in reply.body
    assert "Strict-Transport-Security" not in reply.headers
