"""A mail server on this machine, and what it was given."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from pydantic import SecretStr

from app.house import House


class Mailbox:
    """
    A mail server's memory. `replies` are given to the next messages in place of its 250, `refusals` to the next recipients, and
    `rebuffs` to the next senders.
    """

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.replies: list[str] = []
        self.refusals: list[str] = []
        self.rebuffs: list[str] = []

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name, as those below
        self,
        server: Any,  # noqa: ARG002 - given to each of them
        session: Any,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        mail_options: list[str],
    ) -> str:
        if self.rebuffs:
            return self.rebuffs.pop(0)
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self,
        server: Any,  # noqa: ARG002
        session: Any,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],  # noqa: ARG002
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802, ARG002
        if self.replies:
            return self.replies.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:  # aiosmtpd takes no 0 for itself
        return int(server.getsockname()[1])


@contextmanager
def a_mail_server(mailbox: Mailbox, **options: Any) -> Iterator[Controller]:
    """`options`: of aiosmtpd's Controller."""
    controller = Controller(mailbox, hostname="127.0.0.1", port=a_free_port(), **options)
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp(mailbox: Mailbox) -> Iterator[Controller]:
    with a_mail_server(mailbox) as controller:
        yield controller


@pytest.fixture
def mailing_house(house: House, smtp: Controller) -> House:
    """The test's house, whose messages arrive in `mailbox`."""
    mail = {"smtp_url": SecretStr(f"smtp://127.0.0.1:{smtp.port}"), "mail_from": "shop@example.com"}
    return House(house.settings.model_copy(update=mail), house.db, house.keyring, house.vault)


def text_of(message: EmailMessage, kind: str) -> str:
    """What stands in its part `plain` or `html`."""
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content())
