"""What lies beyond this machine: the provider's server, our own public address, and whoever stands in between."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp

from app.services.doctor.findings import Finding, by_hand, failed, failed_when, passed
from app.services.esim_providers import get_esim_provider, going_live
from app.setting_values import is_loopback
from app.settings import Settings

_PATIENCE_S = 8
_GOODBYE_S = 1


def a_session(timeout_s: float) -> aiohttp.ClientSession:
    """For requests without credentials; certificates are checked as for orders."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"User-Agent": f"Tribi/{version('tribi')} doctor"},
    )


async def check_provider_line(settings: Settings) -> list[Finding]:
    """A handshake, with the checks that an order's connection makes; nothing is sent."""
    provider = get_esim_provider(settings)
    if provider.base_url is None:
        return []
    parts = urlsplit(provider.base_url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    where = f"{host}:{port}"
    setting = going_live(provider.name).base_url_setting
    try:
        found = await _connect(host, port, is_tls=is_tls)
    except ssl.SSLCertVerificationError as error:
        detail = f"{where} can't prove that it is {host}: {error.verify_message}"
        to_do = (
            f"send nothing there. Is {setting} right, or does a proxy stand in between? Their certificate is theirs to mend; "
            "an authority of your own goes into the file that SSL_CERT_FILE names"
        )
        return [failed_when(provider.is_live, "provider-tls", detail, to_do)]
    except (OSError, TimeoutError) as error:
        detail = f"{where} cannot be reached: {_said(error)}"
        to_do = f"check {setting}, the name server, and that the firewall lets this machine out to {where}"
        return [failed_when(provider.is_live, "provider-tls", detail, to_do)]
    if is_tls:
        return [passed("provider-tls", f"{where}: {found}")]
    if is_loopback(host):
        return [passed("provider-tls", f"{where}: plain http, on this machine")]
    detail = f"{where}: plain http, so the key can be read on the way"
    return [by_hand("provider-tls", detail, "use it within a network of your own only, never for a real provider")]


async def _connect(host: str, port: int, *, is_tls: bool) -> str:
    """What was agreed on, in words; empty without TLS."""
    context = ssl.create_default_context() if is_tls else None
    if context is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    async with asyncio.timeout(_PATIENCE_S):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        agreed: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        return "" if agreed is None else _agreement(agreed)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await writer.wait_closed()
        writer.transport.abort()


def _agreement(agreed: ssl.SSLObject) -> str:
    certificate: dict[str, Any] = agreed.getpeercert() or {}
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return f"{agreed.version()}, certificate valid until {ends_at:%Y-%m-%d}"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


async def check_public_url(settings: Settings) -> list[Finding]:
    url = settings.public_url
    if url is None:
        detail = "not set: links and pictures begin with the address that the server listens on"
        return [
            by_hand("public-url", detail, "set PUBLIC_URL=https://… to the address under which the world reaches Tribi")
        ]
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        detail = f"{url} is plain http: service keys and activation codes travel in clear"
        return [
            failed(
                "public-url", detail, "put a reverse proxy with a certificate in front, and set PUBLIC_URL=https://…"
            )
        ]
    trouble = await _trouble_at(f"{url}/healthz")
    if trouble is None:
        return [passed("public-url", f"{url}/healthz answers as Tribi")]
    to_do = f"start `tribi serve` behind it; then from outside: curl -i {url}/healthz"
    return [failed("public-url", f"{url}/healthz {trouble}", to_do)]


async def _trouble_at(url: str) -> str | None:
    """None where Tribi answers."""
    try:
        async with (
            a_session(_PATIENCE_S) as http,
            http.get(url, allow_redirects=False) as reply,
        ):
            body = await reply.content.read(1000)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"cannot be reached: {_said(error)}"
    if reply.status != 200:
        return f"answers {reply.status}"
    # Many a program has such a page; ours names the request on each answer.
    if body != b'{"status":"ok"}' or "X-Request-Id" not in reply.headers:
        return "is answered by something else than Tribi"
    return None


async def check_trusted_proxies(settings: Settings) -> list[Finding]:
    """Tribi itself speaks no TLS: where the world comes by https, it comes by way of a proxy."""
    line, trusted = "trusted-proxies", settings.trusted_proxies
    if trusted is not None:
        return [passed(line, f"who a request comes from is believed of {trusted}")]
    if urlsplit(settings.public_url or "").scheme != "https":
        return [passed(line, "none: a request comes from whoever has connected")]
    detail = "PUBLIC_URL is https, yet no proxy is trusted: all travellers count as one client, with one limit of sign-in codes"
    to_do = (
        "set TRUSTED_PROXIES to the address of your reverse proxy as Tribi sees it, and have it send X-Forwarded-For"
    )
    return [by_hand(line, detail, to_do)]


async def check_repeaters(settings: Settings) -> list[Finding]:
    """Whoever sends a POST a second time buys a second eSIM, whatever we do."""
    provider = get_esim_provider(settings)
    if provider.base_url is None:
        return []
    proxies = sorted({"https", "http", "all"} & set(getproxies()))
    host = urlsplit(provider.base_url).netloc
    detail = f"orders go straight to {host}"
    if proxies:
        named = " and ".join(f"{scheme.upper()}_PROXY" for scheme in proxies)
        detail += f", not through the proxy that {named} names: Tribi doesn't heed it"
    to_do = (
        "make sure that nothing between here and there (egress proxy, service mesh, load balancer) sends a POST again by itself, "
        "on a timeout, a reset or a 5xx; docs/going_live.md says how to try it"
    )
    return [by_hand("nothing-repeats-a-post", detail, to_do)]
