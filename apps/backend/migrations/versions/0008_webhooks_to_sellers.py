"""webhooks to sellers

Revision ID: 0008
Revises: 0007
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

EVENTS = (
    "'order.paid', 'esim.provisioned', 'esim.refused', 'esim.outcome_unknown', 'esim.resolved', 'esim.profile_state_changed', "
    "'esim.plan_state_changed', 'esim.usage_alert'"
)


def upgrade() -> None:
    op.create_table('webhook_endpoints',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('events', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('secret', sa.LargeBinary(), nullable=False),
    sa.Column('previous_secret', sa.LargeBinary(), nullable=True),
    sa.Column('previous_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('failing_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('disabled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('disabled_because', sa.Text(), nullable=True),
    sa.CheckConstraint(f"events <@ ARRAY[{EVENTS}]::text[]", name=op.f('ck_webhook_endpoints_events')),
    sa.CheckConstraint("disabled_because IN ('asked', 'gone', 'failing')", name=op.f('ck_webhook_endpoints_disabled_because')),
    sa.CheckConstraint('(disabled_at IS NULL) = (disabled_because IS NULL)', name=op.f('ck_webhook_endpoints_disabled_says_why')),
    sa.CheckConstraint('(previous_secret IS NULL) = (previous_until IS NULL)', name=op.f('ck_webhook_endpoints_previous_secret_ends')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_endpoints'))
    )
    op.create_table('webhook_events',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('message_id', sa.Text(), server_default=sa.text("('msg_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text))"), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('data', postgresql.JSONB(), nullable=False),
    sa.Column('occurred_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint(f'type IN ({EVENTS})', name=op.f('ck_webhook_events_type')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_events'))
    )
    op.create_table('webhook_deliveries',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('event_id', sa.BigInteger(), nullable=False),
    sa.Column('endpoint_id', sa.BigInteger(), nullable=False),
    sa.Column('status', sa.Text(), server_default='pending', nullable=False),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_attempt_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('history', postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f('ck_webhook_deliveries_status')),
    sa.CheckConstraint("(status = 'pending') = (next_attempt_at IS NOT NULL)", name=op.f('ck_webhook_deliveries_pending_has_its_time')),
    sa.ForeignKeyConstraint(['event_id'], ['webhook_events.id'], name=op.f('fk_webhook_deliveries_event_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_deliveries')),
    sa.UniqueConstraint('event_id', 'endpoint_id', name=op.f('uq_webhook_deliveries_event_id_endpoint_id'))
    )
    op.create_index(
        'ix_webhook_deliveries_due',
        'webhook_deliveries',
        ['endpoint_id', 'next_attempt_at'],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index('ix_webhook_deliveries_endpoint_id', 'webhook_deliveries', ['endpoint_id', 'id'])
    op.drop_constraint(op.f('ck_service_keys_scopes'), 'service_keys')
    op.create_check_constraint(
        op.f('ck_service_keys_scopes'), 'service_keys', "scopes <@ ARRAY['orders', 'esims', 'webhooks']::text[]"
    )


def downgrade() -> None:
    op.drop_table('webhook_deliveries')
    op.drop_table('webhook_events')
    op.drop_table('webhook_endpoints')
    op.execute("UPDATE service_keys SET scopes = array_remove(scopes, 'webhooks')")
    op.drop_constraint(op.f('ck_service_keys_scopes'), 'service_keys')
    op.create_check_constraint(op.f('ck_service_keys_scopes'), 'service_keys', "scopes <@ ARRAY['orders', 'esims']::text[]")
