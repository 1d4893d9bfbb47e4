"""The one oracle: the supplier's ledger, what the supplier received, and the database, compared order by order."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, text

from app.db import Database
from app.services.esims.esim import place_of
from app.services.esims.intent import DEADLINE_MARGIN_S, attempt_place, reference_of
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.vault import CannotOpen, Vault
from tests.chaos.outcome import PROMISES, Verdict
from tests.stand_in import Issued, Seen
from tests.stand_in.faults.table import TABLE

_TAKES_ITS_TIME = re.compile("slow|hold|drip")
"""Faults whose whole answer may come after the client has given up."""

_PROFILES = text("""
    SELECT profile.id, profile.order_id, profile.status, profile.activation_code,
           profile.provider_payload IS NOT NULL AS has_payload,
           EXISTS (SELECT FROM audit_log WHERE subject_type = 'esim_profiles' AND subject_id = profile.id
                   AND tag = 'esims.provisioned') AS is_recorded,
           EXISTS (SELECT FROM audit_log WHERE subject_type = 'esim_profiles' AND subject_id = profile.id
                   AND tag = 'esims.resolved_issued') AS is_settled_by_hand,
           EXISTS (SELECT FROM procrastinate_jobs WHERE task_name = 'esims.provisioned'
                   AND (args ->> 'esim_id')::bigint = profile.id) AS has_job
    FROM esim_profiles profile ORDER BY profile.id
""")
_ATTEMPTS = text("""
    SELECT id, reference, outcome, response_status, response_body,
           duration_ms >= 1000 * (extract(epoch FROM deadline_at - opened_at) - :margin_s) AS has_run_out_of_time
    FROM provisioning_attempts ORDER BY id
""")


@dataclass(frozen=True)
class Evidence:
    """
    What a run saw besides the database.

    Attributes:
        issued: the ledger.
        received: the supplier's requests, as its `requests` lists them.
        disturbed: references whose server died or failed on purpose between sending and storing: an answer that nobody could
            take is not missed. All others' answers must be on file.
        activated: orders that the run has driven to an end; None for all.
    """

    issued: Sequence[Issued]
    received: Sequence[Mapping[str, Any]]
    disturbed: Collection[str] = frozenset()
    activated: Collection[int] | None = None


@dataclass
class _Tally:
    counts: Counter[str] = field(default_factory=Counter)
    cases: list[str] = field(default_factory=list)

    def note(self, breach: str, case: str) -> None:
        self.counts[breach] += 1
        self.cases.append(f"{breach}: {case}")


async def judge(db: Database, vault: Vault, evidence: Evidence) -> Verdict:
    """
    After recovery:

    doubled    ledger lines of an order beyond the first
    lost       a ledger line whose order is neither provisioned with that very code nor unknown
    invented   an order that is provisioned with a code that no ledger line of its own has
    stuck      an order still pending or provisioning although it was driven to an end, or an attempt that is open
    silent     an answer that was taken, without its body on its attempt; a provisioned eSIM without payload, audit row or job
    false unknowns: an order that is unknown although the supplier never received it
    """
    async with db.read() as connection:
        profiles = (await connection.execute(_PROFILES)).all()
        attempts = (await connection.execute(_ATTEMPTS, {"margin_s": DEADLINE_MARGIN_S})).all()
    tally = _Tally()
    _judge_ledger(tally, vault, profiles, evidence)
    _judge_ends(tally, profiles, attempts, evidence)
    for breach in _silences(vault, profiles, attempts, evidence):
        tally.note("silent", breach)
    received = {request["reference"] for request in evidence.received}
    false_unknowns = sum(row.status == "unknown" and reference_of(row.order_id) not in received for row in profiles)
    return Verdict(
        **{name: tally.counts[name] for name in PROMISES}, false_unknowns=false_unknowns, cases=tuple(tally.cases)
    )


def _judge_ledger(tally: _Tally, vault: Vault, profiles: Sequence[Row[Any]], evidence: Evidence) -> None:
    codes_of: defaultdict[str, list[str]] = defaultdict(list)
    for line in evidence.issued:
        codes_of[line.reference].append(line.activation_code)
    rows = {reference_of(row.order_id): row for row in profiles}
    for reference, codes in codes_of.items():
        for _ in codes[1:]:
            tally.note("doubled", f"{reference} was bought {len(codes)} times")
        row = rows.get(reference)
        status = row.status if row is not None else "not in the database"
        held = _code_of(vault, row) if row is not None else None
        for code in codes:
            if status != "unknown" and not _is_same(held, code):
                tally.note("lost", f"{reference} was issued an eSIM, and is {status} without it")
    for reference, row in rows.items():
        held = _code_of(vault, row)
        if row.status == "provisioned" and not any(_is_same(held, code) for code in codes_of[reference]):
            tally.note("invented", f"{reference} has an eSIM that it was never issued")


def _judge_ends(tally: _Tally, profiles: Sequence[Row[Any]], attempts: Sequence[Row[Any]], evidence: Evidence) -> None:
    for row in profiles:
        is_driven = evidence.activated is None or row.order_id in evidence.activated
        if is_driven and row.status in {"pending", "provisioning"}:
            tally.note("stuck", f"{reference_of(row.order_id)} is {row.status}")
    for row in attempts:
        if row.outcome is None:
            tally.note("stuck", f"attempt {row.id} of {row.reference} is open")


def _silences(
    vault: Vault, profiles: Sequence[Row[Any]], attempts: Sequence[Row[Any]], evidence: Evidence
) -> Iterator[str]:
    for row in profiles:
        if row.status == "provisioned" and not (row.has_payload or row.is_settled_by_hand):
            yield f"{reference_of(row.order_id)} is provisioned without the provider's words"
        if row.status == "provisioned" and not (row.is_recorded or row.is_settled_by_hand):
            yield f"{reference_of(row.order_id)} is provisioned, and the audit trail doesn't say so"
        if row.status == "provisioned" and not row.has_job:
            yield f"{reference_of(row.order_id)} is provisioned, and nobody is told"
    on_file: Counter[tuple[str, int]] = Counter()
    late: set[str] = set()
    for row in attempts:
        has_body = row.response_body is not None and _opens(vault, row)
        is_answer = row.outcome in {"delivered", "accepted", "refused", "held_off", "surplus"}
        if (is_answer or row.response_status is not None) and not has_body:
            yield f"attempt {row.id} of {row.reference} is {row.outcome} without the answer's body"
        if has_body and row.response_status is not None:
            on_file[row.reference, row.response_status] += 1
        if row.has_run_out_of_time:
            late.add(row.reference)
    for (reference, status), number in _whole_answers(evidence).items():
        missing = 0 if reference in late else number - on_file[reference, status]
        for _ in range(missing):
            yield f"{reference} was answered with {status}, which no attempt has on file"


def _whole_answers(evidence: Evidence) -> Counter[tuple[str, int]]:
    """How often the supplier gave an order a whole answer of a status, at once, and to a process that could take it."""
    answers: Counter[tuple[str, int]] = Counter()
    for request in evidence.received:
        fault = TABLE.get(str(request["fault"]))
        if fault is None or fault.seen is not Seen.ANSWER or fault.status is None or request["ended"] != "answered":
            continue
        if request["reference"] not in evidence.disturbed and not _TAKES_ITS_TIME.match(fault.name):
            answers[request["reference"], fault.status] += 1
    return answers


def _code_of(vault: Vault, row: Row[Any]) -> str | None:
    return vault.open_text(row.activation_code, place_of("activation_code", row.id))


def _is_same(held: str | None, issued: str) -> bool:
    """To the letter, or up to what two spellings of one code share (a person types it in)."""
    if held is None:
        return False
    try:
        identity = ActivationCode.read(issued).identity
    except UnusableActivationCode:
        return False
    return held == issued or (identity is not None and identity == ActivationCode.read(held).identity)


def _opens(vault: Vault, row: Row[Any]) -> bool:
    try:
        vault.keyring.open(row.response_body, attempt_place("response_body", row.id))
    except CannotOpen:
        return False
    return True
