"""Handing a message to a mail server: over TLS that holds or not at all, and what its words mean."""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from pydantic import SecretStr

from app.mail import MailNotSent, MailRefused, send_mail
from app.settings import Settings
from tests.mailbox import Mailbox, a_free_port, a_mail_server
from tests.stand_in.certificates import Certificates

BAD = ("expired", "not_yet", "self_signed", "unknown_authority", "wrong_host")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def a_message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", "ana@example.com", "Hello"
    message.set_content("Hello")
    return message


def mailing(url: str) -> Settings:
    return Settings(smtp_url=SecretStr(url), mail_from="shop@example.com")


class _Guard:
    """An authenticator that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:  # noqa: ARG002 - aiosmtpd's
        self.told.append(data)
        return AuthResult(success=True)


@pytest.mark.parametrize("certificate", ["good", *BAD])
async def test_password_and_message_go_to_a_server_whose_certificate_holds_and_to_no_other(
    certificates: Certificates, certificate: str
) -> None:
    guard, mailbox = _Guard(), Mailbox()
    context = getattr(certificates, certificate).server_context()
    with a_mail_server(
        mailbox, tls_context=context, require_starttls=True, auth_required=True, authenticator=guard
    ) as server:
        sending = send_mail(
            mailing(f"smtp://shop:pass-word@127.0.0.1:{server.port}"), a_message(), tls=certificates.client_context()
        )
        if certificate == "good":
            await sending
            assert len(mailbox.messages) == len(guard.told) == 1
            return
        with pytest.raises(MailNotSent) as refused:
            await sending
    assert (guard.told, mailbox.messages) == ([], [])
    assert "pass-word" not in str(refused.value)


@pytest.fixture
async def tls_ports(certificates: Certificates) -> AsyncIterator[Any]:
    """Opens a server that speaks TLS from the start, and says what came over it."""
    servers: list[asyncio.Server] = []
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        heard.append(await reader.read(100))
        writer.close()

    async def open_one(certificate: str) -> tuple[int, list[bytes]]:
        context = getattr(certificates, certificate).server_context()
        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
        return servers[-1].sockets[0].getsockname()[1], heard

    yield open_one
    for server in servers:
        server.close()


@pytest.mark.parametrize("certificate", BAD)
async def test_with_tls_from_the_start_not_a_word_is_said_to_a_server_whose_certificate_does_not_hold(
    certificates: Certificates, tls_ports: Any, certificate: str
) -> None:
    port, heard = await tls_ports(certificate)
    with pytest.raises(MailNotSent):
        await send_mail(
            mailing(f"smtps://shop:pass-word@127.0.0.1:{port}"), a_message(), tls=certificates.client_context()
        )
    assert heard == []


async def test_over_a_network_nothing_is_sent_to_a_server_that_offers_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = asyncio.get_running_loop().getaddrinfo

    async def everything_is_here(_: object, port: int, **rest: Any) -> Any:
        return await resolve("127.0.0.1", port, **rest)

    guard, mailbox = _Guard(), Mailbox()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", everything_is_here)
    with a_mail_server(mailbox, authenticator=guard, auth_require_tls=False) as server, pytest.raises(MailNotSent):
        await send_mail(mailing(f"smtp://shop:pass-word@mail.example.com:{server.port}"), a_message())
    assert (guard.told, mailbox.messages) == ([], [])


# --- What its words mean


async def test_a_no_to_the_address_is_for_good_in_its_own_words() -> None:
    mailbox = Mailbox()
    mailbox.refusals = ["550 5.1.1 no such user ana@example.com"]
    with a_mail_server(mailbox) as server, pytest.raises(MailRefused) as refused:
        await send_mail(mailing(f"smtp://127.0.0.1:{server.port}"), a_message())
    assert str(refused.value).startswith("SMTPRecipientRefused: 550 5.1.1 no such user")
    assert "ana@example.com" not in str(refused.value)


async def test_a_no_to_the_message_is_for_good() -> None:
    mailbox = Mailbox()
    mailbox.replies = ["554 5.6.0 we take none of these"]
    with a_mail_server(mailbox) as server, pytest.raises(MailRefused, match="we take none of these"):
        await send_mail(mailing(f"smtp://127.0.0.1:{server.port}"), a_message())


@pytest.mark.parametrize(
    "words",
    [
        {"refusals": ["450 4.2.1 mailbox is busy"]},
        {"replies": ["451 4.3.0 try later"]},
        {"rebuffs": ["550 5.7.1 you may not send as shop@example.com"]},
    ],
    ids=["recipient 4xx", "data 4xx", "sender 5xx"],
)
async def test_a_no_for_now_or_to_us_leaves_the_message_to_be_sent(words: dict[str, list[str]]) -> None:
    mailbox = Mailbox()
    vars(mailbox).update(words)
    with a_mail_server(mailbox) as server:
        settings = mailing(f"smtp://127.0.0.1:{server.port}")
        with pytest.raises(MailNotSent):
            await send_mail(settings, a_message())
        await send_mail(settings, a_message())
    assert len(mailbox.messages) == 1


async def test_a_mail_server_that_is_away_is_no_refusal() -> None:
    with pytest.raises(MailNotSent):
        await send_mail(mailing(f"smtp://127.0.0.1:{a_free_port()}"), a_message())


async def test_a_server_that_takes_no_leave_has_taken_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says 250, and nothing more: to send again would be a second message."""
    answers = {b"EHLO": b"250 here\r\n", b"MAIL": b"250 OK\r\n", b"RCPT": b"250 OK\r\n", b"DATA": b"354 go on\r\n"}
    taken = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line[:4].upper() == b"QUIT":
                await reader.read()
                break
            if line == b".\r\n":
                taken.set()
                writer.write(b"250 taken\r\n")
            else:
                writer.write(answers.get(line[:4].upper(), b""))
        writer.close()

    monkeypatch.setattr("app.mail.SEND_TIMEOUT_S", 1)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        await send_mail(mailing(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"), a_message())
    assert taken.is_set()


def test_refused_and_not_sent_are_different_things() -> None:
    assert not issubclass(MailRefused, MailNotSent)
