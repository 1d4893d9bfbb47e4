"""Handing messages to a mail server (RFC 5321), or, where none is configured, to a folder."""

import asyncio
import os
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from app.redaction import redact
from app.setting_values import is_loopback
from app.settings import Settings

SEND_TIMEOUT_S = 60
"""Total, from the connection to the server's last word."""

_REACH_WITHIN_S = 9
_SUBMISSION_PORT = 587
_SUBMISSIONS_PORT = 465
_PERMANENT = range(500, 600)
_FOLDER = "mails"

log = structlog.get_logger()


class MailRefused(Exception):
    """The mail server's no to the address or the message is for good (5xx); sending again won't help. `str()` is its words."""


class MailNotSent(Exception):
    """It didn't work for now: no connection, a timeout, a 4xx, or a no to us. May be sent again. `str()` is redacted."""


def folder_of_files(settings: Settings) -> Path | None:
    """Where messages are written to while no mail server is set; None where one is."""
    return (settings.tribi_data_dir / _FOLDER).absolute() if settings.smtp_url is None else None


async def send_mail(settings: Settings, message: EmailMessage, *, tls: ssl.SSLContext | None = None) -> None:
    """
    Hands over one message.

    Args:
        tls: for tests with a certificate authority of their own.

    Raises:
        MailRefused, MailNotSent: it wasn't taken. After MailNotSent it may have been, if the connection broke at its very end:
            give it the same Message-ID again.
    """
    if settings.smtp_url is None:
        _write_file(settings.tribi_data_dir / _FOLDER, message)
        return
    url, is_taken = settings.smtp_url.get_secret_value(), False
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S), _client(url, tls or ssl.create_default_context()) as client:
            await client.send_message(message)
            is_taken = True
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        if is_taken:
            return  # a server that takes no leave has the message all the same
        said = redact(_words_of(error), settings.secrets())
        if _is_permanent(error):
            raise MailRefused(said) from error
        raise MailNotSent(said) from error


async def reach_mail_server(settings: Settings, *, tls: ssl.SSLContext | None = None) -> str:
    """
    Everything that comes before a message: connection, TLS, sign-in.

    Args:
        settings: with SMTP_URL.
        tls: as of `send_mail`.

    Returns:
        How it was, in words.

    Raises:
        MailNotSent: it didn't work.
    """
    assert settings.smtp_url is not None  # noqa: S101 - the caller's
    url = settings.smtp_url.get_secret_value()
    try:
        async with asyncio.timeout(_REACH_WITHIN_S), _client(url, tls or ssl.create_default_context()) as client:
            await client.noop()
            is_encrypted = client.get_transport_info("ssl_object") is not None
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        raise MailNotSent(redact(_words_of(error), settings.secrets())) from error
    return ("TLS, certificate verified" if is_encrypted else "plain, on this machine") + (
        ", signed in" if urlsplit(url).username else ", without a sign-in"
    )


def _client(url: str, tls: ssl.SSLContext) -> aiosmtplib.SMTP:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_implicit = parts.scheme == "smtps"
    return aiosmtplib.SMTP(
        hostname=host,
        port=parts.port or (_SUBMISSIONS_PORT if is_implicit else _SUBMISSION_PORT),
        use_tls=is_implicit,
        # Over a network a password and a code travel encrypted or not at all.
        start_tls=None if is_implicit or is_loopback(host) else True,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls_context=tls,
        timeout=SEND_TIMEOUT_S,
    )


def _words_of(error: Exception) -> str:
    """The server's own where it said something: "SMTPRecipientRefused: 550 no such user"."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        [error, *_] = error.recipients  # there was one
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{type(error).__name__}: {error.code} {error.message}"
    return f"{type(error).__name__}: {error}"


def _is_permanent(error: Exception) -> bool:
    """Whether it is about this message. A wrong password, or a sender that isn't ours, is to be put right; the message keeps."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refusal.code in _PERMANENT for refusal in error.recipients)
    return isinstance(error, aiosmtplib.SMTPDataError) and error.code in _PERMANENT


def _write_file(folder: Path, message: EmailMessage) -> None:
    """Development: a file that any mail program opens. The name tells nothing personal."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = str(message["Message-ID"]).strip("<>").partition("@")[0].partition(".")[0] + ".eml"
    draft = folder / f".{name}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(message.as_bytes(policy=SMTP))
    draft.replace(folder / name)
    log.info("mail.written", file=str((folder / name).absolute()), reason="SMTP_URL is not set")
