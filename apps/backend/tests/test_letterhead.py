"""The head of a message: whole by RFC 5322, and nobody else's words add to it (OWASP ASVS 1.2.4, 1.3.11)."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Any

import pytest

from app.letterhead import greeted_name, new_message, one_line
from app.settings import Settings
from app.values.person_name import read_person_name
from tests.letters import shop_settings

HEADERS = {
    "Subject", "From", "To", "Reply-To", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version",
    "Content-Type", "Content-Language",
}  # fmt: skip


def arrived(settings: Settings | None = None, **given: Any) -> EmailMessage:
    values = {"name": "esim-3", "to_name": "Ana", "to_address": "ana@example.com", "subject": "Hello", "language": "en"}
    message = new_message(settings or shop_settings(), **values | given, plain="Hello", html="<p>Hello</p>")
    read = message_from_bytes(message.as_bytes(), policy=default)
    assert isinstance(read, EmailMessage)
    return read


def test_a_message_says_from_whom_it_is_and_that_it_goes_by_itself() -> None:
    message = arrived(subject="Tu eSIM está lista", to_name="Zoë Ünal, the 2nd", language="es")
    assert set(message.keys()) == HEADERS
    [sender] = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Viaje Móvil", "esims@example.com")
    [receiver] = message["To"].addresses
    assert (receiver.display_name, receiver.addr_spec) == ("Zoë Ünal, the 2nd", "ana@example.com")
    assert message["Reply-To"] == "help@example.com"
    assert message["Subject"] == "Tu eSIM está lista"
    assert message["Message-ID"] == "<esim-3@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "es"
    assert parsedate_to_datetime(message["Date"]).utcoffset() is not None


def test_who_has_no_address_for_help_gets_no_answers() -> None:
    assert arrived(shop_settings(support_contact="https://example.com/help"))["Reply-To"] is None
    assert arrived(shop_settings(support_contact=None))["Reply-To"] is None


def test_a_long_subject_is_cut_and_no_line_is_too_long() -> None:
    message = new_message(
        shop_settings(),
        name="esim-3",
        to_name="n" * 200,
        to_address=f"{'a' * 64}@{'b' * 60}.example.com",
        subject="é" * 5000,
        language="en",
        plain="x" * 5000,
        html=f"<p>{'x' * 5000}</p>",
    )
    assert max(map(len, message.as_bytes().splitlines())) <= 998


_BREAKS = ("\r\n", "\n", "\r", "\r\n ", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
_ADDITIONS = (
    "Bcc: eve@example.com",
    "Content-Type: text/html\r\n\r\n<h1>x</h1>",
    ".\r\nMAIL FROM:<eve@example.com>",
    "=?utf-8?q?=0ABcc:?=",
)
PAYLOADS = [f"Ana{a_break}{addition}" for a_break, addition in product(_BREAKS, _ADDITIONS)]


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_a_name_or_a_plan_adds_no_header_and_no_line(payload: str) -> None:
    settings = shop_settings().model_copy(update={"mail_from_name": payload})
    message = arrived(settings, subject=f"Your eSIM: {payload}", to_name=payload)
    assert set(message.keys()) == HEADERS
    assert message["Bcc"] is None
    for name in ("Subject", "From", "To"):
        assert len(message.get_all(name, [])) == 1
        assert len(str(message[name]).splitlines()) == 1
    assert [address.addr_spec for address in message["To"].addresses] == ["ana@example.com"]
    assert [address.addr_spec for address in message["From"].addresses] == ["esims@example.com"]


def test_there_are_forty_of_them() -> None:
    assert len(set(PAYLOADS)) == 40


@pytest.mark.parametrize(
    "name",
    [
        "Visit http://evil.example",
        "www.evil.example won",
        "your account: evil.com",
        "eve@example.com",
        "evil.example/login",
    ],
)
def test_a_name_that_reads_like_a_link_is_not_repeated(name: str) -> None:
    assert greeted_name(read_person_name(name)) is None
    assert name not in str(arrived(to_name=name)["To"])


@pytest.mark.parametrize(
    "name", ["Ana", "J. R. R. Tolkien", "Dr. Müller", "O'Brien", "旅人", "नमस्ते", "Ana-Luísa d'Ávila", "St. John"]
)
def test_people_are_called_by_their_names(name: str) -> None:
    assert greeted_name(name) == name


def test_what_turns_letters_around_is_taken_out() -> None:
    assert one_line("Ana\u202egnp.exe \u2066x\u2069") == "Ana gnp.exe x"
