"""
The head of a message to a person: from whom, to whom, about what (RFC 5322). Nothing that was typed elsewhere, a plan's name or a
customer's, can add a line to it, or a link to what we say.
"""

import re
import unicodedata
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from app.mime_parts import POLICY, Picture, set_parts
from app.settings import Settings
from app.values.email_address import ascii_email

_DEVELOPMENT_SENDER: Final = "tribi@localhost.invalid"
_LONGEST_SUBJECT: Final = 150

# Line breaks would begin another header, lone surrogates have no bytes, and of what shows nothing some turns the letters around it.
_NOT_SHOWN: Final = frozenset(("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"))
_JOINERS: Final = "\u200c\u200d"  # which some scripts and emoji can't be written without
_LIKE_A_LINK: Final = re.compile(r"://|\bwww\.|[^\s.]\.[^\W\d_]{2,}|@|/", re.IGNORECASE)


def one_line(text: str) -> str:
    """The text as it can stand within a line: what would break or turn it is a space."""
    shown = (" " if unicodedata.category(c) in _NOT_SHOWN and c not in _JOINERS else c for c in text)
    return " ".join(
        word for word in "".join(shown).split(" ") if word
    )  # not of all white space: French has some that stays


def greeted_name(name: str) -> str | None:
    """
    The name, as somebody can be called by in a letter; None where it could be read as a link or an address: anybody may type a name
    and another's address into a shop, and would have us send the rest.
    """
    line = one_line(name)
    return None if not line or _LIKE_A_LINK.search(line) else line


def _unencoded(text: str) -> str:
    """
    The text on one line, and nothing in it that Python's email package would decode (RFC 2047) while it sets a header: of
    `=?utf-8?q?=0ABcc:?=` it makes another header.
    """
    return one_line(text).replace("=?", "= ?")


def sender_of(settings: Settings) -> str:
    """The address that messages come from."""
    return settings.mail_from or _DEVELOPMENT_SENDER


def new_message(
    settings: Settings,
    *,
    name: str,
    to_name: str | None,
    to_address: str,
    subject: str,
    language: str,
    plain: str,
    html: str,
    picture: Picture | None = None,
) -> EmailMessage:
    """
    A message in two parts that say the same. It goes by itself, and wants no automatic answer (RFC 3834).

    Args:
        name: its own within the installation, the same each time that it is sent, of which the Message-ID is made: ASCII letters,
            digits, `.`, `_` and `-`.
        to_name, subject: may hold anything.
        to_address: of `read_email`.
        language: a language tag.
        picture: that the HTML shows.
    """
    sender = ascii_email(sender_of(settings))
    message = EmailMessage(POLICY)
    message["Subject"] = _unencoded(subject)[:_LONGEST_SUBJECT]
    message["From"] = Address(_unencoded(settings.mail_from_name or ""), addr_spec=sender)
    message["To"] = Address(_unencoded(greeted_name(to_name or "") or ""), addr_spec=ascii_email(to_address))
    if (contact := settings.support_contact) is not None and "://" not in contact:
        message["Reply-To"] = Address(addr_spec=ascii_email(contact))
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{name}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"  # Exchange doesn't know the line above
    message["Content-Language"] = language
    set_parts(message, plain=plain, html=html, picture=picture)
    return message
