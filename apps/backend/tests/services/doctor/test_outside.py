"""The provider's server, our public address, and whoever stands in between: real TLS servers, real answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from app.services.doctor.outside import (
    check_provider_line,
    check_public_url,
    check_repeaters,
    check_trusted_proxies,
)
from app.settings import Settings
from tests.api.serving import served
from tests.services.doctor.conftest import Live, the_failure
from tests.stand_in import StandIn
from tests.stand_in.certificates import Certificates

NOBODY = "https://127.0.0.1:1"


@pytest.fixture
def trusting(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    return certificates


async def test_a_provider_that_proves_its_name_passes_and_is_sent_nothing(live: Live, trusting: Certificates) -> None:
    async with StandIn(tls=trusting.good.server_context()) as supplier:
        [found] = await check_provider_line(live(supplier.url))
        await supplier.wait_until(lambda: supplier.connections == 1 and supplier.open_connections == 0)
        assert supplier.request_count == 0
    assert found.result.value == "passed"
    assert "TLSv1.3, certificate valid until 3000-01-01" in found.detail


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("self_signed", "self-signed certificate"),
        ("expired", "certificate has expired"),
        ("not_yet", "certificate is not yet valid"),
        ("wrong_host", "IP address mismatch"),
        ("unknown_authority", "unable to get local issuer certificate"),
    ],
)
async def test_a_provider_that_does_not_prove_its_name_fails_and_is_sent_nothing(
    live: Live, trusting: Certificates, pair: str, said: str
) -> None:
    async with StandIn(tls=getattr(trusting, pair).server_context()) as supplier:
        failure = the_failure(await check_provider_line(live(supplier.url)))
        await supplier.wait_until(lambda: supplier.open_connections == 0)
        assert supplier.request_count == 0
    assert said in failure.detail
    assert "CONNECTED_YOU_BASE_URL" in str(failure.to_do)


@pytest.mark.parametrize(("is_dry_run", "result"), [(False, "failed"), (True, "by hand")])
async def test_a_provider_that_cannot_be_reached_fails_once_orders_are_live(
    live: Live, is_dry_run: bool, result: str
) -> None:
    [found] = await check_provider_line(live(NOBODY, connected_you_dry_run=is_dry_run))
    assert found.result.value == result
    assert "127.0.0.1:1 cannot be reached" in found.detail


async def test_in_a_dry_run_a_bad_certificate_is_no_defect_yet(live: Live, trusting: Certificates) -> None:
    async with StandIn(tls=trusting.expired.server_context()) as supplier:
        [found] = await check_provider_line(live(supplier.url, connected_you_dry_run=True))
    assert (found.result.value, "certificate has expired" in found.detail) == ("by hand", True)


async def test_plain_http_on_this_machine_passes(live: Live, supplier: StandIn) -> None:
    [found] = await check_provider_line(live(supplier.url))
    assert (found.result.value, found.detail.partition(": ")[2]) == ("passed", "plain http, on this machine")


async def test_plain_http_elsewhere_is_a_persons_decision(
    live: Live, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.doctor.outside.is_loopback", lambda _: False)  # there is no other machine here
    [found] = await check_provider_line(live(supplier.url))
    assert found.result.value == "by hand"


async def test_local_has_no_server(settings: Settings) -> None:
    assert await check_provider_line(settings.model_copy(update={"esim_provider": "LOCAL"})) == []


# --- PUBLIC_URL


async def test_a_public_url_is_wanted_by_hand() -> None:
    [found] = await check_public_url(Settings())
    assert (found.result.value, "PUBLIC_URL=https://" in str(found.to_do)) == ("by hand", True)


async def test_a_public_url_at_which_tribi_answers_passes(settings: Settings) -> None:
    with served(settings) as server:
        [found] = await check_public_url(settings.model_copy(update={"public_url": server.url}))
    assert (found.result.value, found.detail) == ("passed", f"{server.url}/healthz answers as Tribi")


async def test_a_public_url_by_plain_http_fails(settings: Settings) -> None:
    failure = the_failure(await check_public_url(settings.model_copy(update={"public_url": "http://shop.example"})))
    assert "plain http" in failure.detail


async def test_a_public_url_with_a_bad_certificate_fails(settings: Settings, trusting: Certificates) -> None:
    async with StandIn(tls=trusting.expired.server_context()) as somebody:
        failure = the_failure(await check_public_url(settings.model_copy(update={"public_url": somebody.url})))
    assert "certificate has expired" in failure.detail


@asynccontextmanager
async def answering(status: int, body: str, headers: dict[str, str]) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers, content_type="application/json")

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


OURS = json.dumps({"status": "ok"}, separators=(",", ":"))
NAMED = {"X-Request-Id": "req_12345678"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (200, OURS, {}, "answered by something else"),
        (200, "<html>", NAMED, "answered by something else"),
        (404, OURS, NAMED, "answers 404"),
        (301, OURS, NAMED | {"Location": "/elsewhere"}, "answers 301"),
    ],
)
async def test_a_public_url_at_which_something_else_answers_fails(
    settings: Settings, status: int, body: str, headers: dict[str, str], said: str
) -> None:
    async with answering(status, body, headers) as url:
        failure = the_failure(await check_public_url(settings.model_copy(update={"public_url": url})))
    assert said in failure.detail


async def test_a_public_url_at_which_nobody_answers_fails(settings: Settings) -> None:
    failure = the_failure(await check_public_url(settings.model_copy(update={"public_url": NOBODY})))
    assert "cannot be reached" in failure.detail


@pytest.mark.parametrize(
    ("url", "trusted", "result"),
    [
        (None, None, "passed"),
        ("http://127.0.0.1:8000", None, "passed"),
        ("https://esims.example.com", None, "by hand"),
        ("https://esims.example.com", "10.0.0.5/32", "passed"),
        (None, "10.0.0.5/32", "passed"),
    ],
)
async def test_a_proxy_that_is_there_has_to_be_trusted(
    settings: Settings, url: str | None, trusted: str | None, result: str
) -> None:
    changes = {"public_url": url, "trusted_proxies": trusted}
    [found] = await check_trusted_proxies(settings.model_copy(update=changes))
    assert found.result.value == result
    assert ("TRUSTED_PROXIES" in str(found.to_do)) == (result == "by hand")
    assert (str(trusted) in found.detail) == (trusted is not None)


# --- who might send a POST again


async def test_that_nobody_repeats_a_post_is_for_a_person_to_know(live: Live) -> None:
    [found] = await check_repeaters(live("https://api.example.com"))
    assert (found.result.value, found.detail) == ("by hand", "orders go straight to api.example.com")


async def test_a_proxy_in_the_environment_is_named_as_not_heeded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass-word@proxy.example:3128")
    [found] = await check_repeaters(live("https://api.example.com"))
    assert found.detail.endswith("not through the proxy that HTTPS_PROXY names: Tribi doesn't heed it")
    assert "pass-word" not in repr(found)
