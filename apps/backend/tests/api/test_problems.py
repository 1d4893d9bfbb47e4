"""Problem documents (RFC 9457), whatever goes wrong."""

import asyncio
import json
from io import StringIO

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.api.shell import Shell
from app.errors import problem_types
from tests.api.serving import PROBLEM, Shop, raw

DESIGNED = {
    "provider-not-configured", "provider-unreachable", "provider-rate-limited", "provider-refused", "activation-outcome-unknown",
    "provider-busy", "not-found", "unauthenticated", "forbidden", "validation-failed", "order-not-paid", "plan-not-mapped",
    "idempotency-key-missing", "idempotency-key-reused", "idempotency-key-in-progress", "too-large", "rate-limited",
    "database-unavailable",
}  # fmt: skip


def test_the_types_of_the_design_are_there() -> None:
    assert set(problem_types()) >= DESIGNED


@pytest.mark.parametrize("code", problem_types())
async def test_every_type_is_a_page_that_people_can_read(shop: Shop, code: str) -> None:
    reply = await shop.get(f"/problems/{code}", anonymous=True)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    page = reply.body.decode()
    assert f"<code>{code}</code>" in page
    assert str(problem_types()[code].http_status) in page
    assert "http" not in page.replace("HTTP", "")


@pytest.mark.parametrize("path", ["/problems", "/problems/"])
async def test_the_types_are_listed(shop: Shop, path: str) -> None:
    page = (await shop.get(path, anonymous=True)).body.decode()
    for code in problem_types():
        assert f'href="/problems/{code}"' in page


async def test_an_unknown_type_is_not_found(shop: Shop) -> None:
    assert (await shop.get("/problems/no-such-problem")).problem == (404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/", "/nothing", "/api/plans/", "//api/plans", "/api//plans", "/API/plans", "/api/orders/1/",
     "/api/orders/%31%00", "/%00", "/%", "/%zz", "/%ff%fe", "/%ed%a0%80", "/%3Cscript%3E", "/api/../api",
     "/api/%2e%2e/healthz", "/api/esims/1/qr.gif", "/api/docs/..%2f..%2fmain.py", "/api/docs/nothing.js",
     "/favicon.ico", "/api/plans/%2F", "/%5c", "/a?b=%00&%00=c"],
)  # fmt: skip
async def test_an_unknown_address_is_a_404_problem(shop: Shop, path: str) -> None:
    reply = await shop.get(path)
    assert reply.problem == (404, "not-found")
    assert reply.json()["instance"].startswith("/")


@pytest.mark.parametrize(
    "path", ["/api/plans/%00", "/api/plans/%ff", "/api/plans/%0a", "/api/plans/a%20b", "/api/plans/%e2%82%ac"]
)
async def test_a_sku_that_cannot_be_is_refused(shop: Shop, path: str) -> None:
    assert (await shop.get(path)).problem == (422, "validation-failed")


@pytest.mark.parametrize("path", ["/api/orders/{}", "/api/esims/{}", "/api/esims/{}/qr.png", "/api/esims/{}/qr.svg"])
@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-1",
        "01",
        "1.0",
        "1e3",
        "+1",
        "1_0",
        "%201",
        "%D9%A1",
        "%00",
        "x",
        "null",
        str(2**63),
        "9" * 19,
        "9" * 20,
        "9" * 5000,
    ],
)
async def test_what_cannot_be_an_id_is_nothing_there(shop: Shop, path: str, number: str) -> None:
    reply = await shop.get(path.format(number))
    assert reply.problem in {(404, "not-found"), (422, "validation-failed")}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/orders", "GET, POST, HEAD"),
        ("PUT", "/api/orders", "GET, POST, HEAD"),
        ("PATCH", "/api/orders/1", "GET, HEAD"),
        ("GET", "/api/esims/activate", "POST"),
        ("HEAD", "/api/esims/activate", "POST"),
        ("POST", "/api/esims", "GET, HEAD"),
        ("POST", "/api/plans", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/api/esims/1/qr.png", "GET, HEAD"),
        ("OPTIONS", "/api/orders", "GET, POST, HEAD"),
        ("TRACE", "/api/plans", "GET, HEAD"),
        ("PROPFIND", "/api/plans", "GET, HEAD"),
        ("POST", "/api/openapi.json", "GET, HEAD"),
        ("POST", "/problems/", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_a_405_problem_that_names_the_right_ones(
    shop: Shop, method: str, path: str, allowed: str
) -> None:
    reply = await shop.call(method, path)
    assert (reply.status, reply.headers["Allow"]) == (405, allowed)
    if method != "HEAD":
        assert reply.problem == (405, "method-not-allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/plans",
        "/api/orders",
        "/api/openapi.json",
        "/api/docs",
        "/problems/",
        "/nothing",
    ],
)
async def test_head_is_get_without_the_body(shop: Shop, path: str) -> None:
    get, head = await shop.get(path), await shop.call("HEAD", path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers.get("Content-Type") == get.headers.get("Content-Type")


async def test_head_needs_a_key_where_get_does(shop: Shop) -> None:
    assert (await shop.call("HEAD", "/api/orders", anonymous=True)).status == 401


async def test_a_crash_is_a_500_problem_that_tells_nothing_and_a_line_in_the_log(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, server_log: StringIO
) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("a-secret-of-the-inside")

    monkeypatch.setattr("app.api.plans.list_plans", crash)
    reply = await shop.get("/api/plans", headers={"X-Request-Id": "crash-of-the-test"})
    assert reply.problem == (500, "internal-error")
    assert reply.json()["request_id"] == "crash-of-the-test"
    assert reply.json()["retryable"] is False
    for word in (b"a-secret-of-the-inside", b"RuntimeError", b"Traceback", b".py", b"line "):
        assert word not in reply.body
    monkeypatch.undo()
    assert (await shop.get("/api/plans")).status == 200
    [line] = [
        line for line in server_log.getvalue().splitlines() if "crash-of-the-test" in line and "http.failed" in line
    ]
    assert "RuntimeError" in line


# --- what no client library would send


async def test_http_1_0_is_answered(shop: Shop) -> None:
    answer = await raw(shop.url, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    "request_line",
    [b"GET /nothing HTTP/1.1\r\nHost: [", b"GET /nothing HTTP/1.1\r\nHost: a:b:c@d/e?f", b"GET /nothing HTTP/1.1\r\nHost: \xff",
     b"GET /nothing HTTP/1.1", b"GET http://other.example/nothing HTTP/1.1\r\nHost: x", b"OPTIONS /nothing HTTP/1.1\r\nHost: x"],
)  # fmt: skip
async def test_a_strange_head_is_still_answered_with_a_problem(shop: Shop, request_line: bytes) -> None:
    answer = await raw(shop.url, request_line + b"\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in head
    assert b'"/problems/not-found"' in body


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
     b"GET /\0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
     b"CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
     b"GET /api/plans HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: \0\r\n\r\n",
     b"GET /api/plans HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
     b"Sec-WebSocket-Key: eA==\r\n\r\n" + b"\r\n" * 3],
)  # fmt: skip
async def test_what_is_no_http_harms_nobody(shop: Shop, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(shop.host, shop.port)
    writer.write(sent)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert (await shop.get("/healthz")).status == 200


async def test_who_still_waits_when_a_server_gives_up_gets_a_problem_document() -> None:
    app, has_arrived, sent = FastAPI(), asyncio.Event(), list[Message]()

    @app.get("/")
    async def wait_for_ever() -> None:
        has_arrived.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    request = asyncio.create_task(Shell(app, is_https=False)(scope, receive, send))
    await has_arrived.wait()
    request.cancel()  # what uvicorn does to requests that outlast its time to end
    with pytest.raises(asyncio.CancelledError):
        await request
    start, body = sent
    assert start["status"] == 500
    assert (b"content-type", PROBLEM.encode()) in start["headers"]
    assert json.loads(body["body"])["type"] == "/problems/internal-error"
