"""The URL of a webhook endpoint, read once and strictly.

What an address means is decided where it is connected to (`app.services.webhooks.line`): a name that is harmless today may lead
elsewhere tomorrow. Here mistakes are told to whoever makes them.
"""

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

import idna

from app.values.public_address import is_public

LONGEST = 2000
_HTTPS_PORT = 443
_FIRST_FREE_PORT = 1024
"""Below it only 443 is for webhooks: mail, databases and shells have theirs there."""

_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")
"""What ends in a number is read as an IPv4 address by somebody: 2130706433, 0x7f.1, 0177.0.0.1 (URL Standard, 3.5)."""
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")


def read_webhook_url(text: str, *, allow_private: bool) -> str:
    """
    The URL as it is used: its host in ASCII (IDNA 2008) and without a final dot.

    Args:
        allow_private: http, every port, and names and addresses that aren't public may be, too.

    Raises:
        ValueError: why it can't be one. No part of it is repeated: it may hold a secret.
    """
    if not text or len(text) > LONGEST:
        raise ValueError(f"the URL must have 1 to {LONGEST} characters")
    if not text.isprintable() or any(c.isspace() or c in '\\<>"`{}|^' for c in text):
        raise ValueError("the URL must not hold spaces, control characters, backslashes, quotes, <>, {}, | or ^")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in (("https", "http") if allow_private else ("https",)):
        raise ValueError("the URL must begin with https://" + (" or http://" if allow_private else ""))
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a user or a password; what is sent is signed instead")
    if "#" in text:
        raise ValueError("the URL must not hold a fragment (#…), which is never sent")
    host = _host(parts.hostname or "", allow_private=allow_private)
    if port == 0 or (not allow_private and port not in (None, _HTTPS_PORT) and port < _FIRST_FREE_PORT):
        raise ValueError(f"the URL's port must be {_HTTPS_PORT}, or {_FIRST_FREE_PORT} or more")
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    if not (path + query).isascii():
        raise ValueError("the URL's path and query must be ASCII; other characters are written %C3%A9")
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}{query}"


def _host(name: str, *, allow_private: bool) -> str:
    name = name.removesuffix(".")
    if not name:
        raise ValueError("the URL must name a host")
    if "%" in name:
        raise ValueError("the URL's host must not hold a % sign")
    try:
        address = ip_address(name)
    except ValueError:
        return _name(name, allow_private=allow_private)
    if not allow_private and not is_public(name):
        raise ValueError(f"the URL must not lead to a private or reserved address {_UNLESS}")
    return f"[{address.compressed}]" if isinstance(address, IPv6Address) else str(address)


_UNLESS = "(WEBHOOKS_ALLOW_PRIVATE=true allows that, for development)"


def _name(name: str, *, allow_private: bool) -> str:
    try:
        ascii_name = idna.encode(name, uts46=True).decode().removesuffix(".")
    except (idna.IDNAError, UnicodeError):
        raise ValueError("the URL's host is no name of the DNS") from None
    if _NUMERIC.fullmatch(ascii_name):
        raise ValueError("the URL's host must be a name, or an IPv4 address of four decimal numbers")
    if allow_private:
        return ascii_name
    if "." not in ascii_name or ascii_name.endswith(tuple(f".{local}" for local in _LOCAL_NAMES)):
        raise ValueError(f"the URL must name a host of the public Internet in full {_UNLESS}")
    return ascii_name
