"""Bodies of requests: JSON as RFC 8259 wants it, in UTF-8, up to 64 KiB, and strictly what was asked for."""

import asyncio
import json
from collections.abc import AsyncIterator
from io import BytesIO, StringIO

import pytest

from tests.api.serving import Shop, a_name, a_wish, eventually, raw
from tests.builders import a_plan

MIB = 1024 * 1024


@pytest.mark.parametrize("body", [b"[]", b'[{"order_id": 1}]', b"1", b'"order_id"', b"null", b"true", b"{}"])
@pytest.mark.parametrize("path", ["/api/orders", "/api/esims/activate"])
async def test_what_is_no_such_object_is_refused(shop: Shop, path: str, body: bytes) -> None:
    reply = await shop.post(path, body, headers={"Idempotency-Key": a_name("key")})
    assert reply.problem == (422, "validation-failed")


@pytest.mark.parametrize(
    "order_id",
    ['"1"', "1.5", "1.0", "1e0", "true", "null", "[1]", "{}", "0", "-1", "-0", "9223372036854775808", "1" * 5000, "01", "+1", "NaN",
     "Infinity", "1_0", "0x1"],
    ids=lambda text: text[:20],
)  # fmt: skip
async def test_an_order_id_is_a_whole_number_of_1_to_2_to_the_63(shop: Shop, order_id: str) -> None:
    reply = await shop.post("/api/esims/activate", b'{"order_id": %s}' % order_id.encode())
    assert reply.problem == (422, "validation-failed")


async def test_the_greatest_order_id_is_unknown_but_possible(shop: Shop) -> None:
    assert (await shop.activate(2**63 - 1)).problem == (404, "not-found")


async def test_unknown_fields_are_refused(shop: Shop) -> None:
    reply = await shop.post("/api/esims/activate", {"order_id": 1, "quantity": 2})
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["/quantity"]


GOOD = '{"order_id": 9223372036854775807}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"order_id=1",
        b"{'order_id': 1}",
        b'{"order_id": 1,}',
        b'{"order_id": 1} // one',
        b'{"order_id": 1}{"order_id": 1}',
        b'{"order_id": 1, "order_id": 1}',
        b'{"order_id": 1, "order_\\u0069d": 2}',
        b'{"order_id": 1, "\xff": 1}',
        b'{"order_id": 1, "\xed\xa0\x80": 1}',
        b'{"order_id": 1, "\\ud800": 1}',
        b'{"\\udc00": 1}',
        b'{"\0": 1}',
        b"\0",
        b'{"order_id": ' + b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"order_id": ' * 900 + b"1" + b"}" * 900,
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-le"),
        GOOD.encode("utf-32"),
    ],
    ids=lambda body: ascii(body[:30]),
)
async def test_what_is_not_json_in_utf8_is_refused(shop: Shop, body: bytes) -> None:
    reply = await shop.post("/api/esims/activate", body)
    assert reply.problem == (422, "validation-failed")


@pytest.mark.parametrize("place", ["name", "key"])
async def test_half_a_character_is_refused(shop: Shop, place: str) -> None:
    wish = json.dumps(a_wish(await a_plan(shop.db)))
    old = '"Ana Traveller"' if place == "name" else '"sku"'
    reply = await shop.place(wish.replace(old, old[:-1] + '\\ud83d"').encode())
    assert reply.problem == (422, "validation-failed")


async def test_a_whole_character_in_two_halves_is_one(shop: Shop) -> None:
    wish = json.dumps(a_wish(await a_plan(shop.db))).replace("Ana", "\\ud83c\\udf0d")
    assert (await shop.place(wish.encode())).json()["customer"]["name"] == "\U0001f30d Traveller"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
     "application/jsonp", "application/problem+json", "*/*", ";", "application/json, text/plain"],
)  # fmt: skip
async def test_another_content_type_is_refused(shop: Shop, content_type: str) -> None:
    reply = await shop.post("/api/esims/activate", GOOD.encode(), headers={"Content-Type": content_type})
    assert reply.problem == (422, "validation-failed")
    assert "Content-Type" in reply.json()["detail"]


async def test_no_content_type_is_refused(shop: Shop) -> None:
    reply = await shop.call("POST", "/api/esims/activate", data=GOOD.encode())
    assert reply.problem == (422, "validation-failed")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ; x=y"]
)
async def test_json_is_known_by_any_spelling_of_its_type(shop: Shop, content_type: str) -> None:
    reply = await shop.post("/api/esims/activate", GOOD.encode(), headers={"Content-Type": content_type})
    assert reply.status == 404


# --- size


async def in_chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("how", ["with its length", "in chunks"])
@pytest.mark.parametrize("path", ["/api/orders", "/api/esims/activate"])
async def test_a_body_of_10_mb_is_refused_and_its_sender_gets_to_read_why(shop: Shop, path: str, how: str) -> None:
    data = BytesIO(b" " * (10 * MIB)) if how == "with its length" else in_chunks(10 * MIB)
    headers = {"Content-Type": "application/json", "Idempotency-Key": a_name("key")}
    reply = await shop.call("POST", path, headers=headers, data=data)
    assert reply.problem == (413, "too-large")
    assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize("how", ["with its length", "in chunks"])
async def test_64_kib_are_taken_and_one_byte_more_is_not(shop: Shop, how: str) -> None:
    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    for size, status in ((65536, 404), (65537, 413)):
        body = GOOD.encode().ljust(size)
        data = body if how == "with its length" else pieces(body)
        reply = await shop.call("POST", "/api/esims/activate", headers={"Content-Type": "application/json"}, data=data)
        assert reply.status == status


async def test_who_asks_first_whether_to_send_too_much_is_told_no_at_once(shop: Shop) -> None:
    head = (
        f"POST /api/orders HTTP/1.1\r\nHost: x\r\nAuthorization: {shop.bearer['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await raw(shop.url, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: -1", "Content-Length: x", "Content-Length: " + "9" * 30, "Content-Length: " + "9" * 5000,
     "Transfer-Encoding: sideways", "Content-Length: 5\r\nContent-Length: 6"],
    ids=lambda text: text[:25],
)  # fmt: skip
async def test_a_body_without_a_length_that_can_be_is_no_crash(shop: Shop, framing: str) -> None:
    head = f"POST /api/orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    answer = await raw(shop.url, head.encode() + b"{}")
    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 413"}


async def test_a_client_that_hangs_up_in_its_body_is_no_failure(shop: Shop, server_log: StringIO) -> None:
    head = (
        f"POST /api/esims/activate HTTP/1.1\r\nHost: x\r\nAuthorization: {shop.bearer['Authorization']}\r\n"
        "X-Request-Id: hung-up-in-body\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    _, writer = await asyncio.open_connection(shop.host, shop.port)
    writer.write(head.encode())
    await writer.drain()
    writer.close()

    async def look() -> list[str] | None:
        return [line for line in server_log.getvalue().splitlines() if "hung-up-in-body" in line] or None

    lines = await eventually(look)
    assert [json.loads(line)["event"] for line in lines] == ["http.request"]
