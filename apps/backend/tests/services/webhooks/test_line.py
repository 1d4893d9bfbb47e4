"""The way out: only to public addresses, one attempt, one answer, whatever a receiver does."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from app.services.webhooks import line as line_module
from app.services.webhooks.line import Line, Message, Outcome, signed
from app.values.webhook_url import read_webhook_url
from tests.services.webhooks.conftest import Heard, Receiver, a_receiver
from tests.services.webhooks.network import Names, watched_wires
from tests.services.webhooks.targets import PUBLIC, TARGETS, Target

SECRET = "whsec_c2VjcmV0LW9mLXRlc3RzLXNlY3JldC1vZi10ZXN0cw=="
_CONTEXT = ssl.create_default_context()
"""Made once: it reads some hundred certificates."""

OTHER = "whsec_b3RoZXItc2VjcmV0LW9mLXRlc3RzLW90aGVyLXNlY3JldA=="


def to(url: str, *secrets: str) -> Message:
    return Message("msg_1", url, '{"type":"order.paid"}', secrets or (SECRET,))


@asynccontextmanager
async def a_line(**how: object) -> AsyncIterator[Line]:
    line = Line(**({"allow_private": True, "timeout_s": 5, "ssl_context": _CONTEXT} | how))  # type: ignore[arg-type]
    try:
        yield line
    finally:
        await line.close()


# --- nowhere else


def test_the_list_is_as_long_as_was_asked_for() -> None:
    assert len({target.url for target in TARGETS}) >= 80


@pytest.mark.parametrize("target", TARGETS, ids=str)
async def test_no_connection_is_opened_to_what_is_not_public(target: Target) -> None:
    async with watched_wires() as wires, a_line(allow_private=False, resolver=Names(target.answers)) as line:
        answers = [await line.post(to(target.url)) for _ in range(3)]
    assert (wires.opened, wires.knocks) == ([], 0)
    assert {answer.outcome for answer in answers} <= {Outcome.FORBIDDEN, Outcome.UNREACHABLE}
    assert {answer.status for answer in answers} == {None}


@pytest.mark.parametrize("target", [one for one in TARGETS if "example.com/hooks" not in one.url], ids=str)
def test_who_adds_it_is_told_at_once(target: Target) -> None:
    with pytest.raises(ValueError, match="URL"):
        read_webhook_url(target.url, allow_private=False)


async def test_a_name_that_leads_elsewhere_at_every_question_is_judged_by_where_it_leads_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "_NAMES_KEPT_S", 0)
    names = Names([[PUBLIC], ["127.0.0.1"], [PUBLIC], ["::1"]])
    async with watched_wires() as wires, a_line(allow_private=False, resolver=names) as line:
        outcomes = [(await line.post(to("https://shop.example.com/"))).outcome for _ in range(4)]
    assert outcomes == [Outcome.UNREACHABLE, Outcome.FORBIDDEN, Outcome.UNREACHABLE, Outcome.FORBIDDEN]
    assert (wires.opened, wires.public, names.asked) == ([], 2, 4)


@asynccontextmanager
async def a_public_receiver(receiver: Receiver) -> AsyncIterator[tuple[tuple[str, int], ssl.SSLContext]]:
    """With TLS, for shop.example.com; where it stands, and whom to trust."""
    authority = trustme.CA()
    served, trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("shop.example.com").configure_cert(served)
    authority.configure_trust(trusted)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
    try:
        yield runner.addresses[0][:2], trusted
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["https://127.0.0.1:8443/", "http://169.254.169.254/", "//localhost:8443/", "/else"]
)
async def test_no_redirect_is_followed(status: int, location: str) -> None:
    receiver = Receiver()
    receiver.always(status, Location=location)
    async with a_public_receiver(receiver) as (place, trusted), watched_wires() as wires:
        wires.leads_to = place
        async with a_line(allow_private=False, resolver=Names([[PUBLIC]]), ssl_context=trusted) as line:
            answer = await line.post(to("https://shop.example.com/hooks"))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, status)
    assert (wires.opened, wires.knocks, wires.public, len(receiver.heard)) == ([], 0, 1, 1)


async def test_a_public_receiver_is_reached_by_tls_that_is_verified() -> None:
    receiver = Receiver()
    async with a_public_receiver(receiver) as (place, trusted), watched_wires() as wires:
        wires.leads_to = place
        names = Names([[PUBLIC]])
        async with a_line(allow_private=False, resolver=names, ssl_context=trusted) as line:
            assert (await line.post(to("https://shop.example.com/hooks"))).outcome is Outcome.DELIVERED
            assert (await line.post(to("https://other.example.com/hooks"))).outcome is Outcome.UNREACHABLE
        async with a_line(allow_private=False, resolver=names) as line:
            assert (await line.post(to("https://shop.example.com/hooks"))).outcome is Outcome.UNREACHABLE
    assert len(receiver.heard) == 1


async def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Receiver()
    async for _ in a_receiver(proxy):
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with a_line() as line:
            assert (await line.post(to(receiver.url))).outcome is Outcome.DELIVERED
    assert (len(receiver.heard), proxy.heard) == (1, [])


async def test_plain_http_is_not_sent_once_it_is_no_longer_allowed() -> None:
    async with watched_wires() as wires, a_line(allow_private=False, resolver=Names([[PUBLIC]])) as line:
        answer = await line.post(to("http://shop.example.com/hooks"))
    assert (answer.outcome, wires.public) == (Outcome.FORBIDDEN, 0)


# --- signatures


@pytest.mark.parametrize(("given", "verified_by"), [((SECRET,), [SECRET]), ((OTHER, SECRET), [OTHER, SECRET])])
def test_each_valid_secret_signs(given: tuple[str, ...], verified_by: list[str]) -> None:
    message = to("https://shop.example.com/", *given)
    headers = signed(message, datetime.now(UTC))
    for secret in verified_by:
        assert Webhook(secret).verify(message.body, headers) == {"type": "order.paid"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER if given == (SECRET,) else "whsec_bm9ib2R5cw==").verify(message.body, headers)


def test_what_was_changed_on_the_way_or_is_old_does_not_verify() -> None:
    message = to("https://shop.example.com/")
    headers = signed(message, datetime.now(UTC))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body + " ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body, headers | {"webhook-id": "msg_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body, signed(message, datetime.now(UTC) - timedelta(minutes=6)))


# --- one attempt, one answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (204, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (304, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (410, Outcome.GONE),
        (429, Outcome.REFUSED),
        (500, Outcome.REFUSED),
        (503, Outcome.REFUSED),
    ],
)
async def test_2xx_is_a_yes_410_a_goodbye_and_all_else_a_no(receiver: Receiver, status: int, outcome: Outcome) -> None:
    receiver.always(status, "" if status in (204, 304) else "what they say")
    async with a_line() as line:
        answer = await line.post(to(receiver.url))
    assert (answer.outcome, answer.status) == (outcome, status)
    assert answer.said == (None if status in (204, 304) else "what they say")


async def test_what_a_receiver_says_is_cut_and_redacted(receiver: Receiver) -> None:
    receiver.always(
        500, f"ana@example.com {SECRET} LPA:1$SMDP.EXAMPLE.COM$A1B2C3 8999900000000000003\x1b[31m\n" + "x" * 9999
    )
    async with a_line() as line:
        said = (await line.post(to(receiver.url))).said
    assert said is not None
    assert said.startswith("[email] [redacted] [code] [iccid]")
    assert said.isprintable()
    assert len(said) <= 500


async def test_who_takes_too_long_has_not_answered(receiver: Receiver) -> None:
    async def never(_: Heard) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    receiver.answer = never
    async with a_line(timeout_s=0.2) as line:
        answer = await line.post(to(receiver.url))
    assert (answer.outcome, answer.status) == (Outcome.TIMEOUT, None)
    assert answer.ms >= 200


async def test_who_drips_is_done_with_the_status(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_BODY_WITHIN_S", 0.2)
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthanks"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server, a_line() as line:
        answer = await line.post(to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert (answer.outcome, answer.said) == (Outcome.DELIVERED, "thanks")
    assert answer.ms < 3000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["nothing", "half", "ssh", "length", "status", "headers", "upgrade"],
)
async def test_whoever_speaks_no_http_is_no_receiver(raw: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server, a_line(timeout_s=2) as line:
        answer = await line.post(to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert answer.outcome in (Outcome.UNREACHABLE, Outcome.REFUSED)


async def test_a_compressed_answer_is_not_unpacked(receiver: Receiver) -> None:
    async def bomb(_: Heard) -> web.StreamResponse:
        return web.Response(status=200, body=b"\x1f\x8b" + b"x" * 10, headers={"Content-Encoding": "gzip"})

    receiver.answer = bomb
    async with a_line() as line:
        assert (await line.post(to(receiver.url))).outcome is Outcome.DELIVERED
    assert receiver.heard[0].headers["accept-encoding"] == "identity"
    assert receiver.heard[0].headers["user-agent"].startswith("Tribi/")
    assert receiver.heard[0].headers["content-type"] == "application/json"


async def test_a_name_server_that_hangs_holds_up_one_thread_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import threading

    ended, asked = threading.Event(), []

    def hang(host: str, *_: object) -> list[object]:
        asked.append(host)
        ended.wait(10)
        raise socket.gaierror("no")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with a_line(timeout_s=0.3) as line:
        answers = await asyncio.gather(*(line.post(to(f"http://a{n % 2}.example.com/")) for n in range(20)))
        ended.set()
    assert {answer.outcome for answer in answers} == {Outcome.TIMEOUT}
    assert sorted(asked) == ["a0.example.com", "a1.example.com"]
