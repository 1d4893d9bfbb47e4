"""What the value of a setting must be: each reader returns it in its one form, or says what it must be, without repeating it."""

import base64
import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from app.values.email_address import read_email

_LAST_PORT = 65535
_NO_DATABASE_URL = (
    "must be a URL that libpq takes: postgresql://user:password@host:5432/name "
    "(what can't stand in a password as it is, is written %40, %2F, …)"
)


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # not in urlsplit's words: they repeat what it takes for the port, which may be half a password
        raise ValueError(
            f"must be a URL that begins with {wanted}; what can't stand in one is written %40, %2F, …"
        ) from None
    if parts.scheme not in schemes or not parts.hostname or port == 0 or any(c.isspace() for c in text):
        raise ValueError(f"must be a URL that begins with {wanted} and names a host")
    return parts


def _http_url(text: str) -> str:
    _split_url(text, ("https", "http"))
    if any(character in text for character in "@?#"):
        raise ValueError("must be a plain URL: no user, no query, no fragment")
    return text.rstrip("/")


def _database_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise ValueError("must begin with postgresql:// (Tribi speaks PostgreSQL only)")
    parts = libpq_parts(secret)
    ports = [port for port in str(parts.get("port") or "").split(",") if port]
    if "@" in str(parts.get("host")) or not all(port.isdecimal() and 0 < int(port) <= _LAST_PORT for port in ports):
        raise ValueError(_NO_DATABASE_URL)
    return secret


def libpq_parts(database_url: SecretStr) -> dict[str, Any]:
    """What libpq reads out of the URL; ValueError where it reads nothing."""
    from psycopg import ProgrammingError  # wanted only where there is such a URL
    from psycopg.conninfo import conninfo_to_dict

    try:
        return dict(conninfo_to_dict("postgresql://" + database_url.get_secret_value().partition("://")[2]))
    except ProgrammingError:
        raise ValueError(_NO_DATABASE_URL) from None  # libpq's words repeat parts of it


def _encryption_keys(secret: SecretStr) -> SecretStr:
    for text in secret.get_secret_value().split(","):
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except ValueError as error:
            raise ValueError("each key must be base64; `openssl rand -base64 32` makes one") from error
        if len(key) != 32:
            raise ValueError("each key must be 32 bytes in base64; `openssl rand -base64 32` makes one")
    return secret


def _smtp_url(secret: SecretStr) -> SecretStr:
    _split_url(secret.get_secret_value(), ("smtp", "smtps"))
    return secret


def _page_url(text: str) -> str:
    """Kept to the letter: its last slash and its query are the shop's own."""
    if _split_url(text, ("https", "http")).username is not None:
        raise ValueError("must hold no user")
    return text


def _contact(text: str) -> str:
    try:
        return _page_url(text) if "://" in text else read_email(text)
    except ValueError as error:
        raise ValueError("must be an e-mail address, or the URL of a page (https://…)") from error


def _networks(text: str) -> str:
    """Addresses and networks, separated by commas; given back in one form."""
    try:
        return ",".join(str(ipaddress.ip_network(part.strip())) for part in text.split(","))
    except ValueError:
        raise ValueError(
            "must be addresses or networks, separated by commas: 10.0.0.5, 10.1.0.0/16, ::1 (no names)"
        ) from None


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _upper(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    return value.strip().upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    return value.strip().lower() if isinstance(value, str) else value


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be one line of printable ASCII: it travels in an HTTP header")
    return secret


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):  # a token of RFC 9110 section 5.6.2
        raise ValueError("must be the name of an HTTP header, such as x-webhook-secret")
    return text.lower()


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ProviderName = Annotated[Literal["LOCAL", "CONNECTED_YOU"], BeforeValidator(_upper)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
EncryptionKeys = Annotated[SecretStr, AfterValidator(_encryption_keys)]
SmtpUrl = Annotated[SecretStr, AfterValidator(_smtp_url)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_value)]
Contact = Annotated[str, AfterValidator(_contact)]
Networks = Annotated[str, AfterValidator(_networks)]
UnknownOutcome = Annotated[Literal["hold", "replay"], BeforeValidator(_lower)]
TextLanguage = Annotated[Literal["en", "es", "pt", "fr", "de"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
