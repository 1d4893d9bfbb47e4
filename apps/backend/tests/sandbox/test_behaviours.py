"""Plan codes that misbehave: what each of them is to Tribi, and that all of them are told of."""

import asyncio
import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import cli
from app.sandbox.behaviours import TABLE, NoSuchBehaviour, Reply, forced_by
from app.services.esim_providers import (
    Delivered,
    EsimProvisioningError,
    ProvisionRequest,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
)
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from tests.api.serving import raw
from tests.processes.programs import until
from tests.sandbox.running import HEADERS, Sandbox, an_order
from tests.stand_in.contract import draft_contract

ROOT = Path(__file__).resolve().parents[4]
_PATIENT_S = 20.0

Kind = type[Delivered] | type[EsimProvisioningError]


@dataclass(frozen=True)
class Expected:
    """What Tribi makes of it (design, section 3). `warnings`: of a delivery. `is_our_account`: of a refusal."""

    kind: Kind
    warnings: tuple[str, ...] = ()
    is_our_account: bool = False


EXPECTED = {
    "REFUSED": Expected(SupplierRefused),
    "UNKNOWN-PLAN": Expected(SupplierRefused),
    "OUT-OF-STOCK": Expected(SupplierRefused),
    "CREDIT-LIMIT": Expected(SupplierRefused, is_our_account=True),
    "NO-CARD": Expected(SupplierRefused, is_our_account=True),
    "WRONG-KEY": Expected(SupplierRefused, is_our_account=True),
    "FORBIDDEN": Expected(SupplierRefused, is_our_account=True),
    "RATE-LIMITED": Expected(SupplierRateLimited),
    "RATE-LIMITED-BARE": Expected(SupplierRateLimited),
    "CONFLICT": Expected(SupplierOutcomeUnknown),
    "ERROR": Expected(SupplierOutcomeUnknown),
    "ERROR-ISSUED": Expected(SupplierOutcomeUnknown),
    "SLOW": Expected(Delivered),
    "SILENT": Expected(SupplierOutcomeUnknown),
    "LOST-ANSWER": Expected(SupplierOutcomeUnknown),
    "LOST-ORDER": Expected(SupplierOutcomeUnknown),
    "HALF-ANSWER": Expected(SupplierOutcomeUnknown),
    "GARBAGE": Expected(SupplierOutcomeUnknown),
    "NO-CODE": Expected(SupplierOutcomeUnknown),
    "OTHER-ORDER": Expected(SupplierOutcomeUnknown),
    "ODD": Expected(Delivered, ("activation-code-not-sgp22", "iccid-wrong-check-digit")),
    "MINIMAL": Expected(Delivered, ("iccid-missing",)),
    "CONFIRMATION": Expected(Delivered),
    "CREATED": Expected(Delivered),
}

TO_MEET = {"SLOW": "SANDBOX-SLOW-0"}
"""Codes other than `SANDBOX-<name>`, so that the tests don't wait."""


async def ask_by_tribi(sandbox: Sandbox, plan_code: str, timeout_s: float = _PATIENT_S) -> object:
    """What Tribi's own ConnectedYou provider makes of it."""
    provider = ConnectedYou("partner-1", "any-key", sandbox.url, Wire("any-key", timeout_s))
    request = ProvisionRequest(1, "order-1", plan_code, "Spain 5GB", "ES", "user@example.com", "Test User")
    try:
        return await provider.provision(provider.prepare(request), may_send=lambda: True)
    except EsimProvisioningError as error:
        return error
    finally:
        await provider.close()


def test_every_behaviour_has_an_expectation() -> None:
    assert set(EXPECTED) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
async def test_tribi_makes_of_it_what_the_design_says(sandbox: Sandbox, name: str) -> None:
    expected = EXPECTED[name]
    timeout_s = 1 if TABLE[name].reply is Reply.SILENCE else _PATIENT_S
    result = await ask_by_tribi(sandbox, TO_MEET.get(name, f"SANDBOX-{name}"), timeout_s)
    assert type(result) is expected.kind
    if isinstance(result, Delivered):
        assert result.warnings == expected.warnings
    if isinstance(result, SupplierRefused):
        assert result.concerns_account is expected.is_our_account
    [entry] = (await sandbox.ledger())["entries"]
    assert entry["behaviour"] == TO_MEET.get(name, f"SANDBOX-{name}")
    assert entry["is_billed"] is TABLE[name].is_issued
    if isinstance(result, Delivered):
        assert entry["esim"]["activation_code"] == result.activation_code.text
    else:
        assert (entry["esim"] is not None) is TABLE[name].is_issued


@pytest.mark.parametrize("name", [name for name, behaviour in TABLE.items() if behaviour.reply is Reply.ESIM])
async def test_what_answers_with_an_esim_keeps_the_contract(sandbox: Sandbox, name: str) -> None:
    reply = await sandbox.order(plan_code=TO_MEET.get(name, f"SANDBOX-{name}"))
    assert reply.status == (201 if name == "CREATED" else 200)
    assert draft_contract().answer_breaches(reply.json()) == []


async def test_a_code_may_ask_for_a_confirmation_code(sandbox: Sandbox) -> None:
    delivered = await ask_by_tribi(sandbox, "SANDBOX-CONFIRMATION")
    assert isinstance(delivered, Delivered)
    assert delivered.activation_code.confirmation_code_required


@pytest.mark.parametrize(
    ("plan_code", "status", "retry_after"),
    [
        ("SANDBOX-RATE-LIMITED", 429, "10"),
        ("SANDBOX-RATE-LIMITED-0", 429, "0"),
        ("SANDBOX-RATE-LIMITED-3600", 429, "3600"),
        ("SANDBOX-RATE-LIMITED-BARE", 429, None),
        ("SANDBOX-ERROR", 500, None),
        ("SANDBOX-ERROR-503", 503, None),
        ("SANDBOX-ERROR-ISSUED-599", 599, None),
        ("SANDBOX-OUT-OF-STOCK", 422, None),
        ("sandbox-credit-limit", 402, None),
    ],
)
async def test_an_error_has_its_status_and_a_body_that_says_so(
    sandbox: Sandbox, plan_code: str, status: int, retry_after: str | None
) -> None:
    reply = await sandbox.order(plan_code=plan_code)
    assert (reply.status, reply.headers.get("Retry-After")) == (status, retry_after)
    assert set(reply.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    "plan_code",
    [
        *(
            "SANDBOX-",
            "SANDBOX-NONSENSE",
            "SANDBOX-REFUSED-5",
            "SANDBOX-SLOW-",
            "SANDBOX-SLOW-soon",
            "SANDBOX-ERROR-499",
        ),
        *("SANDBOX-ERROR-600", "SANDBOX-SLOW--1", "SANDBOX-SLOW-99999", "SANDBOX-SLOW-²", "SANDBOX-ONCE"),
    ],
)
async def test_a_misspelt_one_passes_for_no_ordinary_plan(sandbox: Sandbox, plan_code: str) -> None:
    with pytest.raises(NoSuchBehaviour):
        forced_by(plan_code)
    reply = await sandbox.order(plan_code=plan_code)
    assert (reply.status, reply.json()["error"]["code"]) == (404, "unknown_plan")
    assert (await sandbox.ledger())["esims"] == 0


async def test_with_once_only_the_first_request_of_an_order_meets_it(sandbox: Sandbox) -> None:
    statuses = [
        (await sandbox.order(ref, "SANDBOX-ERROR-503-ONCE")).status for ref in ("order-1", "order-1", "order-2")
    ]
    assert statuses == [503, 200, 503]


async def test_slow_waits_for_as_long_as_it_says(sandbox: Sandbox) -> None:
    clock = asyncio.get_running_loop().time
    begun = clock()
    await sandbox.bought(plan_code="SANDBOX-SLOW-1")
    assert clock() - begun >= 1


async def test_a_slow_one_holds_nobody_up(sandbox: Sandbox) -> None:
    slow = asyncio.create_task(sandbox.order("order-1", "SANDBOX-SLOW-3600"))
    await until(lambda: sandbox.esims())
    await sandbox.bought("order-2")
    assert not slow.done()
    slow.cancel()
    await asyncio.wait([slow])


def posted(plan_code: str) -> bytes:
    body = json.dumps(an_order(plan_code=plan_code)).encode()
    lines = ["POST /partners/orders HTTP/1.1", "Host: sandbox", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("plan_code", ["SANDBOX-LOST-ANSWER", "SANDBOX-LOST-ORDER"])
async def test_of_a_lost_answer_not_a_byte_comes(sandbox: Sandbox, plan_code: str) -> None:
    assert await raw(sandbox.url, posted(plan_code)) == b""


async def test_half_an_answer_is_a_half(sandbox: Sandbox) -> None:
    head, _, body = (await raw(sandbox.url, posted("SANDBOX-HALF-ANSWER"))).partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: ([0-9]+)", head)
    assert length
    assert len(body) == int(length[1]) // 2


async def test_what_is_silent_goes_on_until_they_hang_up(sandbox: Sandbox) -> None:
    """Then the sandbox answers others, and ends, without waiting for it."""
    assert isinstance(await ask_by_tribi(sandbox, "SANDBOX-SILENT", timeout_s=0.5), SupplierOutcomeUnknown)
    assert (await sandbox.order("order-2")).status == 200


def test_help_lists_them_all_each_on_a_line() -> None:
    lines = CliRunner().invoke(cli.app, ["sandbox", "--help"]).output.splitlines()
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.split()[:1]}
    for behaviour in TABLE.values():
        assert told[behaviour.usage] == behaviour.does


async def test_the_page_and_the_json_list_them_all(sandbox: Sandbox) -> None:
    rows = (await sandbox.call("GET", "/sandbox/behaviours")).json()["behaviours"]
    assert {row["plan_code"]: row["is_billed"] for row in rows} == {b.usage: b.is_issued for b in TABLE.values()}
    page = await sandbox.page()
    assert [b.usage for b in TABLE.values() if b.usage not in page] == []


def test_the_docs_list_them_all_and_what_tribi_makes_of_them() -> None:
    rows = re.findall(r"^\| `(SANDBOX-[^`]+)` \| (yes|no) \| [^|]+ \| ([^|]+) \|$", docs(), re.MULTILINE)
    assert [row[0] for row in rows] == [b.usage for b in TABLE.values()]
    for name, (_, is_billed, becomes) in zip(TABLE, rows, strict=True):
        assert (is_billed == "yes") is TABLE[name].is_issued
        assert BECOMES[EXPECTED[name].kind] in becomes, name
        assert [warning for warning in EXPECTED[name].warnings if warning not in becomes] == []


BECOMES: dict[Kind, str] = {
    Delivered: "provisioned",
    SupplierRefused: "refused",
    SupplierRateLimited: "pending",
    SupplierOutcomeUnknown: "unknown",
}


def docs() -> str:
    return (ROOT / "docs" / "sandbox.md").read_text()


def test_the_example_catalogue_has_a_plan_for_each_of_them() -> None:
    with (ROOT / "examples" / "sandbox_catalogue.csv").open(newline="") as file:
        codes = [row["connected_you_plan_code"] for row in csv.DictReader(file)]
    forced = [forced_by(code) for code in codes]
    assert {each.behaviour.name for each in forced if each} == set(TABLE)
    assert None in forced, "there is no plan that just works"
