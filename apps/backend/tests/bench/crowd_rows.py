"""
What a shop has on file, order by order: for each growing table a function that gives an order's rows as lines for COPY.

Everything follows from the order's number, so that tables can be written side by side; only nonces are drawn. What a read opens is
sealed for its row and opens. Ids of different tables differ, so that a join by the wrong one finds nothing.

Where it isn't as in a shop, and why that does no harm:

- An order's rows lie side by side in each table, also those that came weeks later. Whoever reads one eSIM's five events finds them
  on one page rather than on five; neither number grows with the table.
- One and a half provider events an order, not five, and answers without instructions: a third of the size. No query reads more of
  them for it.
- Page tokens follow from the eSIM's number, too, so that a test can open any page.
- Orders come evenly over the time, with no nights and no seasons.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place, reference_of
from app.services.news.receive import body_place
from app.values.iccid import luhn_digit
from app.vault import Keyring, Place, Vault

HOUR_S, DAY_S = 3600, 86400
ORDERS_FROM = 1000
"""An order's number is its eSIM's and so much."""

OPEN_OF_EACH = 40
"""So many orders of any age are pending, unknown and refused each, however many there are: people work that off."""

_LETTERS = str.maketrans("0189", "abcd")
_VALID_DAYS = 30
_TOLD_DAYS, _DONE_DAYS = 30, 7
"""So long webhook events and finished jobs are kept (`app.jobs.queue_app`)."""

_NULL = r"\N"
_PROVIDER = "CONNECTED_YOU"
_BASE_URL = "https://api.connected-you.example/v1"


@dataclass(frozen=True)
class Crowd:
    """
    Attributes:
        orders: how many; their eSIMs are numbered from 1.
        days: over which they were placed, until now.
        stock: so many of the newest are paid and not activated, every fourth one.
        keys, plans, endpoints: ids, those of plans with the JSON of their snapshots.
        now: seconds since 1970.
    """

    encryption_key: bytes = field(repr=False)
    fingerprint_key: bytes = field(repr=False)
    orders: int
    days: float
    stock: int
    keys: tuple[int, ...]
    plans: tuple[tuple[int, str], ...]
    endpoints: tuple[int, int]
    now: float

    @cached_property
    def vault(self) -> Vault:
        return Vault(Keyring((self.encryption_key,)), self.fingerprint_key)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "vault"}  # a cipher can't be sent

    def newest(self, days: float) -> range:
        """The eSIMs that were ordered in the last so many days."""
        return range(max(1, self.orders - int(self.orders * days / self.days) + 1), self.orders + 1)

    @cached_property
    def stock_ids(self) -> range:
        """The eSIMs that wait to be activated."""
        last = self.orders - self.orders % 4
        return range(last - 4 * (self.stock - 1), last + 1, 4)


class Life:
    """An eSIM's, as far as it has got."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.id = number
        self.order_id = number + ORDERS_FROM
        self.age_s = (crowd.orders - number) * crowd.days * DAY_S / crowd.orders
        self.at = crowd.now - self.age_s
        self.draw = number * 2654435761 % 2**32 // 7 % 1000
        """Evenly out of 0 to 999."""
        gap = number % max(crowd.orders // OPEN_OF_EACH, 8)
        self.order_status = "paid"
        if number in crowd.stock_ids:
            self.status = "pending"
        elif gap < 3:
            self.status = ("pending", "unknown", "refused")[gap]
        elif self.draw < 3:
            self.status = self.order_status = "cancelled"
        else:
            self.status = "provisioned"
            self.order_status = "refunded" if self.draw >= 995 else "paid"

    @property
    def owner(self) -> str:
        """Of three orders two are one traveller's."""
        return f"traveller{self.id - (self.id % 3 == 2)}@example.com"

    @cached_property
    def iccid(self) -> str:
        body = f"89999{self.id:013d}"
        return body + luhn_digit(body)

    @cached_property
    def code(self) -> str:
        return f"LPA:1$SMDP.EXAMPLE.COM${self.id * 2654435761 % 2**32:08X}-{self.id:08X}"

    @property
    def news(self) -> Iterator[tuple[int, str, float, str]]:
        """What the provider has told: number, type, time, and what its body says more."""
        if self.status == "provisioned":
            if self.draw % 4 == 0:
                yield (
                    0,
                    "PROFILE_LIFECYCLE",
                    self.at + HOUR_S,
                    '"eid":"89999000000000000000000000000042","status":"INSTALLED"',
                )
            yield 1, "PRODUCT_STATUS_CHANGE", self.at + DAY_S, '"product_status":"ACTIVATED","product_id":"636"'
            if self.draw % 8 == 1:
                used = '"data_consumed":4147.2,"data_total":5120,"percentage_consumed":81.0'
                yield 2, "USAGE_ALERT", self.at + 5 * DAY_S, used
            if self.draw % 8 == 2:
                over = '"product_status":"TERMINATED","product_id":"636"'
                yield 3, "PRODUCT_STATUS_CHANGE", self.at + (_VALID_DAYS + 1) * DAY_S, over


def _time(at: float) -> str:
    minute, second = divmod(at, 60)
    return f"{_minute(minute)}:{second:09.6f}+00"


@lru_cache(maxsize=4096)  # orders of one minute follow each other, and so does what came of them
def _minute(number: float) -> str:
    return datetime.fromtimestamp(number * 60, UTC).strftime("%Y-%m-%d %H:%M")


def _bytes(value: bytes | None) -> str:
    return _NULL if value is None else r"\\x" + value.hex()


def page_token(esim_id: int) -> str:
    return f"{esim_id:032d}".translate(_LETTERS)


def orders(crowd: Crowd, life: Life) -> Iterator[str]:
    plan_id, snapshot = crowd.plans[life.id % len(crowd.plans)]
    yield (
        f"{life.order_id}\t{life.order_status}\t{plan_id}\t{snapshot}\t1290\tEUR\t{life.owner}\tAna Traveller\tes-ES\t"
        f"pay_{life.id:010d}\t{crowd.keys[life.draw % len(crowd.keys)]}\t{_time(life.at)}"
    )


def idempotency_keys(_: Crowd, life: Life) -> Iterator[str]:
    digest = hashlib.md5(b"%d" % life.id, usedforsecurity=False).hexdigest()
    yield f"cart-{digest}\t{_bytes(hashlib.sha256(digest.encode()).digest())}\t{life.order_id}\t{_time(life.at)}"


def esim_profiles(crowd: Crowd, life: Life) -> Iterator[str]:
    vault, number = crowd.vault, life.id
    seal, nothing = vault.seal_text, _NULL
    token = page_token(number)
    page = f"{_bytes(seal(token, place_of('page_token', number)))}\t{_bytes(hashlib.sha256(token.encode()).digest())}"
    shared = f"{number}\t{life.order_id}\t{life.status}\tt\t{_PROVIDER}\t{reference_of(life.order_id)}"
    expires = _time(life.at + 120 * DAY_S)
    if life.status != "provisioned":
        yield "\t".join((shared, *[nothing] * 12, page, expires, *[nothing] * 2, _time(life.at), _time(life.at)))
        return
    age_s, draw = life.age_s, life.draw
    if age_s < DAY_S:
        plan_state = "not_started"
    else:  # of some nobody has told the end
        plan_state = "terminated" if age_s > (_VALID_DAYS + 1) * DAY_S and draw % 50 != 3 else "active"
    has_begun, is_installed, has_usage = (
        age_s >= DAY_S,
        draw % 4 == 0 and age_s > HOUR_S,
        draw % 8 == 1 and age_s > 5 * DAY_S,
    )
    yield "\t".join(
        (
            shared,
            _time(life.at + 6),
            _bytes(seal(life.code, place_of("activation_code", number))),
            _bytes(vault.fingerprint("activation_code", life.code.removeprefix("LPA:"))),
            _bytes(seal(life.iccid, place_of("iccid", number))),
            _bytes(vault.fingerprint("iccid", life.iccid)),
            _bytes(seal(_answer(life), place_of("provider_payload", number))),
            "installed" if is_installed else nothing,
            _time(life.at + HOUR_S) if is_installed else nothing,
            plan_state,
            _time(life.at + DAY_S) if has_begun else nothing,
            "4147.2" if has_usage else nothing,
            "5120" if has_usage else nothing,
            page,
            expires,
            _time(life.at + DAY_S) if has_begun else nothing,
            _time(life.at + (1 + _VALID_DAYS) * DAY_S) if has_begun else nothing,
            _time(life.at),
            _time(life.at + DAY_S) if has_begun else _time(life.at + 6),
        )
    )


def _answer(life: Life) -> str:
    reference = reference_of(life.order_id)
    return f'{{"data": {{"orderReference": "{reference}", "activationCode": "{life.code}", "iccid": "{life.iccid}"}}}}'


def provisioning_attempts(crowd: Crowd, life: Life) -> Iterator[str]:
    if life.status in {"pending", "cancelled"}:
        return
    if life.status == "provisioned" and 980 <= life.draw < 990:
        yield _attempt(crowd, life, life.id * 2 - 1, life.at + 2, "not_sent", "provider-unreachable", None)
    answers = {
        "provisioned": ("delivered", None, _answer(life)),
        "refused": ("refused", "provider-refused", '{"error":"no_stock"}'),
    }
    outcome, problem, answer = answers.get(life.status, ("unknown", "activation-outcome-unknown", None))
    yield _attempt(crowd, life, life.id * 2, life.at + 5, outcome, problem, answer)


def _attempt(
    crowd: Crowd, life: Life, number: int, at: float, outcome: str, problem: str | None, answer: str | None
) -> str:
    reference = reference_of(life.order_id)
    body = (
        f'{{"partnerId": "partner-4711", "orderReference": "{reference}", "planCode": "CY-ES-5GB", "countryIso2": "ES", '
        f'"quantity": 1, "customer": {{"email": "{life.owner}", "name": "Ana Traveller"}}, '
        f'"metadata": {{"order_id": {life.order_id}, "plan_name": "Spain 5GB"}}}}'
    )
    seal = crowd.vault.seal_text
    return (
        f"{number}\t{life.id}\t{_PROVIDER}\tt\t{reference}\t{_BASE_URL}\tpartner-4711\t"
        f"{_bytes(seal(body, attempt_place('request', number)))}\tkey:{crowd.keys[0]}\t{_time(at)}\t{_time(at + 30)}\t{outcome}\t"
        f"{problem or _NULL}\t{_time(at + 1.2)}\t{_NULL if answer is None else 201}\t"
        f"{_bytes(seal(answer, attempt_place('response_body', number)))}\t{_NULL if answer else 'ConnectionRefusedError'}\t1200"
    )


def audit_log(crowd: Crowd, life: Life) -> Iterator[str]:
    key, number = f"key:{crowd.keys[life.draw % len(crowd.keys)]}", life.id * 8
    yield _noted(number, life.at, key, "orders.placed", "orders", life.order_id, '{"sku": "es-5gb-30d"}')
    if life.status not in {"pending", "cancelled"}:
        told = f'{{"attempt_id": {life.id * 2}}}'
        ending = {"provisioned": "provisioned", "refused": "activation_refused"}.get(life.status, "outcome_unknown")
        yield _noted(number + 1, life.at + 5, key, "esims.activation_started", "esim_profiles", life.id, told)
        yield _noted(number + 2, life.at + 6, key, f"esims.{ending}", "esim_profiles", life.id, told)
    for nth, kind, at, _ in life.news:
        if at < crowd.now:
            tag = "esims.usage_told" if kind == "USAGE_ALERT" else "esims.plan_state_changed"
            told = f'{{"at": "{_time(at)}", "event": {life.id * 6 + nth}}}'
            yield _noted(number + 3 + nth, at, f"provider:{_PROVIDER}", tag, "esim_profiles", life.id, told)


def _noted(number: int, at: float, actor: str, tag: str, subject: str, subject_id: int, details: str) -> str:
    return f"{number}\t{_time(at)}\t{actor}\t{tag}\t{subject}\t{subject_id}\t{details}\t{number:032x}"


def provider_events(crowd: Crowd, life: Life) -> Iterator[str]:
    for nth, kind, at, more in life.news:
        if at < crowd.now:
            yield _event(crowd, life.id * 6 + nth, kind, at, life.iccid, more, "applied", life.id)
    if life.id % max(crowd.orders // 200, 4) == 3:  # another shop's eSIM, on the same account
        foreign = f"89998{life.id:014d}"
        yield _event(
            crowd, life.id * 6 + 4, "PROFILE_LIFECYCLE", life.at, foreign, '"status":"INSTALLED"', "parked", None
        )
    if life.id % max(crowd.orders // 20, 4) == 3 and life.id < crowd.orders / 2:  # odd ones, all of them long ago
        yield _event(
            crowd, life.id * 6 + 5, "PRODUCT_STATUS_CHANGE", life.at, life.iccid, '"status":"?"', "odd", life.id
        )


def _event(
    crowd: Crowd, number: int, kind: str, at: float, iccid: str, more: str, outcome: str, esim_id: int | None
) -> str:
    body = f'{{"event_type":"{kind}","iccid":"{iccid}","event_timestamp":"{_time(at)}",{more}}}'
    fingerprint = crowd.vault.fingerprint
    return (
        f"{number}\t{_PROVIDER}\t{_bytes(fingerprint('provider_event', f'{kind}{number}'))}\t"
        f"{_bytes(crowd.vault.seal_text(body, body_place(number)))}\t{kind}\t{_bytes(fingerprint('iccid', iccid))}\t{_time(at)}\t"
        f"{_time(at + 2)}\t{outcome}\t{esim_id or _NULL}\t{_time(at + 3)}"
    )


def outgoing_mails(_: Crowd, life: Life) -> Iterator[str]:
    if life.status != "provisioned":
        return
    is_refused = life.draw == 500
    ending = f"\\N\t{_time(life.at + 9)}\t550 5.1.1 no such user" if is_refused else f"{_time(life.at + 8)}\t\\N\t\\N"
    yield f"{life.id * 4}\t{life.id}\tinstructions\t0\t{_time(life.at + 7)}\t{ending}"
    if life.draw % 100 == 7:
        yield f"{life.id * 4 + 1}\t{life.id}\tresend\t1\t{_time(life.at + HOUR_S)}\t{_time(life.at + HOUR_S + 1)}\t\\N\t\\N"
    for nth, kind, at in _notices(life):
        if kind != "data_50":
            yield f"{life.id * 4 + 1 + nth}\t{life.id}\t{kind}\t0\t{_time(at)}\t{_time(at + 1)}\t\\N\t\\N"


def crossed_thresholds(_: Crowd, life: Life) -> Iterator[str]:
    for _nth, threshold, at in _notices(life):
        yield f"{life.id}\t{threshold}\t{_time(at)}"


def _notices(life: Life) -> Iterator[tuple[int, str, float]]:
    if life.status != "provisioned":
        return
    if life.draw % 8 == 1 and life.age_s > 5 * DAY_S:
        yield 0, "data_50", life.at + 5 * DAY_S
        yield 1, "data_80", life.at + 5 * DAY_S
    ends_in_s = (1 + _VALID_DAYS) * DAY_S - life.age_s
    if ends_in_s < DAY_S and (life.draw % 4 == 0 or ends_in_s > 0) and life.id % 97:  # the sweep comes for the others
        yield 2, "expires_24h", life.at + _VALID_DAYS * DAY_S


_TOLD = ((0, "order.paid", 0), (1, "esim.provisioned", 6), (2, "esim.plan_state_changed", 9))


def webhook_events(_: Crowd, life: Life) -> Iterator[str]:
    for nth, kind, after_s in _TOLD:
        number = life.id * 3 + nth
        told = f'{{"order_id": {life.order_id}, "esim_id": {life.id}, "is_live": true, "status": "paid"}}'
        yield f"{number}\tmsg_{number:032x}\t{kind}\t{told}\t{_time(life.at + after_s)}"


def webhook_deliveries(crowd: Crowd, life: Life) -> Iterator[str]:
    every, one = crowd.endpoints
    for nth, kind, after_s in _TOLD:
        at = life.at + after_s
        for place, endpoint in enumerate((every, one) if kind == "esim.provisioned" else (every,)):
            number = (life.id * 3 + nth) * 2 + place
            is_failed = (
                nth == 2 and life.id % max(crowd.orders // 100, 4) == 3 and life.age_s > DAY_S
            )  # none of them new
            is_pending = life.id > crowd.orders - 8
            status = "pending" if is_pending else "failed" if is_failed else "delivered"
            went = f'[{{"at": "{_time(at)}", "ms": 42, "said": "", "status": {500 if is_failed else 204}, "outcome": "{status}"}}]'
            when = f"{_time(at)}\t\\N" if is_pending else f"\\N\t{_time(at + 1)}"
            yield f"{number}\t{life.id * 3 + nth}\t{endpoint}\t{status}\t1\t{when}\t{went}\t{_time(at)}"


def _jobs_of(crowd: Crowd, life: Life) -> Iterator[tuple[int, str, str, str, float]]:
    """Finished ones of the last days, and those that were given up, which stay."""
    if life.age_s < _DONE_DAYS * DAY_S:
        yield life.id * 4, "esims.provisioned", f'{{"esim_id": {life.id}}}', "succeeded", life.at + 6
        yield life.id * 4 + 1, "providers.event_received", f'{{"event_id": {life.id * 6}}}', "succeeded", life.at + 9
    elif life.id % max(crowd.orders // 20, 4) == 3:
        yield life.id * 4, "esims.provisioned", f'{{"esim_id": {life.id}}}', "failed", life.at + 6


def procrastinate_jobs(crowd: Crowd, life: Life) -> Iterator[str]:
    for number, task, args, status, _ in _jobs_of(crowd, life):
        yield f"{number}\t{task}\t{task}\t0\t{args}\t{status}\t1"


def procrastinate_events(crowd: Crowd, life: Life) -> Iterator[str]:
    for number, _, _, status, at in _jobs_of(crowd, life):
        for nth, kind in enumerate(("deferred", "started", status)):
            yield f"{number * 3 + nth}\t{number}\t{kind}\t{_time(at + nth)}"


def travellers(_: Crowd, life: Life) -> Iterator[str]:
    if life.id % 10 == 0:
        yield f"{life.id // 10}\t{life.owner}\t{_time(life.at)}"


def traveller_sessions(_: Crowd, life: Life) -> Iterator[str]:
    if life.id % 10 == 0:
        token = hashlib.sha256(b"session %d" % life.id).digest()
        yield f"{life.id}\t{life.id // 10}\t{_bytes(token)}\t{_time(life.at)}\t{_time(life.at)}\t{_time(life.at + 30 * DAY_S)}"


def sign_in_codes(crowd: Crowd, life: Life) -> Iterator[str]:
    if life.id % 10 == 0:
        token = hashlib.sha256(b"code %d" % life.id).digest()
        address = crowd.vault.seal_text(life.owner, Place("sign_in_codes", "address", life.id))
        kept = f"{_bytes(token)}\t{_bytes(token[:16])}\t{_bytes(token)}\t{_bytes(address)}\ten"
        yield f"{life.id}\t{kept}\t1\t{_time(life.at)}\t{_time(life.at + 600)}\t{_time(life.at + 60)}"


def rate_limits(_: Crowd, life: Life) -> Iterator[str]:
    yield f"{_bytes(hashlib.sha256(b'bucket %d' % life.id).digest()[:16])}\t{_time(life.at + HOUR_S)}"


@dataclass(frozen=True)
class Rows:
    """A table's columns that are written, its rows, and which days' orders have any; None: all."""

    columns: str
    of: Callable[[Crowd, Life], Iterator[str]]
    days: float | None = None

    @property
    def table(self) -> str:
        return self.of.__name__

    def of_orders(self, crowd: Crowd) -> range:
        return range(1, crowd.orders + 1) if self.days is None else crowd.newest(self.days)


# The slowest first, so that processes that share them end at about the same time.
TABLES: tuple[Rows, ...] = (
    Rows(
        "id, order_id, status, is_live, provider, provider_reference, provisioned_at, activation_code, "
        "activation_code_fingerprint, iccid, iccid_fingerprint, provider_payload, profile_state, profile_state_at, plan_state, "
        "plan_state_at, data_used_mb, data_total_mb, page_token, page_token_hash, page_expires_at, plan_active_at, "
        "plan_expires_at, created_at, updated_at",
        esim_profiles,
    ),
    Rows("id, at, actor, tag, subject_type, subject_id, details, request_id", audit_log),
    Rows(
        "id, provider, fingerprint, body, kind, iccid_fingerprint, at, received_at, outcome, profile_id, settled_at",
        provider_events,
    ),
    Rows(
        "id, profile_id, provider, is_live, reference, base_url, partner_id, request, requested_by, opened_at, deadline_at, "
        "outcome, problem, closed_at, response_status, response_body, error, duration_ms",
        provisioning_attempts,
    ),
    Rows(
        "id, status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name, customer_locale, "
        "payment_reference, placed_by_key_id, created_at",
        orders,
    ),
    Rows("id, profile_id, kind, number, created_at, sent_at, refused_at, error", outgoing_mails),
    Rows("key, request_hash, order_id, created_at", idempotency_keys),
    Rows("profile_id, threshold, crossed_at", crossed_thresholds),
    Rows("id, address, created_at", travellers),
    Rows("id, queue_name, task_name, priority, args, status, attempts", procrastinate_jobs),
    Rows("id, job_id, type, at", procrastinate_events),
    Rows("id, message_id, type, data, occurred_at", webhook_events, _TOLD_DAYS),
    Rows(
        "id, event_id, endpoint_id, status, attempts, next_attempt_at, ended_at, history, created_at",
        webhook_deliveries,
        _TOLD_DAYS,
    ),
    Rows("id, traveller_id, token_hash, created_at, last_used_at, ends_at", traveller_sessions, 7),
    Rows(
        "id, request_hash, code_salt, code_hash, address, language, tries, created_at, expires_at, used_at",
        sign_in_codes,
        1,
    ),
    Rows("bucket, free_at", rate_limits, 0.5),
)


def snapshot_line(snapshot: dict[str, Any]) -> str:
    """A plan's snapshot as COPY takes it."""
    return json.dumps(snapshot).replace("\\", "\\\\")
