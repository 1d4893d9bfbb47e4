"""
A migration runs while the release before it serves: it takes nothing away that this one needs, and holds no large table for long.

What a migration does is read from its `upgrade`. A rule that one must break is a decision: the release after next may do it.
"""

import ast
from collections.abc import Iterator

import pytest

from app import schema

_SINCE = "0005"
"""Earlier ones were there before releases could be rolled."""

LARGE = {
    "audit_log",
    "esim_profiles",
    "idempotency_keys",
    "orders",
    "outgoing_mails",
    "procrastinate_jobs",
    "provider_events",
    "provisioning_attempts",
    "webhook_deliveries",
    "webhook_events",
}
"""Tables that grow with every order."""

REPLACED = {
    # A message's number is 0 for all that the release before writes: then the index with the number in it says the same.
    "uq_outgoing_mails_profile_id_kind": "uq_outgoing_mails_profile_id_kind_number",
}
"""Constraints that may go because the index beside them, made before, holds what the release before rests on."""

UNUSED = {
    # Foreign keys to plans and service keys, which nobody ever deletes.
    "ix_orders_placed_by_key_id",
    "ix_orders_plan_id",
}
"""Indexes that may go since neither release looks anything up by them."""

TAKES_AWAY = {"drop_table", "drop_column", "rename_table", "drop_index"}


def complaints(source: str) -> Iterator[str]:
    [upgrade] = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
    ]
    calls = [node for node in ast.walk(upgrade) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    named = [(str(getattr(call.func, "attr", "")), call) for call in calls]
    made = {_text(call.args[0]) for name, call in named if name == "create_table"}
    renewed = {
        _text(call.args[0])
        for name, call in named
        if (name.startswith("create_") and name.endswith("constraint"))
        or (name == "create_index" and _is(call, "unique", True))
    }
    for name, call in named:
        table = _text(call.args[1]) if len(call.args) > 1 else ""
        is_old_and_large = table in LARGE - made
        if name == "drop_index" and _text(call.args[0]) in UNUSED and _is(call, "postgresql_concurrently", True):
            continue
        if name in TAKES_AWAY:
            yield f"{name}: the release before needs it"
        elif name == "drop_constraint" and not {dropped := _text(call.args[0]), REPLACED.get(dropped)} & renewed:
            yield "drop_constraint: another release may rest on it; widen it by making it anew"
        elif name == "alter_column" and {"new_column_name", "type_"} & _options(call).keys():
            yield "alter_column: the release before knows the column as it was"
        elif name == "alter_column" and _is(call, "nullable", False):
            yield "alter_column: the release before may write nothing into it"
        elif name == "add_column" and _is_required(call):
            yield "add_column: the release before doesn't fill it; it needs a server_default"
        elif name == "create_index" and is_old_and_large and not _is(call, "postgresql_concurrently", True):
            yield f"create_index: nobody can write to {table} meanwhile; postgresql_concurrently in an autocommit_block"
        elif name == "create_check_constraint" and is_old_and_large and not _is(call, "postgresql_not_valid", True):
            yield f"create_check_constraint: {table} is read through under a lock; postgresql_not_valid, then VALIDATE"
        elif name in {"create_foreign_key", "create_unique_constraint"} and is_old_and_large:
            yield f"{name}: {table} is read through under a lock"


def _text(node: ast.expr) -> str:
    """A string, also within `op.f(…)`."""
    inner = node.args[0] if isinstance(node, ast.Call) and node.args else node
    return str(inner.value) if isinstance(inner, ast.Constant) else ""


def _options(call: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def _is(call: ast.Call, option: str, value: bool) -> bool:
    given = _options(call).get(option)
    return isinstance(given, ast.Constant) and given.value is value


def _is_required(call: ast.Call) -> bool:
    column = call.args[1]
    return isinstance(column, ast.Call) and _is(column, "nullable", False) and "server_default" not in _options(column)


MIGRATIONS = sorted(path for path in (schema.MIGRATIONS / "versions").glob("0*.py") if path.name >= _SINCE)


def test_no_migration_gets_in_the_way_of_the_release_before_it() -> None:
    found = [(path.name, complaint) for path in MIGRATIONS for complaint in complaints(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("op.drop_table('plans')", "drop_table"),
        ("op.drop_column('plans', 'name')", "drop_column"),
        ("op.drop_index('ix_orders_owner', 'orders', postgresql_concurrently=True)", "drop_index"),
        ("op.drop_index('ix_orders_plan_id', 'orders')", "drop_index"),
        ("op.drop_constraint(op.f('ck_plans_currency'), 'plans')", "drop_constraint"),
        ("op.alter_column('plans', 'name', new_column_name='title')", "alter_column"),
        ("op.alter_column('orders', 'plan_id', nullable=False)", "alter_column"),
        ("op.add_column('plans', sa.Column('x', sa.Text(), nullable=False))", "add_column"),
        ("op.create_index('ix', 'orders', ['status'])", "create_index"),
        ("op.create_check_constraint('ck', 'orders', 'amount_minor < 10')", "create_check_constraint"),
        ("op.create_foreign_key('fk', 'orders', 'plans', ['plan_id'], ['id'])", "create_foreign_key"),
    ],
)
def test_what_gets_in_the_way_is_seen(line: str, complaint: str) -> None:
    assert [found.partition(":")[0] for found in complaints(f"def upgrade():\n    {line}\n")] == [complaint]


@pytest.mark.parametrize(
    "line",
    [
        "op.create_table('new', sa.Column('id')); op.create_index('ix', 'new', ['id'])",
        "op.add_column('orders', sa.Column('x', sa.Text(), server_default='', nullable=False))",
        "op.add_column('orders', sa.Column('x', sa.Text(), nullable=True))",
        "op.alter_column('orders', 'currency', nullable=True)",
        "op.create_index('ix', 'orders', ['status'], postgresql_concurrently=True)",
        "op.drop_constraint('ck', 'orders'); op.create_check_constraint('ck', 'orders', 'true', postgresql_not_valid=True)",
        "op.create_check_constraint('ck', 'plans', 'price_minor < 10')",
    ],
)
def test_what_leaves_the_release_before_alone_is_no_complaint(line: str) -> None:
    assert list(complaints(f"def upgrade():\n    {line}\n")) == []
