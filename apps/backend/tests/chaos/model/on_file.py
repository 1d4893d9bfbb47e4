"""What the database holds of every order, read beside the product; and the ways to set its clock and its orders by hand."""

from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place
from app.vault import Vault
from tests.chaos.model.prediction import PROBLEM, ModelOrder

_ORDERS = """
    SELECT profile.order_id, placed.status AS order_status, profile.id AS esim_id, profile.status, profile.profile_state,
           profile.plan_state, profile.provisioned_at, profile.activation_code, profile.iccid_fingerprint,
           profile.provider_payload,
           array(SELECT tag FROM audit_log WHERE subject_type = 'esim_profiles' AND subject_id = profile.id ORDER BY id) AS audit,
           (SELECT count(*) FROM procrastinate_jobs WHERE (args ->> 'esim_id')::bigint = profile.id) AS jobs
    FROM esim_profiles profile JOIN orders placed ON placed.id = profile.order_id ORDER BY profile.id
"""
_ATTEMPTS = """
    SELECT id, profile_id, outcome, problem, response_status, response_body, retry_after_s, request, is_replay
    FROM provisioning_attempts ORDER BY id
"""
# Instants that anything depends on. All of the past moves, so that nothing sees the clock jump.
_PASS_TIME = """
    UPDATE provisioning_attempts SET opened_at = opened_at - %(by)s, deadline_at = deadline_at - %(by)s,
        closed_at = closed_at - %(by)s;
    UPDATE provider_states SET rate_limited_until = rate_limited_until - %(by)s, circuit_opened_at = circuit_opened_at - %(by)s,
        probe_at = probe_at - %(by)s;
    UPDATE esim_profiles SET created_at = created_at - %(by)s
"""
_EMPTY = """
    DELETE FROM provisioning_attempts; DELETE FROM idempotency_keys; DELETE FROM esim_profiles; DELETE FROM orders;
    DELETE FROM provider_states; DELETE FROM audit_log; DELETE FROM procrastinate_events; DELETE FROM procrastinate_jobs
"""


class OnFile:
    """A connection of the tests' own. What it does takes effect at once."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, row_factory=namedtuple_row)

    def close(self) -> None:
        self._connection.close()

    def empty(self) -> None:
        """Takes away all that orders left; plans and keys stay."""
        for statement in _EMPTY.split(";"):
            self._connection.execute(statement)

    def vacuum(self) -> None:
        """Room that emptying left behind slows every look."""
        self._connection.execute("VACUUM ANALYZE")

    def pass_time(self, seconds: int) -> None:
        for statement in _PASS_TIME.split(";"):
            self._connection.execute(statement, {"by": timedelta(seconds=seconds)})

    def end_order(self, order_id: int, status: str) -> None:
        """What cancelling and refunding will do."""
        self._connection.execute("UPDATE orders SET status = %s WHERE id = %s", (status, order_id))
        self._connection.execute(
            "UPDATE esim_profiles SET status = 'cancelled' WHERE order_id = %s AND status IN ('pending', 'refused')",
            (order_id,),
        )

    def forget(self, order_ids: list[int]) -> None:
        """Takes these orders away, and what belongs to them."""
        self._connection.execute(
            "DELETE FROM provisioning_attempts WHERE profile_id IN (SELECT id FROM esim_profiles WHERE order_id = ANY(%s))",
            (order_ids,),
        )
        self._connection.execute("DELETE FROM esim_profiles WHERE order_id = ANY(%s)", (order_ids,))

    def audit_of(self, order: ModelOrder) -> list[str]:
        row = self._connection.execute(
            "SELECT array(SELECT tag FROM audit_log WHERE subject_type = 'esim_profiles' AND subject_id = %s ORDER BY id)",
            (order.esim_id,),
        ).fetchone()
        assert row is not None
        return list(row[0])

    def compare(self, orders: list[ModelOrder], vault: Vault) -> None:
        """
        Raises:
            AssertionError: the database doesn't hold what the model says.
        """
        attempts: dict[int, list[Any]] = {}
        row: Any
        for row in self._connection.execute(_ATTEMPTS):
            attempts.setdefault(row.profile_id, []).append(row)
        rows: list[Any] = self._connection.execute(_ORDERS).fetchall()
        assert [row.order_id for row in rows] == [order.id for order in orders]
        for order, row in zip(orders, rows, strict=True):
            _compare_order(order, row, vault)
            found = attempts.get(order.esim_id, [])
            _compare_attempts(order, found, vault)


def _compare_order(order: ModelOrder, row: Any, vault: Vault) -> None:
    is_provisioned = order.profile == "provisioned"
    code = vault.open_text(row.activation_code, place_of("activation_code", row.esim_id))
    sealed = row.provider_payload
    payload = vault.keyring.open(sealed, place_of("provider_payload", row.esim_id)) if sealed else None
    held = (row.order_status, row.esim_id, row.status, code, row.iccid_fingerprint is not None, payload)
    expected = (order.status, order.esim_id, order.profile, order.code, order.has_iccid, order.payload)
    assert held == expected, f"{order.reference}: {held} on file, {expected} expected"
    # The three axes are independent: the handset's is not known, the data package's begins with the eSIM.
    assert row.profile_state is None
    assert row.plan_state == ("not_started" if is_provisioned else None), order.reference
    assert (row.provisioned_at is not None) is is_provisioned
    assert row.audit == order.audit, f"{order.reference}: {row.audit} on the trail, {order.audit} expected"
    assert row.jobs == order.jobs == is_provisioned, f"{order.reference}: {row.jobs} jobs"


def _compare_attempts(order: ModelOrder, rows: list[Any], vault: Vault) -> None:
    assert sum(row.outcome is None for row in rows) <= 1, f"{order.reference} has two calls under way"
    held = [(row.outcome, row.problem, row.response_status, row.retry_after_s, row.is_replay) for row in rows]
    expected = [
        (a.outcome, PROBLEM.get(a.outcome or ""), a.status, a.retry_after_s, a.is_replay) for a in order.attempts
    ]
    assert held == expected, f"{order.reference}: attempts {held} on file, {expected} expected"
    for attempt, row in zip(order.attempts, rows, strict=True):
        sealed = row.response_body
        body = vault.keyring.open(sealed, attempt_place("response_body", row.id)) if sealed else None
        assert body == attempt.body, f"{order.reference}: the provider's words are not on file"
        assert order.reference.encode() in vault.keyring.open(row.request, attempt_place("request", row.id))
