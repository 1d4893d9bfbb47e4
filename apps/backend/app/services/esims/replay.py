"""Asking again by sending again: an unknown order goes out once more to a provider that guarantees not to bill a reference twice.

A replay is an attempt of its own with the very body of the attempt in question. The profile stays `unknown` meanwhile, and
only a success ends that: what a replay is refused for says nothing about the first order.
"""

from dataclasses import dataclass

from sqlalchemy import BigInteger, and_, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app.audit import Tag, record
from app.errors import NotFound, TribiError
from app.held import FORGETS, HELD_SINCE, DatabaseForgets, InstallationHeld, of_line
from app.journal import Entry, hash_of
from app.models import EsimProfile, IdempotencyKey, Order, ProvisioningAttempt
from app.services.esim_providers import Dedupe, EsimProvider, PreparedOrder
from app.services.esims.circuit import pass_gate
from app.services.esims.intent import DEADLINE_MARGIN_S, Intent, attempt_place, new_attempt_id, open_replay
from app.services.esims.spend import Caps
from app.vault import Vault

REPLAY_INTERVAL_S = 5
"""How often a process looks for unknown orders to send again; the first replay begins within twice that."""

MOST_REPLAYS = 5

_REST_S = (0, 60, 600, 3600, 6 * 3600)
"""Between the end of the last attempt and the next replay, by how many replays there were; together less than a day."""

_BATCH = 50


class CannotReplay(TribiError):
    """`str()` says why, for the person who tries."""

    code = "cannot-replay"
    title = "This eSIM's order can't be sent again"
    meaning = (
        "Only an eSIM whose outcome is unknown can be sent again, to the account that it was sent to, and only where the "
        "operator has set that the provider doesn't bill a repeated reference twice."
    )
    http_status = 409


_Question = aliased(ProvisioningAttempt)
"""The attempt that nobody knows the outcome of: the order's last one that is no replay."""
_Any = aliased(ProvisioningAttempt)

_question_id = (
    select(func.max(_Any.id)).where(_Any.profile_id == EsimProfile.id, _Any.is_replay.is_(False)).scalar_subquery()
)
_since = and_(_Any.profile_id == EsimProfile.id, _Any.id >= _Question.id)
_replays = select(func.count()).where(_since, _Any.is_replay).scalar_subquery()
_is_under_way = select(_Any.id).where(_since, _Any.outcome.is_(None)).exists()
_is_refused = select(_Any.id).where(_since, _Any.outcome == "refused").exists()
_last_end = select(func.max(_Any.closed_at)).where(_since).scalar_subquery()
_rest_s = case(dict(enumerate(_REST_S)), value=_replays, else_=_REST_S[-1])

_is_ours = and_(
    _Question.provider == bindparam("provider"),
    _Question.is_live == bindparam("is_live"),
    _Question.base_url.is_not_distinct_from(bindparam("base_url")),
    _Question.partner_id.is_not_distinct_from(bindparam("partner_id")),
)
_may_go_out_by_itself = and_(
    _replays < MOST_REPLAYS,
    ~_is_refused,
    _Question.opened_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("window_s")),
    _last_end + func.make_interval(0, 0, 0, 0, 0, 0, _rest_s) <= func.now(),
)
_DUE = (
    select(EsimProfile.order_id)
    .join(_Question, _Question.id == _question_id)
    .where(EsimProfile.status == "unknown", _is_ours, ~_is_under_way, _may_go_out_by_itself)
    .order_by(EsimProfile.id)
    .limit(_BATCH)
)
_LOCK = (
    select(EsimProfile.status).where(EsimProfile.order_id == bindparam("order_id", type_=BigInteger)).with_for_update()
)
_STANDING = (
    select(
        EsimProfile.id.label("profile_id"),
        _Question.id.label("question_id"),
        _Question.reference,
        _Question.request,
        _is_ours.label("is_ours"),
        _is_under_way.label("is_under_way"),
        _may_go_out_by_itself.label("may_go_out_by_itself"),
        func.now().label("opened_at"),
        Order.created_at.label("placed_at"),
        func.coalesce(IdempotencyKey.key, "").label("order_key"),
        HELD_SINCE.label("held_since"),
        FORGETS.label("forgets"),
    )
    .select_from(EsimProfile)
    .join(_Question, _Question.id == _question_id)
    .join(Order, Order.id == EsimProfile.order_id)
    .outerjoin(IdempotencyKey, IdempotencyKey.order_id == Order.id)
    .where(EsimProfile.status == "unknown", EsimProfile.order_id == bindparam("order_id", type_=BigInteger))
)


@dataclass(frozen=True, slots=True)
class NothingToReplay:
    """Settled, under way, or not due: somebody else was quicker."""


def can_replay(provider: EsimProvider) -> bool:
    """Whether the provider guarantees that a repeated reference isn't billed twice."""
    return provider.capabilities.dedupe is Dedupe.REPLAY


async def due_for_replay(connection: AsyncConnection, provider: EsimProvider) -> list[int]:
    """Ids of orders that may be sent again now without anybody asking."""
    return list(await connection.scalars(_DUE, _present(provider)))


async def declare_replay(
    connection: AsyncConnection,
    vault: Vault,
    provider: EsimProvider,
    order_id: int,
    *,
    actor: str,
    timeout_s: float,
    is_by_hand: bool,
    last: Entry | None,
    heeds_circuit: bool,
    caps: Caps | None,
) -> Intent | NothingToReplay:
    """
    Puts a replay on file. The caller commits before it sends.

    Args:
        is_by_hand: a person asks for it: neither the number of replays nor their time is limited.
        last: as for `declare_intent`.

    Raises:
        CannotReplay: by hand only: why not.
        DatabaseForgets, InstallationHeld: as `declare_intent`.
        NotFound: no such order.
        ProviderOnHold: the provider asked to wait.
        ProviderPaused: nothing is sent to it for now.
        ProviderBusy: the turn to be counted against a cap didn't come.
    """
    status = await connection.scalar(_LOCK, {"order_id": order_id})
    if status is None:
        raise NotFound
    asked = _present(provider) | of_line(last) | {"order_id": order_id}
    row = (await connection.execute(_STANDING, asked)).one_or_none()
    obstacle = None
    if not can_replay(provider):
        obstacle = "the provider isn't known to recognise a repeated order (CONNECTED_YOU_UNKNOWN_OUTCOME is `hold`)"
    elif row is None:
        obstacle = f"its eSIM is {status}: only an unknown one is sent again"
    elif row.is_under_way:
        obstacle = "a call to the provider is under way"
    elif not row.is_ours:
        obstacle = "it was sent under another base URL or partner id than the present ones"
    elif not is_by_hand and not row.may_go_out_by_itself:
        return NothingToReplay()
    if obstacle is not None or row is None:
        if is_by_hand:
            raise CannotReplay(f"order {order_id} can't be sent again: {obstacle}")
        return NothingToReplay()
    if row.forgets:
        raise DatabaseForgets
    if row.held_since is not None:
        raise InstallationHeld
    deadline_s = timeout_s + DEADLINE_MARGIN_S
    circuit = await pass_gate(connection, provider.name, heeds_circuit=heeds_circuit, deadline_s=deadline_s)

    order = PreparedOrder(
        reference=row.reference,
        body=vault.keyring.open(row.request, attempt_place("request", row.question_id)),
        base_url=provider.base_url,
        partner_id=provider.partner_id,
    )
    attempt_id = await new_attempt_id(connection)
    key = hash_of(row.order_key)
    entry = Entry(row.reference, order_id, attempt_id, row.opened_at, row.placed_at, provider.name, key)
    intent = Intent(attempt_id, row.profile_id, order_id, order, actor, entry, circuit)
    await record(connection, actor, Tag.ESIM_REPLAYED, "esim_profiles", row.profile_id, attempt_id=intent.attempt_id)
    await open_replay(
        connection, vault, intent, provider.name, is_live=provider.is_live, deadline_s=deadline_s, caps=caps
    )
    return intent


def _present(provider: EsimProvider) -> dict[str, object]:
    return {
        "provider": provider.name,
        "is_live": provider.is_live,
        "base_url": provider.base_url,
        "partner_id": provider.partner_id,
        "window_s": provider.capabilities.replay_window_s,
    }
