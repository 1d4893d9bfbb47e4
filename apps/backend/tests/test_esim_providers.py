"""The contract that every provider keeps, then each provider's wire: spoken over a real socket to a stand-in that misbehaves."""

import asyncio
import contextlib
import gc
import gzip
import itertools
import json
import os
import re
import time
import tracemalloc
import unicodedata
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, get_args

import aiohttp
import pytest
import uvloop
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.services.esim_providers import (
    Answer,
    Delivered,
    EsimProvider,
    EsimProvisioningError,
    ProvisionRequest,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
    get_esim_provider,
    one_post,
    plan_code_provider,
)
from app.services.esim_providers.connected_you import build_connected_you
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.payloads import read_delivered
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esim_providers.contract import MAX_ANSWER_BYTES, MAX_QUOTED_CHARS, operators_message
from app.services.esim_providers.local import Local
from app.services.esim_providers.reading import read_json
from app.services.esim_providers.statuses import retry_after_seconds
from app.settings import BACKEND_DIR, Settings
from tests import provider_cases as cases
from tests.provider_rows import API_KEY, EMAIL, NAME, PARTNER_ID, ROWS, TLS, Row, an_order
from tests.stand_in import Issued, Seen, StandIn, respond
from tests.stand_in.certificates import Certificates, Pair
from tests.stand_in.contract import draft_contract
from tests.stand_in.dialect import CONNECTED_YOU, Dialect
from tests.stand_in.elsewhere import StandInChild, stand_in_thread
from tests.stand_in.faults import OF_ANY_SUPPLIER, TABLE
from tests.stand_in.issuing import issue

PATIENT_S = 20.0
"""A deadline that no test reaches."""
SHORT_S = 2.0
"""A deadline that a test waits for."""


def always() -> bool:
    return True


async def bought(provider: EsimProvider, request: ProvisionRequest | None = None) -> Delivered:
    delivered = await provider.provision(provider.prepare(request or an_order()), may_send=always)
    assert isinstance(delivered, Delivered)
    return delivered


async def failed(
    provider: EsimProvider, request: ProvisionRequest | None = None, may_send: Callable[[], bool] = always
) -> EsimProvisioningError:
    with pytest.raises(EsimProvisioningError) as caught:
        await provider.provision(provider.prepare(request or an_order()), may_send=may_send)
    return caught.value


@pytest.fixture
async def supplier() -> AsyncIterator[StandIn]:
    async with StandIn() as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture
async def live(supplier: StandIn) -> AsyncIterator[ConnectedYou]:
    async with provider_at(supplier.url) as provider:
        yield provider


@contextlib.asynccontextmanager
async def provider_at(url: str, line: Wire | None = None, timeout_s: float = PATIENT_S) -> AsyncIterator[ConnectedYou]:
    provider = ConnectedYou(PARTNER_ID, API_KEY, url, line or Wire(API_KEY, timeout_s, ssl_context=TLS))
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture
def dry(supplier: StandIn) -> ConnectedYou:
    return build_connected_you(
        Settings(connected_you_base_url=supplier.url, connected_you_partner_id=PARTNER_ID, connected_you_dry_run=True)
    )


# --- the contract that every provider keeps


@pytest.fixture(params=[pytest.param(row, id=row.id) for row in ROWS])
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture
async def its_supplier(row: Row) -> AsyncIterator[StandIn]:
    async with StandIn(dialect=row.dialect or CONNECTED_YOU) as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture
async def provider(row: Row, its_supplier: StandIn) -> AsyncIterator[EsimProvider]:
    provider = row.at(its_supplier.url, PATIENT_S)
    yield provider
    await provider.close()


def test_every_provider_has_a_row() -> None:
    assert set(get_args(Settings.model_fields["esim_provider"].annotation)) <= {row.name for row in ROWS}


def test_a_provider_says_who_it_is_and_what_it_can_do(row: Row, provider: EsimProvider) -> None:
    assert (provider.name, provider.capabilities) == (row.name, row.capabilities)
    assert row.id.startswith(row.name.lower())


def test_who_speaks_http_spends_money_and_says_where(row: Row, provider: EsimProvider, its_supplier: StandIn) -> None:
    assert provider.is_live is (row.dialect is not None)
    assert provider.base_url == its_supplier.url or not provider.is_live


def test_to_prepare_is_pure_and_repeatable(provider: EsimProvider, its_supplier: StandIn) -> None:
    request = an_order()
    prepared = provider.prepare(request)
    assert provider.prepare(request) == prepared
    assert prepared.reference == request.reference
    assert (prepared.base_url, prepared.partner_id) == (provider.base_url, provider.partner_id)
    assert its_supplier.connections == 0


def test_an_order_is_shown_nowhere_by_accident(provider: EsimProvider) -> None:
    shown = repr(provider.prepare(an_order())) + repr(provider)
    assert not [secret for secret in (API_KEY, PARTNER_ID, EMAIL, NAME) if secret in shown]


async def test_a_plan_without_the_code_that_is_needed_is_said_before_any_http(
    provider: EsimProvider, its_supplier: StandIn
) -> None:
    request = an_order(plan_code=None)
    if provider.capabilities.needs_plan_code:
        assert isinstance(await failed(provider, request), SupplierNotConfigured)
        assert its_supplier.connections == 0
    else:
        await bought(provider, request)


async def test_a_provider_delivers_a_code_that_is_sgp22_to_the_letter(
    row: Row, provider: EsimProvider, its_supplier: StandIn
) -> None:
    request = an_order()
    delivered = await bought(provider, request)
    assert delivered.activation_code.is_strict_sgp22
    assert delivered.warnings == ()
    assert isinstance(json.loads(delivered.answer.body), dict)
    assert delivered.provider_reference in (None, request.reference)
    codes = [issued.activation_code for issued in its_supplier.issued]
    assert codes == ([delivered.activation_code.text] if row.dialect else [])


async def test_a_provider_whose_order_is_too_old_sends_nothing(
    row: Row, provider: EsimProvider, its_supplier: StandIn
) -> None:
    if row.dialect is not None:
        assert isinstance(await failed(provider, may_send=lambda: False), SupplierUnreachable)
    assert its_supplier.request_count == 0


async def test_a_provider_that_nobody_listens_to_has_sent_nothing(
    row: Row, provider: EsimProvider, its_supplier: StandIn
) -> None:
    its_supplier.refuse()
    if row.dialect is not None:
        assert isinstance(await failed(provider), SupplierUnreachable)
    else:
        await bought(provider)


async def test_a_provider_says_to_its_supplier_who_calls(provider: EsimProvider, its_supplier: StandIn) -> None:
    await bought(provider)
    assert {request.headers["user-agent"] for request in its_supplier.requests} <= {f"Tribi/{version('tribi')}"}


def _answer_of(dialect: Dialect, reference: str) -> dict[str, Any]:
    return dialect.answer(issue(reference, "CY-ES-5GB", 1, 1))


async def test_another_orders_answer_is_not_taken_for_ours(
    row: Row, provider: EsimProvider, its_supplier: StandIn
) -> None:
    if row.dialect is None:
        return
    its_supplier.script(respond(200, _answer_of(row.dialect, "order-1"), issue=True))
    assert isinstance(await failed(provider, an_order(order_id=2)), SupplierOutcomeUnknown)


ODD: tuple[object, ...] = (None, True, 7, "", " ", "\ud800", "x" * 5000, [], ["x"], {}, {"x": 1})


def _with_odd_members(whole: object) -> Iterator[object]:
    """A good answer with each of its members left out, and with each odd value in its place."""
    if isinstance(whole, dict):
        for name, value in whole.items():
            yield {other: kept for other, kept in whole.items() if other != name}
            yield from (whole | {name: odd} for odd in (*ODD, *_with_odd_members(value)))


async def test_whatever_stands_in_an_answer_it_is_delivered_or_unknown(
    row: Row, provider: EsimProvider, its_supplier: StandIn
) -> None:
    if row.dialect is None:
        return
    for number, body in enumerate(_with_odd_members(_answer_of(row.dialect, "order-1"))):
        its_supplier.script(respond(200, json.dumps(body)))
        try:
            delivered = await bought(provider, an_order(order_id=1))
        except SupplierOutcomeUnknown:
            continue
        assert delivered.activation_code.text.startswith("LPA:1$"), f"answer {number}"
        assert (delivered.provider_reference or "order-1").strip().lower() == "order-1"


async def test_a_provider_can_be_closed_and_used_again(provider: EsimProvider) -> None:
    await provider.close()
    await bought(provider)
    await provider.close()
    await bought(provider)


DRY_RUN = {"esim_provider": "CONNECTED_YOU"}
LIVE = DRY_RUN | {"connected_you_dry_run": False}
PARTNER = {"connected_you_partner_id": PARTNER_ID}
KEY = {"connected_you_api_key": SecretStr(API_KEY)}
OF_PLAN = "ConnectedYou's planCode for 'Spain 5GB' in the catalogue"


@pytest.mark.parametrize(
    ("values", "plan_code", "missing"),
    [
        pytest.param({"esim_provider": "LOCAL"}, None, None, id="local-needs-nothing"),
        pytest.param(DRY_RUN | PARTNER, "CY-1", None, id="connected_you_dry_run-needs-no-key"),
        pytest.param(DRY_RUN | KEY, "CY-1", "CONNECTED_YOU_PARTNER_ID", id="connected_you_dry_run-partner"),
        pytest.param(DRY_RUN | PARTNER, None, OF_PLAN, id="connected_you_dry_run-plan-code"),
        pytest.param(LIVE | PARTNER | KEY, "CY-1", None, id="connected_you_live-complete"),
        pytest.param(LIVE | KEY, "CY-1", "CONNECTED_YOU_PARTNER_ID", id="connected_you_live-partner"),
        pytest.param(LIVE | PARTNER, "CY-1", "CONNECTED_YOU_API_KEY", id="connected_you_live-key"),
        pytest.param(LIVE | PARTNER | KEY, None, OF_PLAN, id="connected_you_live-plan-code"),
        pytest.param(
            *(LIVE, None, f"CONNECTED_YOU_PARTNER_ID, CONNECTED_YOU_API_KEY, {OF_PLAN}"), id="connected_you_live-all"
        ),
    ],
)
async def test_what_is_not_configured_is_said_before_any_http(
    supplier: StandIn, values: dict[str, Any], plan_code: str | None, missing: str | None
) -> None:
    provider = get_esim_provider(Settings(connected_you_base_url=supplier.url, **values))
    if missing is None:
        assert json.loads(provider.prepare(an_order(plan_code=plan_code)).body).get("planCode") == plan_code
    else:
        error = await failed(provider, an_order(plan_code=plan_code))
        assert isinstance(error, SupplierNotConfigured)
        assert str(error) == f"ConnectedYou is not configured: missing {missing}"
        assert error.public_message == SupplierNotConfigured.meaning
    assert supplier.connections == 0


@pytest.mark.parametrize("end", ["\n", "\r\nX-Injected: 1", "\0", "\x7f", "ä", "\ud800"])
async def test_connected_you_is_not_called_with_a_key_that_no_header_carries(supplier: StandIn, end: str) -> None:
    provider = ConnectedYou(PARTNER_ID, API_KEY + end, supplier.url, Wire(API_KEY + end, PATIENT_S))
    error = await failed(provider)
    assert isinstance(error, SupplierNotConfigured)
    assert str(error) == "ConnectedYou is not configured: CONNECTED_YOU_API_KEY holds characters no header can carry"
    assert supplier.connections == 0


@pytest.mark.parametrize(
    ("environment", "name", "is_live"),
    [
        pytest.param({}, "LOCAL", False, id="local"),
        pytest.param({"ESIM_PROVIDER": "connected_you"}, "CONNECTED_YOU", False, id="connected_you_dry_run"),
        pytest.param(
            {"ESIM_PROVIDER": "CONNECTED_YOU", "CONNECTED_YOU_DRY_RUN": "false"},
            "CONNECTED_YOU",
            True,
            id="connected_you_live",
        ),
    ],
)
def test_the_environment_chooses_the_provider(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str, is_live: bool
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    provider = get_esim_provider()
    assert (provider.name, provider.is_live, Settings().is_live) == (name, is_live, is_live)
    assert plan_code_provider(Settings()) == (name if provider.capabilities.needs_plan_code else None)


async def test_the_environment_sets_up_connected_you(monkeypatch: pytest.MonkeyPatch, supplier: StandIn) -> None:
    for variable, text in (
        ("ESIM_PROVIDER", "CONNECTED_YOU"),
        ("CONNECTED_YOU_BASE_URL", f"{supplier.url}/"),
        ("CONNECTED_YOU_API_KEY", API_KEY),
        ("CONNECTED_YOU_PARTNER_ID", PARTNER_ID),
        ("CONNECTED_YOU_TIMEOUT_SECONDS", "0.5"),
        ("CONNECTED_YOU_DRY_RUN", "false"),
    ):
        monkeypatch.setenv(variable, text)
    provider = get_esim_provider()
    try:
        await bought(provider)
        supplier.script("hang_after")
        assert isinstance(await failed(provider), SupplierOutcomeUnknown)
    finally:
        await provider.close()
    request, _ = supplier.requests
    assert (request.headers["x-api-key"], request.json()["partnerId"]) == (API_KEY, PARTNER_ID)


# --- LOCAL


async def test_local_makes_a_new_uuid_for_each_order_and_has_no_reference() -> None:
    first, second = [await bought(Local(), an_order(order_id=1)) for _ in range(2)]
    ids = [uuid.UUID(delivered.activation_code.matching_id or "") for delivered in (first, second)]
    assert ids[0] != ids[1]
    assert (first.provider_reference, first.iccid, first.qr_code, first.answer.status) == (None, None, None, None)
    assert json.loads(first.answer.body)["activationCode"] == first.activation_code.text


# --- ConnectedYou's dry run


async def test_connected_you_dry_run_makes_no_connection(dry: ConnectedYou, supplier: StandIn) -> None:
    await bought(dry)
    assert supplier.connections == 0


async def test_connected_you_dry_run_answers_the_same_for_the_same_order_and_plan(dry: ConnectedYou) -> None:
    first, again = [await bought(dry, an_order(order_id=1)) for _ in range(2)]
    other_order = await bought(dry, an_order(order_id=2))
    other_plan = await bought(dry, an_order(order_id=1, plan_code="CY-FR-1GB"))
    assert first == again
    assert len({each.activation_code.text for each in (first, other_order, other_plan)}) == 3
    assert len({each.iccid for each in (first, other_order, other_plan)}) == 3


async def test_connected_you_dry_run_marks_its_answer_and_fills_every_field(dry: ConnectedYou) -> None:
    delivered = await bought(dry, an_order(order_id=7))
    payload = json.loads(delivered.answer.body)
    assert payload["dry_run"] is True
    assert set(payload["data"]) == {"orderReference", "activationCode", "iccid", "qrCode", "instructions"}
    assert delivered.provider_reference == "order-7"
    assert delivered.iccid is not None
    assert delivered.iccid.is_strict_e118
    assert delivered.qr_code == delivered.activation_code.text
    assert "TEST" in (delivered.instructions or "")


async def test_connected_you_dry_run_logs_the_payload_without_the_customer(dry: ConnectedYou) -> None:
    with capture_logs() as logs:
        await bought(dry, an_order(order_id=7))
    (line,) = logs
    assert line["log_level"] == "info"
    assert line["payload"]["planCode"] == "CY-ES-5GB"
    assert line["payload"]["orderReference"] == "order-7"
    assert not [secret for secret in (EMAIL, NAME, PARTNER_ID) if secret in repr(line)]


# --- ConnectedYou's wire: what is sent


async def test_connected_you_is_sent_the_blueprints_request(live: ConnectedYou, supplier: StandIn) -> None:
    await bought(live, an_order(order_id=123, customer_email="user@example.com", customer_name="Test User"))
    (request,) = supplier.requests
    assert (request.method, request.path, request.version) == ("POST", "/partners/orders", "HTTP/1.1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-api-key"] == API_KEY
    assert request.json() == {
        "partnerId": PARTNER_ID,
        "orderReference": "order-123",
        "planCode": "CY-ES-5GB",
        "countryIso2": "ES",
        "quantity": 1,
        "customer": {"email": "user@example.com", "name": "Test User"},
        "metadata": {"order_id": 123, "plan_name": "Spain 5GB"},
    }


async def test_connected_you_is_told_who_calls_and_nothing_else(supplier: StandIn) -> None:
    supplier.script("header_set_cookie")
    # By a name: of a number aiohttp takes no cookie anyway.
    async with provider_at(f"http://localhost:{supplier.port}") as provider:
        await bought(provider)
        await bought(provider)
    for request in supplier.requests:
        assert request.headers["user-agent"] == f"Tribi/{version('tribi')}"
        assert request.headers["accept"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert set(request.headers) == {
            *("host", "content-type", "content-length", "user-agent", "x-api-key", "accept", "accept-encoding"),
            "connection",
        }


async def test_connected_you_is_read_field_by_field(live: ConnectedYou, supplier: StandIn) -> None:
    delivered = await bought(live, an_order(order_id=123))
    (issued,) = supplier.issued
    assert delivered.activation_code.text == delivered.qr_code == issued.activation_code
    assert delivered.iccid is not None
    assert delivered.iccid.text == issued.iccid
    assert delivered.provider_reference == "order-123"
    assert delivered.instructions == "Scan the QR code in your phone's eSIM settings."
    assert (delivered.answer.status, json.loads(delivered.answer.body)) == (200, issued.answer())


async def test_connected_you_may_answer_with_the_blueprints_sample(live: ConnectedYou, supplier: StandIn) -> None:
    data = {
        "orderReference": "order-123",
        "activationCode": "LPA:1$XYZ",
        "iccid": "8901120200045678901",
        "qrCode": "LPA:1$XYZ",
        "instructions": "Install via Settings...",
    }
    supplier.script(respond(200, {"data": data}))
    delivered = await bought(live, an_order(order_id=123))
    assert delivered.activation_code.text == delivered.qr_code == "LPA:1$XYZ"
    assert delivered.iccid is not None
    assert delivered.iccid.text == "8901120200045678901"
    assert set(delivered.warnings) == {"activation-code-not-sgp22", "iccid-wrong-check-digit"}


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
async def test_connected_you_redirects_nobody(live: ConnectedYou, supplier: StandIn, status: int) -> None:
    async with StandIn() as target:
        supplier.script(f"redirect_{status}_after-{target.port}")
        assert isinstance(await failed(live), SupplierOutcomeUnknown)
        assert target.connections == 0
    assert supplier.request_count == 1


# --- ConnectedYou's wire: TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def test_connected_you_is_spoken_to_over_verified_tls(certificates: Certificates) -> None:
    line = Wire(API_KEY, PATIENT_S, ssl_context=certificates.client_context())
    async with StandIn(tls=certificates.good.server_context()) as supplier, provider_at(supplier.url, line) as provider:
        for _ in range(3):
            await bought(provider)
        assert len(supplier.issued) == 3


@pytest.mark.parametrize("wrong", ["self_signed", "wrong_host", "expired", "not_yet", "unknown_authority"])
async def test_connected_you_with_a_wrong_certificate_never_sees_the_key(
    certificates: Certificates, wrong: str
) -> None:
    pair: Pair = getattr(certificates, wrong)
    line = Wire(API_KEY, PATIENT_S, ssl_context=certificates.client_context())
    async with StandIn(tls=pair.server_context()) as supplier, provider_at(supplier.url, line) as provider:
        error = await failed(provider)
    assert isinstance(error, SupplierUnreachable)
    assert "certificate" in str(error).lower()
    assert (supplier.request_count, supplier.issued, supplier.violations) == (0, [], [])


async def test_connected_you_is_verified_by_the_systems_authorities_by_default(certificates: Certificates) -> None:
    line = Wire(API_KEY, PATIENT_S)
    async with StandIn(tls=certificates.good.server_context()) as supplier, provider_at(supplier.url, line) as provider:
        assert isinstance(await failed(provider), SupplierUnreachable)
        assert supplier.request_count == 0


# --- ConnectedYou's wire: what each answer means


@dataclass(frozen=True)
class Met:
    """One order that met a fault, and what is known of it on both sides."""

    result: object
    issued: list[Issued]
    requests: int
    connections: int
    took_s: float


async def meet(row: Row, supplier: StandIn, fault: str, *, timeout_s: float) -> Met:
    # The same order each time: what is wrong with an ICCID that lost a digit depends on the digit.
    request = an_order(order_id=10**9 + zlib.crc32(fault.encode()))
    supplier.script(fault)
    requests, connections = supplier.request_count, supplier.connections
    started = asyncio.get_running_loop().time()
    provider = row.at(supplier.url, timeout_s)
    try:
        result: object = await bought(provider, request)
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        result = error
    finally:
        await provider.close()
    took_s = asyncio.get_running_loop().time() - started
    return Met(
        result,
        supplier.issued_for(request.reference),
        supplier.request_count - requests,
        supplier.connections - connections,
        took_s,
    )


async def _meet_alone(row: Row, fault: str) -> tuple[str, Met]:
    assert row.dialect is not None
    async with StandIn(dialect=row.dialect) as supplier:
        met = await meet(row, supplier, fault, timeout_s=SHORT_S)
        assert supplier.violations == []
    return fault, met


def faults_of(row: Row) -> list[str]:
    """Those that its supplier may have."""
    return (
        list(TABLE)
        if row.dialect is CONNECTED_YOU
        else [name for name in OF_ANY_SUPPLIER if name not in cases.ABOUT_DATA]
    )


_SPEAKERS = {row.name: row for row in ROWS if row.dialect is not None}
Encounters = dict[tuple[str, str], Met]
"""By provider and fault."""


@pytest.fixture(scope="module")
async def encounters() -> Encounters:
    """Every fault of each supplier, met once; those that only the deadline ends all at once."""
    found: Encounters = {}
    for name, row in _SPEAKERS.items():
        assert row.dialect is not None
        faults = faults_of(row)
        async with StandIn(dialect=row.dialect) as supplier:
            for fault in faults:
                if fault not in cases.NEVER_ENDING:
                    argument = cases.ARGUMENTS.get(fault)
                    asked = f"{fault}-{argument}" if argument else fault
                    found[name, fault] = await meet(row, supplier, asked, timeout_s=PATIENT_S)
            assert supplier.violations == []
        waited_for = [*sorted(cases.NEVER_ENDING & set(faults)), *cases.TOO_LATE]
        for fault, met in await asyncio.gather(*(_meet_alone(row, fault) for fault in waited_for)):
            found[name, fault] = met
    return found


def _each(*faults: Iterable[str]) -> pytest.MarkDecorator:
    """Those of these faults that a supplier may have, for each."""
    wanted = dict.fromkeys(itertools.chain(*faults))
    return pytest.mark.parametrize(
        ("speaker", "fault"),
        [
            pytest.param(name, fault, id=f"{name.lower()}-{fault}")
            for name, row in _SPEAKERS.items()
            for fault in wanted
            if fault in cases.TOO_LATE or fault in faults_of(row)
        ],
    )


every_fault = _each(TABLE)
every_failure = _each(name for name in (*TABLE, *cases.TOO_LATE) if Delivered not in cases.expected(name))


def test_every_fault_of_connected_you_has_an_expectation() -> None:
    groups = (
        *(set(cases.DELIVERED), set(cases.REFUSED), set(cases.RATE_LIMITED)),
        *(cases.UNKNOWN, cases.DEPENDS_ON_THE_PARSER),
    )
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(TABLE) >= 120
    assert set().union(*groups) == set(TABLE)


@every_fault
def test_an_answer_has_the_meaning_that_the_design_gives_it(speaker: str, fault: str, encounters: Encounters) -> None:
    result = encounters[speaker, fault].result
    assert type(result) in cases.expected(fault)
    if isinstance(result, Delivered) and fault in cases.DELIVERED:
        assert sorted(result.warnings) == sorted(cases.DELIVERED[fault])
    if isinstance(result, SupplierRefused):
        assert result.concerns_account is cases.REFUSED[fault]
    if isinstance(result, SupplierRateLimited):
        assert result.retry_after_s in cases.RATE_LIMITED[fault]


@every_fault
def test_what_was_issued_is_delivered_or_unknown(speaker: str, fault: str, encounters: Encounters) -> None:
    met = encounters[speaker, fault]
    assert len(met.issued) <= 1
    if isinstance(met.result, Delivered):
        ours = [issued.activation_code for issued in met.issued]
        assert ([met.result.activation_code.text] == ours) is (fault not in cases.OF_ANOTHER_ORDER)
    elif met.issued:
        assert type(met.result) is SupplierOutcomeUnknown


@every_fault
def test_an_order_is_posted_once_whatever_comes_of_it(speaker: str, fault: str, encounters: Encounters) -> None:
    met = encounters[speaker, fault]
    assert met.connections == 1
    assert met.requests == (0 if fault.endswith("_on_accept") else 1)


@every_failure
def test_a_failure_keeps_the_answer_and_tells_operators(speaker: str, fault: str, encounters: Encounters) -> None:
    error = encounters[speaker, fault].result
    assert isinstance(error, EsimProvisioningError)
    if fault in TABLE and TABLE[fault].seen is Seen.ANSWER:
        assert error.answer is not None
        assert error.answer.status == TABLE[fault].status
    if error.answer is not None:
        assert len(error.answer.body) <= MAX_ANSWER_BYTES
        assert f": {f'HTTP {error.answer.status}' if error.answer.status is not None else 'no HTTP'}: " in str(error)
    assert len(str(error)) < 2 * MAX_QUOTED_CHARS + 200
    assert not {character for character in str(error) if unicodedata.category(character) in ("Cc", "Cs")} - set(
        "\t\r\n"
    )


async def test_connected_you_is_cut_off_when_it_sends_without_end(
    live: ConnectedYou, supplier: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    supplier.script("endless_103_after")
    error = await failed(live)
    assert isinstance(error, SupplierOutcomeUnknown)
    assert "TimeoutError" not in str(error), "the deadline ended it"
    assert [record.name for record in caplog.records if record.name == "asyncio"] == [], "the event loop had to end it"


@every_failure
def test_words_that_are_no_answer_are_kept(speaker: str, fault: str, encounters: Encounters) -> None:
    error = encounters[speaker, fault].result
    assert isinstance(error, EsimProvisioningError)
    if fault in TABLE and TABLE[fault].seen in (Seen.BROKEN, Seen.STALLED, Seen.ENDLESS):
        assert error.answer is not None
        assert error.answer.body or error.answer.status is not None


@pytest.mark.parametrize(
    "fault", ["status_line_text", "header_no_colon", "http_0_9", "chunked_and_length", "length_twice"]
)
def test_connected_you_cannot_hide_a_code_behind_broken_framing(fault: str, encounters: Encounters) -> None:
    met = encounters["CONNECTED_YOU", fault]
    assert isinstance(met.result, SupplierOutcomeUnknown)
    assert met.result.answer is not None
    assert met.issued[0].activation_code.encode() in met.result.answer.body


@every_failure
def test_a_failure_tells_no_secret_and_the_client_nothing(speaker: str, fault: str, encounters: Encounters) -> None:
    met = encounters[speaker, fault]
    assert isinstance(met.result, EsimProvisioningError)
    secrets = {API_KEY, PARTNER_ID, EMAIL, NAME, json.dumps(EMAIL)[1:-1], json.dumps(NAME)[1:-1]}
    for issued in met.issued:
        secrets |= {issued.activation_code, issued.activation_code.rpartition("$")[2], issued.iccid}
    assert {secret for secret in secrets if secret in str(met.result)} == set()
    assert met.result.public_message == type(met.result).meaning


@_each(cases.NEVER_ENDING, cases.TOO_LATE)
def test_the_deadline_is_total(speaker: str, fault: str, encounters: Encounters) -> None:
    met = encounters[speaker, fault]
    assert type(met.result) is SupplierOutcomeUnknown
    assert met.took_s < SHORT_S + 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Delivered) for status in (200, 201, 299)),
        *((status, SupplierOutcomeUnknown) for status in (300, 303, 399, 408, 409, 425, 500, 599, 600)),
        *((status, SupplierRefused) for status in (400, 401, 499)),
        (429, SupplierRateLimited),
    ],
)
async def test_connected_you_is_believed_by_its_status_first(
    live: ConnectedYou, supplier: StandIn, status: int, kind: cases.Kind
) -> None:
    supplier.script(respond(status, _good_body))
    try:
        result: object = await bought(live)
    except EsimProvisioningError as error:
        result = error
    assert type(result) is kind


async def test_connected_you_that_never_shakes_hands_was_sent_nothing(supplier: StandIn) -> None:
    supplier.script("hang_on_accept")
    async with provider_at(supplier.url.replace("http:", "https:"), timeout_s=0.5) as provider:
        assert isinstance(await failed(provider), SupplierUnreachable)
    assert supplier.connections == 1


# --- ConnectedYou's wire: what stays of an answer


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (422, "ConnectedYou refused order-5"),
        (429, "ConnectedYou takes no more orders for now"),
        (500, "ConnectedYou gave no clear answer for order-5"),
    ],
)
async def test_connected_you_failing_says_so_in_its_own_words_to_operators(
    live: ConnectedYou, supplier: StandIn, status: int, meaning: str
) -> None:
    supplier.script(respond(status, {"error": "this plan is sold out"}))
    error = await failed(live, an_order(order_id=5))
    assert str(error) == f'{meaning}: HTTP {status}: {{"error": "this plan is sold out"}}'
    assert error.answer == Answer(status, b'{"error": "this plan is sold out"}')


def test_json_that_is_too_deep_to_read_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match=r"^too deep$"):
        read_json(Answer(200, b"[" * 100_000))


async def test_connected_you_cut_short_leaves_what_came(supplier: StandIn) -> None:
    supplier.script("stall_body")
    async with provider_at(supplier.url, timeout_s=0.5) as provider:
        error = await failed(provider, an_order(order_id=5))
    assert error.answer is not None
    assert error.answer.status == 200
    assert json.dumps(supplier.issued[0].answer()).encode().startswith(error.answer.body)
    assert len(error.answer.body) > 100


async def test_connected_you_that_says_nothing_leaves_no_answer_and_is_not_waited_for_twice(
    monkeypatch: pytest.MonkeyPatch, supplier: StandIn
) -> None:
    monkeypatch.setattr(one_post, "_AWAKE_S", 5.9)  # where it looks once more, that shows
    supplier.script("hang_after")
    async with provider_at(supplier.url, timeout_s=3) as provider, asyncio.timeout(7):
        error = await failed(provider, an_order(order_id=5))
    assert str(error) == "ConnectedYou's answer for order-5 was lost: TimeoutError"
    assert (type(error), error.answer) == (SupplierOutcomeUnknown, None)


async def test_connected_you_may_take_as_long_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, live: ConnectedYou, supplier: StandIn
) -> None:
    """And not as long as aiohttp would give it: that is five minutes, and half of one to connect."""
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    supplier.script("slow_after-0.5")
    await bought(live)


async def test_connected_you_is_quoted_up_to_4000_characters(live: ConnectedYou, supplier: StandIn) -> None:
    supplier.script(respond(500, "x" * 4000), respond(500, "x" * 4001), respond(500, "x" * 100_000))
    assert str(await failed(live)).endswith("HTTP 500: " + "x" * 4000)
    assert str(await failed(live)).endswith("HTTP 500: " + "x" * 4000 + "… [cut]")
    error = await failed(live)
    assert str(error).endswith("HTTP 500: " + "x" * 4000 + "… [cut]")
    assert error.answer is not None
    assert len(error.answer.body) == 100_000


@pytest.mark.parametrize(
    "before", [pytest.param("x" * 3990, id="shown"), pytest.param(f"LPA:1${'X' * 15_980} ", id="looked-at")]
)
@pytest.mark.parametrize("secret", [API_KEY, "8901120200045678901", EMAIL, "LPA:1$RSP.EXAMPLE.COM$CUT-THROUGH"])
async def test_connected_you_is_quoted_without_the_half_of_a_secret(
    live: ConnectedYou, supplier: StandIn, secret: str, before: str
) -> None:
    supplier.script(*(respond(500, before + " " * n + secret + " " + "y" * 100) for n in range(14)))
    for _ in range(14):
        assert secret[:6] not in str(await failed(live)).replace("[code]", "")


def test_connected_you_is_redacted_no_further_than_is_needed() -> None:
    lengths = []

    def redacted(text: str) -> str:
        lengths.append(len(text))
        return text

    message = operators_message("said", Answer(500, b"x" * MAX_ANSWER_BYTES), redacted)
    assert message == "said: HTTP 500: " + "x" * MAX_QUOTED_CHARS + "… [cut]"
    assert max(lengths) <= 4 * MAX_QUOTED_CHARS


@pytest.mark.parametrize(
    ("said", "answer", "message"),
    [
        ("no connection", None, "no connection"),
        ("refused", Answer(400, b"no"), "refused: HTTP 400: no"),
        ("refused", Answer(400, b""), "refused: HTTP 400: (empty body)"),
        ("lost", Answer(None, b"SSH-2.0"), "lost: no HTTP: SSH-2.0"),
        ("refused", Answer(400, "größer".encode("utf-16")), "refused: HTTP 400: größer"),
        ("half a letter \ud800", Answer(400, b"half a letter \xc3"), "half a letter ?: HTTP 400: half a letter \ufffd"),
        ("a bell \a", Answer(400, b"and\ttab"), "a bell \ufffd: HTTP 400: and\ttab"),
        ("refused", Answer(400, b"SECRET"), "refused: HTTP 400: [secret]"),
        ("x" * 4001, None, "x" * 4000 + "… [cut]"),
        ("x" * 4000, None, "x" * 4000),
    ],
)
def test_operators_read_what_was_said_and_the_suppliers_words(said: str, answer: Answer | None, message: str) -> None:
    assert operators_message(said, answer, lambda text: text.replace("SECRET", "[secret]")) == message


def test_a_refusal_is_about_the_order_unless_it_says_otherwise() -> None:
    refusal = SupplierRefused("no")
    assert (refusal.concerns_account, refusal.answer, refusal.retry_after_s) == (False, None, None)
    assert refusal.public_message == SupplierRefused.meaning


async def test_connected_you_is_quoted_without_the_partner_id_of_earlier_days(
    live: ConnectedYou, supplier: StandIn
) -> None:
    supplier.script("status_400")
    earlier = ConnectedYou("partner-of-earlier-days", API_KEY, supplier.url, live.line)
    with pytest.raises(SupplierRefused) as caught:
        await live.provision(earlier.prepare(an_order()), may_send=always)
    supplier.script(respond(400, "unknown partner partner-of-earlier-days"))
    with pytest.raises(SupplierRefused) as plain:
        await live.provision(earlier.prepare(an_order()), may_send=always)
    assert "earlier-days" not in str(caught.value) + str(plain.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32"])
async def test_connected_you_is_quoted_without_secrets_in_any_encoding(
    live: ConnectedYou, supplier: StandIn, encoding: str
) -> None:
    said = f"customer {NAME} has 8901120200045678901 and LPA:1$RSP.EXAMPLE.COM$A-B"
    supplier.script(respond(500, json.dumps({"error": said}, ensure_ascii=False).encode(encoding)))
    assert str(await failed(live)).endswith('"customer [redacted] has [iccid] and [code]"}')


async def test_connected_you_is_quoted_without_what_a_terminal_obeys(live: ConnectedYou, supplier: StandIn) -> None:
    supplier.script(respond(500, b"a\x1b[31m\0\x9b\xff\xed\xa0\x80b\nc"))
    message = str(await failed(live))
    assert message.endswith("b\nc")
    assert not set(message) & {"\x1b", "\0", "\x9b", "\ud800"}


def _good_body(order: dict[str, Any], **members: str) -> bytes:
    data = {"orderReference": order["orderReference"], "activationCode": "LPA:1$RSP.EXAMPLE.COM$A-B", **members}
    return json.dumps({"data": data}).encode()


def _of_size(size: int) -> Callable[[dict[str, Any]], bytes]:
    def make(order: dict[str, Any]) -> bytes:
        return _good_body(order, instructions="i" * (size - len(_good_body(order, instructions=""))))

    return make


@pytest.mark.parametrize("packed", [False, True])
async def test_connected_you_is_read_up_to_one_mebibyte(live: ConnectedYou, supplier: StandIn, packed: bool) -> None:
    def made(size: int) -> Callable[[dict[str, Any]], bytes]:
        return lambda order: gzip.compress(_of_size(size)(order)) if packed else _of_size(size)(order)

    supplier.script(respond(200, made(MAX_ANSWER_BYTES)), respond(200, made(MAX_ANSWER_BYTES + 1)))
    await bought(live)
    error = await failed(live)
    assert error.answer is not None
    assert len(error.answer.body) == MAX_ANSWER_BYTES


def _in_members(body: bytes) -> bytes:
    return gzip.compress(body[:30]) + gzip.compress(b"") + gzip.compress(body[30:])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", _in_members, id="gzip-in-members"),
        pytest.param("gzip", lambda body: _in_members(body) + b"tail", id="gzip-with-a-tail"),
        pytest.param("gzip, identity", gzip.compress, id="gzip-and-identity"),
        pytest.param("GZIP", gzip.compress, id="gzip-in-capitals"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate", bytes, id="deflate-only-said"),
        pytest.param("gzip, gzip", bytes, id="gzip-only-said"),
        pytest.param("", bytes, id="nothing-said"),
    ],
)
async def test_connected_you_may_pack_its_answer_unasked(
    live: ConnectedYou, supplier: StandIn, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    supplier.script(respond(200, lambda order: pack(_good_body(order)), {"Content-Encoding": encoding}))
    assert (await bought(live)).activation_code.text == "LPA:1$RSP.EXAMPLE.COM$A-B"


@pytest.mark.parametrize(("empty", "is_read"), [(15, True), (16, False), (50_000, False)])
async def test_connected_you_is_read_up_to_16_gzip_members(
    live: ConnectedYou, supplier: StandIn, empty: int, is_read: bool
) -> None:
    supplier.script(respond(200, lambda order: gzip.compress(b"") * empty + gzip.compress(_good_body(order))))
    if is_read:
        await bought(live)
    else:
        assert isinstance(await failed(live), SupplierOutcomeUnknown)


@pytest.mark.parametrize("sizes", [(MAX_ANSWER_BYTES, 9), (MAX_ANSWER_BYTES - 9, 99), (MAX_ANSWER_BYTES // 2,) * 3])
async def test_connected_you_is_read_up_to_one_mebibyte_of_all_members_together(
    live: ConnectedYou, supplier: StandIn, sizes: tuple[int, ...]
) -> None:
    supplier.script(respond(500, b"".join(gzip.compress(b"x" * size) for size in sizes)))
    error = await failed(live)
    assert error.answer is not None
    assert error.answer.body == b"x" * MAX_ANSWER_BYTES


async def test_connected_you_cannot_fill_our_memory() -> None:
    faults = (
        *("big_plain-32", "gzip_bomb-64", "gzip_bomb_big_after-256", "gzip_bomb_twice_after", "header_1mb"),
        *("headers_many", "endless_headers_after", "endless_body_after", "endless_chunks_after", "endless_line_after"),
        *("endless_103_after", "chunked_long_extension", "instructions_long", "code_very_long", "depth_objects_after"),
    )
    async with StandInChild() as child, provider_at(child.url, timeout_s=0.5) as provider:
        await bought(provider)  # what is loaded and opened once isn't counted
        tracemalloc.start()
        try:
            for fault in faults:
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                with contextlib.suppress(EsimProvisioningError):
                    await bought(provider, an_order(plan_code=f"FAULT-{fault}"))
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before < 20 * 1024 * 1024, fault
        finally:
            tracemalloc.stop()


def test_connected_you_is_still_heard_by_a_process_that_slept_over_its_deadline() -> None:
    """On the server's own event loop, which looks at its clocks before it looks into sockets."""

    async def sleeping_buyer(supplier: StandIn) -> Delivered:
        async with provider_at(supplier.url, timeout_s=SHORT_S) as provider:
            call = asyncio.create_task(bought(provider))
            await supplier.wait_until_held(1)
            fell_asleep_at = time.monotonic()
            # What follows doesn't give way to the event loop: to it, the process is asleep.
            supplier.release(then="instructions_long")  # more than one look into the socket brings
            while not supplier.issued:
                time.sleep(0.01)  # noqa: ASYNC251 - see above
            time.sleep(max(0, fell_asleep_at + SHORT_S + 1.5 - time.monotonic()))  # noqa: ASYNC251 - see above
            return await call

    with stand_in_thread() as supplier, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        supplier.script("hold")
        assert runner.run(sleeping_buyer(supplier)).activation_code.text == supplier.issued[0].activation_code


def test_a_process_that_slept_over_its_deadline_looks_once_more_and_no_longer() -> None:
    async def sleeping_buyer(supplier: StandIn) -> EsimProvisioningError:
        async with provider_at(supplier.url, timeout_s=SHORT_S) as provider:
            call = asyncio.create_task(failed(provider))
            await supplier.wait_until_held(1)
            time.sleep(SHORT_S + 1.5)  # noqa: ASYNC251 - to the event loop, the process is asleep
            async with asyncio.timeout(10):
                return await call

    with stand_in_thread() as supplier, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        supplier.script("hold")
        assert isinstance(runner.run(sleeping_buyer(supplier)), SupplierOutcomeUnknown)
        supplier.release()


# --- ConnectedYou's wire: what is sent, and what surely wasn't


@dataclass
class Doorman:
    """A TCP relay in front of a stand-in that turns the first callers away before anything was said."""

    to: StandIn
    turns_away: int
    callers: int = 0
    port: int = 0
    _relays: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def on_duty(self) -> AsyncIterator["Doorman"]:
        async with await asyncio.start_server(self._called, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self
            await asyncio.gather(*self._relays)

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers += 1
        if self.callers <= self.turns_away:
            writer.transport.abort()
        else:
            self._relays.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to.port)
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _saying(*answers: bool) -> Callable[[], bool]:
    left = iter(answers)
    return lambda: next(left)


@pytest.mark.parametrize(
    ("turns_away", "may_send", "callers", "is_sent"),
    [
        pytest.param(0, (True,), 1, True, id="at-once"),
        pytest.param(1, (True, True), 2, True, id="by-one-quiet-retry"),
        pytest.param(2, (True,), 2, False, id="never-by-a-second-retry"),
        pytest.param(0, (False,), 1, False, id="not-when-it-is-too-late"),
        pytest.param(1, (False,), 1, False, id="not-when-it-is-too-late-for-a-retry"),
        pytest.param(1, (True, False), 2, False, id="not-when-it-got-too-late-during-the-retry"),
    ],
)
async def test_connected_you_is_sent_an_order(
    certificates: Certificates, turns_away: int, may_send: tuple[bool, ...], callers: int, is_sent: bool
) -> None:
    line = Wire(API_KEY, PATIENT_S, ssl_context=certificates.client_context())
    async with (
        StandIn(tls=certificates.good.server_context()) as supplier,
        Doorman(supplier, turns_away).on_duty() as doorman,
        provider_at(doorman.url, line) as provider,
    ):
        order = provider.prepare(an_order())
        if is_sent:
            await provider.provision(order, may_send=_saying(*may_send))
        else:
            with pytest.raises(SupplierUnreachable) as caught:
                await provider.provision(order, may_send=_saying(*may_send))
            assert ("was not sent: _TooLate" in str(caught.value)) is (may_send[-1] is False and callers > turns_away)
    assert doorman.callers == callers
    assert supplier.request_count == len(supplier.issued) == int(is_sent)


async def test_connected_you_that_refuses_connections_was_sent_nothing(live: ConnectedYou, supplier: StandIn) -> None:
    supplier.refuse()
    error = await failed(live, an_order(order_id=5))
    assert isinstance(error, SupplierUnreachable)
    why = f"ClientConnectorError: Cannot connect to host 127.0.0.1:{supplier.port}"
    assert str(error).startswith(f"ConnectedYou cannot be reached, order-5 was not sent: {why}")
    await supplier.listen()
    await bought(live)
    assert supplier.request_count == 1


async def test_connected_you_that_is_being_restarted_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, live: ConnectedYou, supplier: StandIn
) -> None:
    monkeypatch.setattr(one_post, "_RETRY_PAUSE_S", (1.0, 1.0))
    supplier.refuse_for(0.05)
    await bought(live)
    assert supplier.request_count == 1


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:1", "http://[::1]:1"])
async def test_connected_you_that_cannot_be_found_was_sent_nothing(url: str) -> None:
    async with provider_at(url) as provider:
        assert isinstance(await failed(provider), SupplierUnreachable)


async def test_connected_you_loses_the_connection_of_a_cancelled_order(live: ConnectedYou, supplier: StandIn) -> None:
    supplier.script("hang_after")
    order = asyncio.create_task(bought(live))
    await supplier.wait_until_hanging(1)
    order.cancel()
    await asyncio.wait([order])
    assert order.cancelled()
    await supplier.wait_until(lambda: supplier.open_connections == 0)
    await bought(live)
    assert (supplier.request_count, supplier.connections) == (2, 2)


# --- ConnectedYou's wire: connections


async def test_connected_you_is_sent_each_order_on_a_connection_of_its_own(
    live: ConnectedYou, supplier: StandIn
) -> None:
    """An idle one may be closed just as an order is written to it: an unknown outcome for nothing."""
    for _ in range(20):
        await bought(live)
    assert (supplier.request_count, supplier.connections) == (20, 20)
    assert {request.headers["connection"] for request in supplier.requests} == {"close"}


async def test_connected_you_keeps_no_connection_after_a_burst(live: ConnectedYou, supplier: StandIn) -> None:
    supplier.script(*["hold_after"] * 200)
    orders = [asyncio.create_task(bought(live)) for _ in range(200)]
    await supplier.wait_until_held(200)
    supplier.release()
    delivered = await asyncio.gather(*orders)
    codes = {each.provider_reference: each.activation_code.text for each in delivered}
    assert codes == {issued.reference: issued.activation_code for issued in supplier.issued}
    await supplier.wait_until(lambda: supplier.open_connections == 0)


@pytest.mark.parametrize("how", ["announced", "silent", "when idle"])
async def test_connected_you_that_closes_connections_makes_no_unknown(
    live: ConnectedYou, supplier: StandIn, how: str
) -> None:
    if how == "when idle":
        supplier.close_idle_after_s = 0.05
    else:
        supplier.close_after_answer = how
    for _ in range(5):
        await bought(live)
        await supplier.wait_until(lambda: supplier.open_connections == 0)


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    with stand_in_thread() as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_connected_you_may_be_called_from_one_event_loop_after_another(elsewhere: StandIn) -> None:
    provider = ConnectedYou(PARTNER_ID, API_KEY, elsewhere.url, Wire(API_KEY, PATIENT_S))
    for _ in range(2):
        asyncio.run(_bought_without_closing(provider))
    asyncio.run(provider.close())
    gc.collect()  # what the first loop left open complains here, not in somebody else's test
    assert len(elsewhere.issued) == 2


async def _bought_without_closing(provider: ConnectedYou) -> None:
    await bought(provider)


# --- ConnectedYou's own sandbox: buys one eSIM of the plan that this variable names

ASKED_FOR = "TESTS_CONNECTED_YOU_PLAN_CODE"
COUNTRY = "TESTS_CONNECTED_YOU_COUNTRY"
_WANTED = (
    f"buys one eSIM from ConnectedYou's sandbox, if {ASKED_FOR} names one of their plans and CONNECTED_YOU_API_KEY and "
    "CONNECTED_YOU_PARTNER_ID are set, in the environment or in apps/backend/.env (docs/providers/connected_you.md)"
)


def _an_order_of_theirs(plan_code: str) -> ProvisionRequest:
    """Under a reference that no earlier run has used. Nobody reads mail to example.com (RFC 2606)."""
    return an_order(
        order_id=time.time_ns() // 1_000_000,
        plan_code=plan_code,
        country_iso2=os.environ.get(COUNTRY, "ES"),
        customer_email="user@example.com",
        customer_name="Test User",
    )


@pytest.fixture(scope="module")
def their_settings(developers_environment: Mapping[str, str]) -> Settings:
    """The developer's own, live whatever they say of a dry run."""
    if not os.environ.get(ASKED_FOR):
        pytest.skip(_WANTED)  # it may cost money: nobody's `make test` buys anything unasked
    env_file = developers_environment.get("TRIBI_ENV_FILE") or BACKEND_DIR / ".env"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in developers_environment.items():
            if name.startswith("CONNECTED_YOU_"):
                patch.setenv(name, value)
        settings = Settings(_env_file=env_file, esim_provider="CONNECTED_YOU", connected_you_dry_run=False)
    if not (settings.connected_you_api_key and settings.connected_you_partner_id):
        pytest.skip(_WANTED)  # asked for, but ConnectedYou answers nobody without an account
    return settings


@contextlib.asynccontextmanager
async def _calling_them(settings: Settings) -> AsyncIterator[ConnectedYou]:
    """Closed in each case: what is left open would end the run with a traceback of its own, far below what they said."""
    provider = build_connected_you(settings)
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture(scope="module")
async def from_them(their_settings: Settings) -> tuple[ProvisionRequest, Delivered]:
    """The one eSIM, and its order."""
    request = _an_order_of_theirs(os.environ[ASKED_FOR])
    async with _calling_them(their_settings) as provider:
        return request, await bought(provider, request)


def test_connected_you_sandbox_delivers_this_order(from_them: tuple[ProvisionRequest, Delivered]) -> None:
    request, delivered = from_them
    assert delivered.provider_reference == request.reference


def test_connected_you_sandbox_answers_by_the_draft_contract(from_them: tuple[ProvisionRequest, Delivered]) -> None:
    _, delivered = from_them
    assert draft_contract().answer_breaches(json.loads(delivered.answer.body)) == []


def test_connected_you_sandbox_sends_nothing_odd(from_them: tuple[ProvisionRequest, Delivered]) -> None:
    """Odd things are taken and flagged; each is a question to ConnectedYou."""
    _, delivered = from_them
    assert delivered.warnings == ()


async def test_connected_you_sandbox_refuses_a_wrong_key_as_a_matter_of_our_account(their_settings: Settings) -> None:
    key = SecretStr("wrong-key-of-tribis-tests")
    async with _calling_them(their_settings.model_copy(update={"connected_you_api_key": key})) as provider:
        error = await failed(provider, _an_order_of_theirs(os.environ[ASKED_FOR]))
    assert isinstance(error, SupplierRefused)
    assert error.concerns_account


async def test_connected_you_sandbox_refuses_a_plan_that_it_does_not_have(their_settings: Settings) -> None:
    async with _calling_them(their_settings) as provider:
        error = await failed(provider, _an_order_of_theirs("SANDBOX-UNKNOWN-PLAN"))
    assert isinstance(error, SupplierRefused)
    assert not error.concerns_account


# --- ConnectedYou's payloads


NOW = datetime(2026, 11, 20, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("0000000000120", 120),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9" * 5000, 86_400),
        ("-5", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("١٢", None),
        ("²", None),
        ("soon", None),
        ("120, 240", None),
        ("Fri, 20 Nov 2026 12:00:10 GMT", 10),
        ("Fri, 20 Nov 2026 12:00:01 GMT", 1),
        ("Friday, 20-Nov-26 12:00:10 GMT", 10),
        ("Fri Nov 20 12:00:10 2026", 10),
        ("Fri, 20 Nov 2026 13:00:10 +0100", 10),
        ("Fri, 20 Nov 2026 12:00:10 -0000", 10),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Fri, 32 Nov 2026 12:00:10 GMT", None),
        ("Fri, 20 Nov 2026 12:00:10 +9999", None),
        ("Fri, 20 Nov 99999 12:00:10 GMT", None),
    ],
)
def test_connected_you_says_when_to_come_again(header: str | None, seconds: int | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


def test_connected_you_says_when_to_come_again_and_time_goes_on_meanwhile() -> None:
    assert retry_after_seconds("Fri, 20 Nov 2026 12:00:10 GMT") == 0
    assert retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT") == 86_400


NO_REFERENCE: tuple[object, ...] = (None, "", " ", [], ["order-2"], {}, True)


@pytest.mark.parametrize(
    ("echoed", "warnings"),
    [
        ("order-1", ()),
        *((absent, ("order-reference-missing",)) for absent in NO_REFERENCE),
        *((ours, ("order-reference-reformatted",)) for ours in ("ORDER-1", " order-1", "Order-1\n")),
        *((other, None) for other in ("order-2", "order-10", "order 1", "1", 1, 2, 1.0, "CY-1", "order-1 order-2")),
    ],
)
def test_connected_you_names_our_order_or_none(echoed: object, warnings: tuple[str, ...] | None) -> None:
    data = {"orderReference": echoed, "activationCode": "LPA:1$RSP.EXAMPLE.COM$A-B", "iccid": "8901120200045678902"}
    answer = Answer(200, json.dumps({"data": data}).encode())
    if warnings is None:
        theirs = "^ConnectedYou answered order-1 with another order's reference$"
        with pytest.raises(SupplierOutcomeUnknown, match=theirs):
            read_delivered(answer, "order-1")
    else:
        delivered = read_delivered(answer, "order-1")
        assert tuple(warning for warning in delivered.warnings if "reference" in warning) == warnings


A_CODE, AN_ICCID = "LPA:1$RSP.EXAMPLE.COM$A-B", "8901120200045678903"
NO_TEXT: tuple[object, ...] = (5, [A_CODE], {}, True)
_REFORMATTED, _DIFFERS, _UNREADABLE = "iccid-reformatted", "qr-code-differs", "qr-code-unreadable"


@pytest.mark.parametrize(
    ("member", "given", "read", "warning"),
    [
        ("activationCode", A_CODE, A_CODE, None),
        ("activationCode", f" {A_CODE}\n", A_CODE, "activation-code-white-space"),
        ("activationCode", "LPA:1$XYZ", "LPA:1$XYZ", "activation-code-not-sgp22"),
        *(("activationCode", useless, None, "without a usable activationCode") for useless in (None, "", *NO_TEXT)),
        ("iccid", AN_ICCID, AN_ICCID, None),
        ("iccid", int(AN_ICCID), AN_ICCID, _REFORMATTED),
        ("iccid", f"{AN_ICCID[:4]} {AN_ICCID[4:]}", AN_ICCID, _REFORMATTED),
        ("iccid", AN_ICCID[:-1] + "4", AN_ICCID[:-1] + "4", "iccid-wrong-check-digit"),
        ("iccid", 0.5, None, "iccid-not-digits"),
        ("iccid", None, None, "iccid-missing"),
        *(("iccid", odd, None, "iccid-unreadable") for odd in ("", " ", *NO_TEXT[1:])),
        ("qrCode", None, None, None),
        ("qrCode", A_CODE, A_CODE, None),
        ("qrCode", A_CODE.removeprefix("LPA:"), A_CODE.removeprefix("LPA:"), _DIFFERS),
        ("qrCode", "https://qr.example/1", "https://qr.example/1", _DIFFERS),
        ("qrCode", "Q" * 1000, "Q" * 1000, _DIFFERS),
        ("qrCode", "half \ud800", "half ?", _DIFFERS),
        *(("qrCode", odd, None, _UNREADABLE) for odd in ("", " ", "Q" * 1001, *NO_TEXT)),
        ("instructions", None, None, None),
        ("instructions", "", "", None),
        ("instructions", "Scan it.", "Scan it.", None),
        ("instructions", "half \ud800", "half ?", None),
        *(("instructions", odd, None, "instructions-unreadable") for odd in NO_TEXT),
    ],
)
def test_connected_you_is_read_member_by_member(
    member: str, given: object, read: str | None, warning: str | None
) -> None:
    good = {"orderReference": "order-1", "activationCode": A_CODE, "iccid": AN_ICCID}
    answer = Answer(200, json.dumps({"data": good | {member: given}}).encode())
    if member == "activationCode" and read is None:
        with pytest.raises(SupplierOutcomeUnknown, match=f"^ConnectedYou answered order-1 {warning}$"):
            read_delivered(answer, "order-1")
        return
    delivered = read_delivered(answer, "order-1")
    found = {
        "activationCode": delivered.activation_code.text.strip(),
        "iccid": delivered.iccid.digits if delivered.iccid else None,
        "qrCode": delivered.qr_code,
        "instructions": delivered.instructions,
    }
    assert found[member] == read
    assert delivered.warnings == (() if warning is None else (warning,))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        *((body, "is not readable JSON") for body in (b"", b"{", b"<html>", b"[" * 100_000)),
        *((body, "holds no order") for body in (b"[]", b"null", b"{}", b'{"data": null}', b'{"data": []}', b'"data"')),
    ],
)
def test_connected_you_may_answer_with_no_order_at_all(body: bytes, why: str) -> None:
    with pytest.raises(SupplierOutcomeUnknown, match=f"^ConnectedYou's answer {why}$") as caught:
        read_delivered(Answer(200, body), "order-1")
    assert caught.value.answer == Answer(200, body)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("LPA:1$RSP.EXAMPLE.COM$A-B"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_members = st.sampled_from(["orderReference", "activationCode", "iccid", "qrCode", "instructions", "other"])


@hypothesis_settings(max_examples=500, deadline=None, derandomize=True)
@given(data=st.dictionaries(_members, _json_values))
def test_whatever_connected_you_puts_into_data_is_delivered_or_unknown(data: dict[str, object]) -> None:
    _read(json.dumps({"data": data}).encode())


@hypothesis_settings(max_examples=500, deadline=None, derandomize=True)
@given(start=st.integers(0, 300), end=st.integers(0, 300), junk=st.binary(max_size=20))
def test_whatever_connected_you_sends_is_delivered_or_unknown(start: int, end: int, junk: bytes) -> None:
    good = _good_body({"orderReference": "order-1"}, iccid="8901120200045678901", qrCode="LPA:1$RSP.EXAMPLE.COM$A-B")
    _read(good[:start] + junk + good[end:])


def _read(body: bytes) -> None:
    try:
        delivered = read_delivered(Answer(200, body), "order-1")
    except SupplierOutcomeUnknown:
        return
    assert re.match(r"(LPA:)?1\$", delivered.activation_code.text.strip(), re.IGNORECASE)
    assert (delivered.provider_reference or "order-1").strip().lower() == "order-1"
    for text in (delivered.qr_code, delivered.instructions, delivered.activation_code.text):
        assert (text or "").encode().decode() == (text or "")
