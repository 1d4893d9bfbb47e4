"""Signing in over HTTP: what comes back, cookies, pages of other sites, and limits that hold for all servers together."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.api import browsers
from app.models import Order, SignInCode
from app.rate_limits import Limit
from app.services.accounts import code_hash, codes
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Reply, Shop, a_name, eventually
from tests.builders import a_key, a_session
from tests.processes.canaries import found_in

CODE = "204816"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module", autouse=True)
def _codes_are_known() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_hash, "COST", 2**4)
        patch.setattr(codes, "new_code", lambda: CODE)
        yield


@pytest.fixture(scope="module")
async def door(postgres_url: str) -> AsyncIterator[tuple[Shop, Shop]]:
    """Two servers on one database, behind a proxy that they trust."""
    with a_database(postgres_url) as url:
        settings = settings_on(url, trusted_proxies="127.0.0.0/8")
        async with a_shop(settings) as one, a_shop(settings) as other:
            yield one, other


def from_(client: str) -> dict[str, str]:
    return {"X-Forwarded-For": client}


async def asked(shop: Shop, email: str | None = None, *, headers: dict[str, str] | None = None) -> Reply:
    body = {"email": email or f"{a_name('a')}@example.com"}
    client = from_(f"2001:db8:{int(re.sub('[^0-9]', '', a_name('x'))[:4]) % 65536:x}::1")
    return await shop.post("/api/auth/code", body, headers=client | (headers or {}), anonymous=True)


async def tried(shop: Shop, request: str, code: str = CODE, *, headers: Any = None, **more: str) -> Reply:
    body = {"request": request, "code": code} | more
    return await shop.post("/api/auth/session", body, headers=headers, anonymous=True)


async def signed_in(shop: Shop, email: str, **more: str) -> Reply:
    request = (await asked(shop, email)).json()["request"]
    reply = await tried(shop, request, headers=SAME_ORIGIN, **more)
    assert reply.status == 201, reply
    return reply


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie_in(reply: Reply) -> Any:
    cookies: SimpleCookie = SimpleCookie()
    cookies.load(reply.headers["Set-Cookie"])
    [cookie] = cookies.values()
    return cookie


# --- codes


async def test_the_answer_is_the_same_whether_or_not_the_address_has_orders(door: tuple[Shop, Shop]) -> None:
    shop, _ = door
    await shop.ordered()  # by ana@example.com
    told = []
    for email in ("ana@example.com", "nobody@example.com"):
        reply = await asked(shop, email)
        assert reply.status == 202
        assert reply.headers["Cache-Control"] == "no-store"
        assert re.fullmatch("tribi_request_[A-Za-z0-9_-]{43}", reply.json()["request"])
        told.append((reply.json() | {"request": ""}, sorted(n for n in reply.headers), len(reply.body)))
    assert told[0] == told[1]


@pytest.mark.parametrize(("liked", "noted"), [("ja, es-MX;q=0.5, en;q=0.1", "es"), ("ja", "und"), (None, "und")])
async def test_the_code_is_in_a_language_of_ours_that_the_client_likes_or_else_in_that_of_the_orders(
    door: tuple[Shop, Shop], liked: str | None, noted: str
) -> None:
    shop, _ = door
    await asked(shop, headers={} if liked is None else {"Accept-Language": liked})
    async with shop.db.read() as connection:
        newest = select(SignInCode.language).order_by(SignInCode.id.desc()).limit(1)
        assert await connection.scalar(newest) == noted


async def test_the_sixth_code_for_an_address_is_refused_by_every_server(door: tuple[Shop, Shop]) -> None:
    for n in range(5):
        assert (await asked(door[n % 2], "Often@example.com")).status == 202
    for shop in door:
        reply = await asked(shop, "often@example.com")
        assert reply.problem == (429, "rate-limited")
        assert 1 <= int(reply.headers["Retry-After"]) <= 720
        assert reply.json()["retryable"] is True


async def test_a_client_is_who_the_trusted_proxy_says_and_its_whole_network(
    door: tuple[Shop, Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "PER_CLIENT", Limit("of this test", 2, 3600))
    one, other = door
    same = ["2001:db8:ffff:1::1", "2001:db8:ffff:1:abcd::2"]
    assert [(await asked(one, headers=from_(client))).status for client in same] == [202, 202]
    assert (await asked(other, headers=from_("2001:db8:ffff:1::3"))).status == 429
    assert (await asked(other, headers=from_("2001:db8:ffff:2::1"))).status == 202
    # What a client writes into the header itself stands before what the proxy adds.
    assert (await asked(one, headers=from_("203.0.113.9, 2001:db8:ffff:1::4"))).status == 429


async def test_who_names_no_proxy_believes_none(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "PER_CLIENT", Limit("of this test", 2, 3600))
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            found = [(await asked(shop, headers=from_(f"203.0.113.{n}"))).status for n in range(3)]
    assert found == [202, 202, 429]


async def test_an_operator_is_told_once_of_a_proxy_that_is_not_named(
    shop: Shop, server_log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsers, "_has_told_of_proxy", False)
    before = server_log.getvalue().count("http.proxy_not_trusted")
    for _ in range(2):
        await asked(shop)
    assert server_log.getvalue().count("http.proxy_not_trusted") == before + 1


@pytest.mark.parametrize("email", ["", "ana", "ana@", "a\r\nBcc: x@example.com", "x" * 300 + "@example.com", 7, None])
async def test_what_is_no_address_is_told(shop: Shop, email: object) -> None:
    reply = await shop.post("/api/auth/code", {"email": email}, anonymous=True)
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["/email"]


# --- sessions


async def test_a_program_gets_a_token_and_no_cookie(door: tuple[Shop, Shop]) -> None:
    shop, other = door
    reply = await signed_in(shop, "ana@example.com")
    assert "Set-Cookie" not in reply.headers
    session = reply.json()
    assert session["idle_limit_s"] == 7 * 24 * 3600
    for one in (shop, other):
        assert (await one.get("/api/orders", headers=bearer(session["token"]))).status == 200


async def test_a_browser_gets_a_cookie_and_no_token(door: tuple[Shop, Shop]) -> None:
    shop, _ = door
    reply = await signed_in(shop, "ana@example.com", transport="cookie")
    cookie = cookie_in(reply)
    assert reply.json()["token"] is None
    assert cookie.value not in reply.body.decode()
    assert (cookie.key, cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
        "tribi_session",
        True,
        "strict",
        "/",
        "",
    )
    sent = {"Cookie": f"tribi_session={cookie.value}"}
    assert (await shop.get("/api/orders", headers=sent, anonymous=True)).status == 200
    gone = await shop.call("DELETE", "/api/auth/session", headers=sent | SAME_ORIGIN, anonymous=True)
    assert (gone.status, cookie_in(gone).value, cookie_in(gone)["max-age"]) == (204, "", "0")
    assert (await shop.get("/api/orders", headers=sent, anonymous=True)).problem == (401, "unauthenticated")


async def test_outside_loopback_the_cookie_travels_by_https_alone(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, public_url="https://esims.example")) as shop:
            cookie = cookie_in(await signed_in(shop, "ana@example.com", transport="cookie"))
            assert (cookie.key, cookie["secure"], cookie["path"], cookie["domain"]) == (
                "__Host-tribi_session",
                True,
                "/",
                "",
            )
            for name, status in (("__Host-tribi_session", 200), ("tribi_session", 401)):
                sent = {"Cookie": f"{name}={cookie.value}"}
                assert (await shop.get("/api/esims", headers=sent, anonymous=True)).status == status
        async with a_shop(settings_on(url)) as shop:  # by plain http, on another address than loopback
            request = (await asked(shop)).json()["request"]
            headers = SAME_ORIGIN | {"Host": "192.0.2.7:8000"}
            cookie = cookie_in(await tried(shop, request, headers=headers, transport="cookie"))
            assert (cookie.key, cookie["secure"]) == ("__Host-tribi_session", True)


ELSEWHERE: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "{own}.evil.example"},
    {"Referer": "{own}/"},
    {},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
async def test_a_page_of_another_site_changes_nothing_with_a_cookie(shop: Shop, headers: dict[str, str]) -> None:
    token = await a_session(shop.db)
    order = await shop.ordered()
    sent = {name: value.replace("{own}", shop.url) for name, value in headers.items()}
    cookie = {"Cookie": f"tribi_session={token}"} | sent
    body = {"order_id": order["id"]}
    activated = await shop.post("/api/esims/activate", body, headers=cookie, anonymous=True)
    assert activated.problem == (403, "forbidden")
    signed_out = await shop.call("DELETE", "/api/auth/session", headers=cookie, anonymous=True)
    assert signed_out.problem == (403, "forbidden")
    request = (await asked(shop)).json()["request"]
    assert (await tried(shop, request, headers=sent, transport="cookie")).problem == (403, "forbidden")
    assert (await shop.get(f"/api/esims/{order['esim']['id']}", headers=bearer(token))).json()["status"] == "pending"


@pytest.mark.parametrize("headers", [SAME_ORIGIN, {"Origin": "{own}"}], ids=str)
async def test_a_page_of_ours_does(shop: Shop, headers: dict[str, str]) -> None:
    sent = {name: value.replace("{own}", shop.url) for name, value in headers.items()}
    sent |= {"Cookie": f"tribi_session={await a_session(shop.db)}"}
    body = {"order_id": (await shop.ordered())["id"]}
    assert (await shop.post("/api/esims/activate", body, headers=sent, anonymous=True)).status == 201


async def test_a_bearer_needs_no_origin_and_goes_before_a_cookie(shop: Shop) -> None:
    order = await shop.ordered()
    mine, others = await a_session(shop.db), await a_session(shop.db, "bob@example.com")
    headers = bearer(mine) | {"Cookie": f"tribi_session={others}", "Sec-Fetch-Site": "cross-site"}
    assert (await shop.activate(order["id"], headers=headers)).status == 201
    nonsense = {"Authorization": "Basic x", "Cookie": f"tribi_session={mine}"} | SAME_ORIGIN
    assert (await shop.get("/api/orders", headers=nonsense)).problem == (401, "unauthenticated")


async def test_a_session_that_was_there_before_is_over_after_signing_in(door: tuple[Shop, Shop]) -> None:
    """Somebody who has put their own token into a browser (fixation) gains nothing by it."""
    shop, other = door
    planted = await a_session(shop.db, "mallory@example.com")
    request = (await asked(shop, "ana@example.com")).json()["request"]
    headers = SAME_ORIGIN | {"Cookie": f"tribi_session={planted}"}
    cookie = cookie_in(await tried(shop, request, headers=headers, transport="cookie"))
    assert cookie.value != planted
    assert (await other.get("/api/orders", headers=bearer(planted))).status == 401
    assert (await other.get("/api/orders", headers=bearer(cookie.value))).status == 200


async def test_signing_out_everywhere_is_at_once_on_every_server(door: tuple[Shop, Shop]) -> None:
    shop, other = door
    tokens = [(await signed_in(one, "many@example.com")).json()["token"] for one in (shop, other, shop)]
    reply = await shop.call("DELETE", "/api/auth/session?everywhere=true", headers=bearer(tokens[0]))
    assert (reply.status, reply.body) == (204, b"")
    for token in tokens:
        for one in door:
            assert (await one.get("/api/orders", headers=bearer(token))).problem == (401, "unauthenticated")


async def test_wrong_used_and_unknown_are_one_answer(door: tuple[Shop, Shop]) -> None:
    shop, _ = door
    used = (await asked(shop)).json()["request"]
    assert (await tried(shop, used)).status == 201
    told = set()
    for request, code in (
        (used, CODE),
        ((await asked(shop)).json()["request"], "999999"),
        ("tribi_request_" + "x" * 43, CODE),
    ):
        reply = await tried(shop, request, code)
        assert reply.problem == (401, "unauthenticated")
        told.add(reply.json()["detail"])
    assert len(told) == 1


async def test_five_tries_are_all_there_are(door: tuple[Shop, Shop]) -> None:
    request = (await asked(door[0])).json()["request"]
    for n in range(5):
        assert (await tried(door[n % 2], request, "999999")).status == 401
    assert (await tried(door[0], request)).status == 401


@pytest.mark.parametrize("code", ["12345", "1234567", "12345a", "１２３４５６", " 123456", 123456, None, ""])  # noqa: RUF001
async def test_what_is_no_code_is_told_and_costs_no_try(shop: Shop, code: Any) -> None:
    reply = await tried(shop, "tribi_request_" + "x" * 43, code)
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["/code"]


async def test_a_session_is_not_kept_where_a_key_is_wanted(shop: Shop) -> None:
    _, secret = await a_key(shop.db)
    reply = await shop.call("DELETE", "/api/auth/session", headers=bearer(secret))
    assert reply.problem == (403, "forbidden")
    in_cookie = {"Cookie": f"tribi_session={secret}"} | SAME_ORIGIN
    assert (await shop.get("/api/orders", headers=in_cookie, anonymous=True)).problem == (401, "unauthenticated")


async def test_thirty_activations_an_hour_are_a_travellers_limit(shop: Shop) -> None:
    token = await a_session(shop.db, "busy@example.com")
    statuses = [(await shop.activate(10**9, headers=bearer(token))).status for _ in range(31)]
    assert statuses == [404] * 30 + [429]
    assert (await shop.get("/api/orders", headers=bearer(token))).status == 200


async def test_nothing_of_it_is_in_the_log(door: tuple[Shop, Shop], server_log: StringIO) -> None:
    """The message is written to a file here, by the server's own worker."""
    shop, _ = door
    email = f"{a_name('canary')}@example.com"
    order = await shop.ordered()
    async with shop.db.begin() as connection:
        await connection.execute(update(Order).where(Order.id == order["id"]).values(customer_email=email))
    request = (await asked(shop, email)).json()["request"]
    folder = Path(os.environ["TRIBI_DATA_DIR"]) / "mails"

    async def arrived() -> str | None:
        found = [file for file in folder.glob("sign-in-code-*.eml") if email in file.read_text()]
        return found[0].read_text() if found else None

    assert CODE in await eventually(arrived)
    assert (await tried(shop, request, "999999")).status == 401
    token = (await tried(shop, request)).json()["token"]
    assert (await shop.get(f"/api/orders/{order['id']}", headers=bearer(token))).status == 200
    await shop.call("DELETE", "/api/auth/session", headers=bearer(token))
    written = server_log.getvalue()
    assert "mail.written" in written
    assert found_in(written, [CODE, request, token, email, email.partition("@")[0]]) == []


# --- KEY_RATE_LIMIT


async def test_a_key_may_send_so_many_requests_a_second(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        settings = settings_on(url, key_rate_limit=3)
        async with a_shop(settings) as one, a_shop(settings) as other:
            begun = time.monotonic()
            replies = await asyncio.gather(
                *(shop.get("/api/esims?limit=1", headers=other.bearer) for _ in range(15) for shop in (one, other))
            )
            came_back = 3 * (time.monotonic() - begun)
            refused = [reply for reply in replies if reply.status == 429]
            assert len(refused) >= 30 - 3 - 1 - came_back
            assert refused
            for reply in refused:
                assert reply.problem == (429, "rate-limited")
                assert int(reply.headers["Retry-After"]) == 1
            assert (await one.get("/api/esims?limit=1")).status == 200  # another key


async def test_without_a_limit_nothing_is_counted(shop: Shop) -> None:
    for _ in range(30):
        assert (await shop.get("/api/esims?limit=1")).status == 200
