"""What a browser adds to the question who is asking: a cookie that it sends by itself, and whose page has made it do so."""

import ipaddress
from datetime import datetime
from urllib.parse import urlsplit

import structlog
from fastapi import Request
from starlette.responses import Response

from app.services.accounts.keys import Forbidden
from app.services.accounts.sessions import TOKEN_PREFIX
from app.setting_values import is_loopback

_SECURE_COOKIE, _LOOPBACK_COOKIE = "__Host-tribi_session", "tribi_session"
COOKIE = _SECURE_COOKIE
"""For the OpenAPI document. On loopback, without TLS, the name lacks its prefix: browsers take `__Host-` with `Secure` only."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_IPV6_NETWORK_BITS = 64

log = structlog.get_logger()
_has_told_of_proxy = False


def cookie_of(request: Request, base_url: str) -> str | None:
    """The session's token in the cookie, if there is one; a service key has no business there."""
    held = request.cookies.get(_cookie_name(request, base_url), "")
    return held if held.startswith(TOKEN_PREFIX) else None


def give_cookie(request: Request, base_url: str, reply: Response, token: str, ends_at: datetime) -> None:
    name = _cookie_name(request, base_url)
    reply.set_cookie(
        name, token, expires=ends_at, path="/", secure=name == _SECURE_COOKIE, httponly=True, samesite="strict"
    )


def take_cookie(request: Request, base_url: str, reply: Response) -> None:
    """Has the browser forget it."""
    name = _cookie_name(request, base_url)
    reply.delete_cookie(name, path="/", secure=name == _SECURE_COOKIE, httponly=True, samesite="strict")


def require_same_origin(request: Request, base_url: str) -> None:
    """
    For what changes something and rests on a cookie: a page of our own origin must have sent it (Fetch Metadata, else RFC 6454).
    A sibling domain isn't ours, and who sends neither header is no browser of today: such clients use a bearer.

    Raises:
        Forbidden: it came from elsewhere, or doesn't say.
    """
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        origin = request.headers.get("origin", "")
        parts = urlsplit(origin)
        is_ours = origin == _origin_of(base_url) or (
            parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("host")
        )
    if not is_ours:
        raise Forbidden(
            public_message="A cookie counts here only from a page of this very origin (`Sec-Fetch-Site: same-origin`, or its "
            "`Origin`). Programs send the session's token as `Authorization: Bearer`."
        )


def client_of(request: Request) -> str:
    """
    From where a request came, to count by: the network's peer, or what a proxy in TRUSTED_PROXIES says (`app.server`).
    Of IPv6 the network, since a household has 2^64 addresses in it.
    """
    host = request.client.host if request.client is not None else ""
    _tell_of_proxy(request, host)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
    return str(address)


def _tell_of_proxy(request: Request, host: str) -> None:
    global _has_told_of_proxy
    settings = request.app.state.office.house.settings
    if _has_told_of_proxy or settings.trusted_proxies is not None or "x-forwarded-for" not in request.headers:
        return
    _has_told_of_proxy = True
    log.warning(
        "http.proxy_not_trusted",
        proxy=host,
        effect="all travellers behind it count as one client; if it is yours, name it in TRUSTED_PROXIES",
    )


def _cookie_name(request: Request, base_url: str) -> str:
    is_plain = urlsplit(base_url).scheme == "http" and is_loopback(request.url.hostname or "")
    return _LOOPBACK_COOKIE if is_plain else _SECURE_COOKIE


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
