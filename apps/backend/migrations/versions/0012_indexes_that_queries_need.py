"""indexes that queries need, and none that they don't

Revision ID: 0012
Revises: 0011
"""

from alembic import op
import sqlalchemy as sa


revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


INDEXES = (
    ('ix_provider_events_aside', 'provider_events', ['outcome', 'id'], "outcome IN ('parked', 'odd')"),
    ('ix_webhook_deliveries_failed', 'webhook_deliveries', ['id'], "status = 'failed'"),
    ('ix_procrastinate_jobs_failed', 'procrastinate_jobs', ['id'], "status = 'failed'"),
    # Procrastinate's own is for jobs that are being done: a worker that takes its leave looks for all that it ever did.
    ('ix_procrastinate_jobs_worker_id', 'procrastinate_jobs', ['worker_id'], 'worker_id IS NOT NULL'),
)


def upgrade() -> None:
    # While others write, which a transaction can't.
    with op.get_context().autocommit_block():
        for name, table, columns, condition in INDEXES:
            if _is_to_be_made(name):
                op.create_index(name, table, columns, postgresql_where=sa.text(condition), postgresql_concurrently=True)
        # Plans and keys are never deleted, and nothing is looked up by them.
        op.drop_index('ix_orders_placed_by_key_id', 'orders', if_exists=True, postgresql_concurrently=True)
        op.drop_index('ix_orders_plan_id', 'orders', if_exists=True, postgresql_concurrently=True)


def _is_to_be_made(name: str) -> bool:
    is_valid = op.get_bind().scalar(
        sa.text('SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)'), {'name': name}
    )
    if is_valid is False:  # a try that was cut short has left it
        op.execute(f'DROP INDEX CONCURRENTLY {name}')
    return not is_valid


def downgrade() -> None:
    op.create_index('ix_orders_placed_by_key_id', 'orders', ['placed_by_key_id'], unique=False)
    op.create_index('ix_orders_plan_id', 'orders', ['plan_id'], unique=False)
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
