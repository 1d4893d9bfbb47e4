"""G9, the hostile supplier: every fault of the stand-in through a whole activation, and good answers mutated by the thousand.

Memory is that of the process which makes the calls: the stand-in, which makes the bombs, is a child.
"""

import asyncio
import gc
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from app.house import House
from app.services.esim_providers import (
    Delivered,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
)
from app.services.esim_providers.connected_you.wire import Wire
from tests import provider_cases as cases
from tests.chaos.mutations import Mutated, mutated, readable_code
from tests.chaos.outcome import Outcome, Tick
from tests.chaos.purchases import API_KEY, Desk, OnFile, a_desk, house_of, unforeseen
from tests.chaos.stage import a_stage
from tests.stand_in import Issued, StandIn, read_ledger
from tests.stand_in.elsewhere import StandInChild
from tests.stand_in.faults import TABLE
from tests.stand_in.issuing import activation_code, issue

PATIENT_S = 60.0
SHORT_S = 2.0
MOST_MB = 20
LANES = 16
OTHERS = 5
_MOST_TRIES = 10

_STATUS: dict[cases.Kind, str] = {
    Delivered: "provisioned",
    SupplierRefused: "refused",
    SupplierRateLimited: "pending",
    SupplierOutcomeUnknown: "unknown",
}
_HELD_BY_ANOTHER = (*sorted(cases.OF_ANOTHER_ORDER), "same_iccid")
"""Delivered as far as the provider's adapter can see; the database knows whose they are."""


@dataclass
class Site:
    """A house, a stand-in with a ledger, and what went wrong so far."""

    house: House
    supplier: StandInChild
    ledger: Path
    failures: list[str] = field(default_factory=list)

    async def script(self, order_id: int, fault: object) -> None:
        await self.supplier.post("script", {"faults": [fault], "reference": f"order-{order_id}"})

    def issued(self) -> dict[str, list[Issued]]:
        lines: dict[str, list[Issued]] = {}
        for line in read_ledger(self.ledger):
            lines.setdefault(line.reference, []).append(line)
        return lines


# --- every fault, once


async def scripted(house: House, folder: Path) -> Outcome:
    """All faults of the table, each through a whole activation of an order of its own. `figures`: `memory_mb`, `slowest_s`."""
    ledger = folder / "ledger.jsonl"
    async with (
        StandIn() as target,
        StandInChild("--ledger", ledger, "--no-fsync", "--api-key", API_KEY) as supplier,
    ):
        site = Site(house, supplier, ledger)
        with unforeseen() as complaints:
            figures = await _all_faults(site, f"-{target.port}")
        state = await supplier.get("state")
        site.failures += complaints + [f"the stand-in: {breach}" for breach in state["violations"]]
        if target.connections:
            site.failures.append("a redirect was followed")
    never_met = set(TABLE) - set(state["faults"])
    site.failures += [f"never met: {fault}" for fault in sorted(never_met)]
    counts = Counter(state["faults"])
    return Outcome(counts.total(), counts, figures=figures, failures=site.failures)


async def _all_faults(site: Site, target: str) -> dict[str, float]:
    others = {*cases.NEVER_ENDING, *cases.RATE_LIMITED, *_HELD_BY_ANOTHER}
    quick = [fault for fault in TABLE if fault not in others]
    async with (
        a_desk(site.house, site.supplier.url, Wire(API_KEY, PATIENT_S), PATIENT_S) as patient,
        a_desk(site.house, site.supplier.url, Wire(API_KEY, SHORT_S), SHORT_S) as short,
    ):
        await _warm_up(site, patient)
        gc.collect()
        before_mb = _memory_mb()
        watching = asyncio.create_task(patient.line.watch_the_loop())
        await _met(site, patient, quick, target, at_once=LANES)
        await _met(site, patient, list(cases.RATE_LIMITED), target, at_once=1)
        for fault in _HELD_BY_ANOTHER:
            await _met(site, patient, ["none", fault], target, at_once=1)
        floods = [fault for fault in sorted(cases.NEVER_ENDING) if fault.startswith("endless")]
        await _met(site, short, [*sorted(cases.NEVER_ENDING - set(floods)), *cases.TOO_LATE], target, at_once=100)
        await _met(site, short, floods, target, at_once=3)  # each fills a core
        watching.cancel()
        gc.collect()
        figures = {"memory_mb": round(_memory_mb() - before_mb, 1), "slowest_s": _slowest_s(site, patient, short)}
        site.failures += patient.crashes + short.crashes
    if figures["memory_mb"] >= MOST_MB:
        site.failures.append(f"memory grew by {figures['memory_mb']} MB")
    return figures


async def _warm_up(site: Site, desk: Desk) -> None:
    """What is loaded once isn't counted, nor are the buffers of the database's connections, each as large as its largest row."""
    await _met(site, desk, ["big_plain"] * 3 * LANES, "", at_once=LANES)


async def _met(site: Site, desk: Desk, faults: Iterable[str], target: str, *, at_once: int) -> None:
    slots = asyncio.Semaphore(at_once)

    async def meet(fault: str) -> None:
        async with slots:
            order_id = await desk.order()
            argument = cases.ARGUMENTS.get(fault)
            if fault.startswith("redirect_3"):
                fault += target
            await site.script(order_id, f"{fault}-{argument}" if argument else fault)
            name = fault if fault in cases.TOO_LATE else fault.partition("-")[0]
            found = await _ended(desk, order_id, is_asked_to_wait=name in cases.RATE_LIMITED)
            site.failures += _broken(name, order_id, found)
            site.failures += _unkept(fault, order_id, found, desk, site.issued().get(f"order-{order_id}", []))

    await asyncio.gather(*map(meet, faults))


async def _ended(desk: Desk, order_id: int, *, is_asked_to_wait: bool) -> OnFile:
    """On a machine that is too busy an order isn't sent in time, and stays pending: it is activated again."""
    for tries in range(1, _MOST_TRIES + 1):
        await desk.activate(order_id)
        found = await desk.on_file(order_id)
        if found.attempts != tries:
            desk.crashes.append(f"order {order_id} has {found.attempts} attempts after {tries} activations")
        if found.status != "pending" or is_asked_to_wait:
            return found
    raise AssertionError(f"order {order_id} was never sent")


def _broken(fault: str, order_id: int, found: OnFile) -> Iterable[str]:
    """Whether the order came to what design section 3 says."""
    allowed = {_STATUS[kind] for kind in cases.expected(fault)}
    if fault in _HELD_BY_ANOTHER:
        allowed = {"unknown"}
    if found.status not in allowed:
        yield f"{fault}: order {order_id} is {found.status}, not {' or '.join(sorted(allowed))}"


def _unkept(fault: str, order_id: int, found: OnFile, desk: Desk, issued: list[Issued]) -> Iterable[str]:
    """Whether a code that was issued, or a word that was heard, is gone."""
    codes = [line.activation_code for line in issued]
    if len(codes) > 1:
        yield f"{fault}: order {order_id} was bought {len(codes)} times"
    if found.status == "provisioned" and codes != [found.code]:
        yield f"{fault}: order {order_id} is provisioned with a code that was not issued for it"
    if codes and found.status not in {"provisioned", "unknown"}:
        yield f"{fault}: order {order_id} was issued, and is {found.status}"
    if found.words != desk.line.heard[f"order-{order_id}"].words:
        yield f"{fault}: order {order_id}: the answer on file isn't the one that was heard"


def _slowest_s(site: Site, patient: Desk, short: Desk) -> float:
    """A call may take a second more than its deadline, and what this process slept because others had the machine."""
    slowest_s = 0.0
    for desk, deadline_s in ((patient, PATIENT_S), (short, SHORT_S)):
        for reference, heard in desk.line.heard.items():
            slowest_s = max(slowest_s, heard.took_s)
            if heard.took_s > deadline_s + 1 + 2 * patient.line.longest_nap_s:
                site.failures.append(f"{reference} took {heard.took_s:.1f} s, with a deadline of {deadline_s} s")
    return round(slowest_s, 2)


def _memory_mb() -> float:
    """Of this process, resident. Where the system doesn't say (macOS), the most it ever was."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


# --- good answers, mutated


@dataclass(frozen=True, slots=True)
class Sent:
    """What has to be known of an answer afterwards: `status` is None where the framing may have changed it."""

    kinds: str
    status: int | None
    is_readable: bool
    """The order's own code stands where the contract has it."""

    @classmethod
    def of(cls, answer: Mutated, reference: str) -> Self:
        is_readable = answer.body is not None and readable_code(answer.body, reference) == activation_code(reference, 1)
        return cls("+".join(answer.kinds), answer.status, is_readable)


async def hostile(house: House, folder: Path, *, n: int, seed: int, tick: Tick) -> Outcome:
    """`n` orders, each answered by a good answer that was mutated. `figures`: `memory_mb`, `provisioned`, `unknown`."""
    ledger = folder / "hostile.jsonl"
    async with StandInChild("--ledger", ledger, "--no-fsync", "--api-key", API_KEY) as supplier:
        site = Site(house, supplier, ledger)
        with unforeseen() as complaints:
            async with a_desk(house, supplier.url, Wire(API_KEY, PATIENT_S), PATIENT_S) as desk:
                counts, figures = await _all_mutations(site, desk, n, seed, tick)
                site.failures += desk.crashes
        state = await supplier.get("state")
        site.failures += complaints + [f"the stand-in: {breach}" for breach in state["violations"]]
    return Outcome(n, counts, figures=figures, failures=site.failures)


async def _all_mutations(
    site: Site, desk: Desk, n: int, seed: int, tick: Tick
) -> tuple[Counter[str], dict[str, float]]:
    others = [await _bought(desk) for _ in range(OTHERS)]
    await _warm_up(site, desk)
    numbers = iter(range(n))
    answers: dict[int, Sent] = {}
    counts: Counter[str] = Counter()

    async def lane() -> None:
        for number in numbers:
            draw = random.Random(f"{seed}/{number}")  # noqa: S311 - reproducible is what is wanted
            order_id = await desk.order()
            good = issue(f"order-{order_id}", "CY-ES-5GB", 1, 0)
            answer = mutated(draw, good, draw.choice(others))
            answers[order_id] = Sent.of(answer, good.reference)
            counts.update(answer.kinds)
            await site.script(order_id, {"issue": True, "raw": answer.raw.decode("latin-1")})
            await desk.activate(order_id)
            tick(1)

    gc.collect()
    before_mb = _memory_mb()
    await asyncio.gather(*(lane() for _ in range(LANES)))
    statuses: Counter[str] = Counter()
    owners = {line.activation_code: reference for reference, lines in site.issued().items() for line in lines}
    for order_id, answer in answers.items():
        found = await desk.on_file(order_id)
        statuses[found.status] += 1
        site.failures += [f"{answer.kinds}: {said}" for said in _judged(order_id, found, answer, owners)]
        if found.words != desk.line.heard.pop(f"order-{order_id}").words:
            site.failures.append(f"{answer.kinds}: order {order_id}: the answer on file isn't the one that was heard")
    answers.clear()
    owners.clear()
    gc.collect()
    figures = {"memory_mb": round(_memory_mb() - before_mb, 1), **{k: float(v) for k, v in statuses.items()}}
    if figures["memory_mb"] >= MOST_MB:
        site.failures.append(f"memory grew by {figures['memory_mb']} MB")
    return counts, figures


async def _bought(desk: Desk) -> Issued:
    order_id = await desk.order()
    await desk.activate(order_id)
    return issue(f"order-{order_id}", "CY-ES-5GB", 1, 0)


def _judged(order_id: int, found: OnFile, answer: Sent, owners: dict[str, str]) -> Iterable[str]:
    """The rule of money, from what was sent and what is on file alone."""
    reference = f"order-{order_id}"
    ours = activation_code(reference, 1)
    status = (found.words[0] if found.words else None) if answer.status is None else answer.status
    if found.status not in {"provisioned", "unknown"} and (status is None or 200 <= status <= 299):
        yield f"order {order_id} is {found.status} after a {status}"
    if found.status == "provisioned" and owners.get(found.code or "", reference) != reference:
        yield f"order {order_id} holds the code of {owners[found.code or '']}"
    is_success = status is not None and 200 <= status <= 299
    holds_others_iccid = "other-" in answer.kinds
    if is_success and answer.is_readable and found.code != ours and not holds_others_iccid:
        yield f"order {order_id} is {found.status}: its code was readable, and is lost"


async def run(folder: Path, *, n: int, seed: int, tick: Tick) -> Outcome:
    """Mutated answers, in an installation of their own."""
    async with a_stage(folder) as stage:
        return await hostile(house_of(stage), folder, n=n, seed=seed, tick=tick)
