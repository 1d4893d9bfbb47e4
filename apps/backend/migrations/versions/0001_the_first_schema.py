"""the first schema

Revision ID: 0001
Revises: 
"""

from pathlib import Path
from typing import Any

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

PROCRASTINATE = Path(__file__).resolve().parents[1] / "sql" / "procrastinate_3_10.sql"
"""The job queue's schema, frozen as its release 3.10.0 ships it (MIT licence): a later release brings its own migration here."""

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def _driver() -> Any:
    """The driver's own connection, psycopg's."""
    return op.get_bind().connection.driver_connection


def upgrade() -> None:
    op.create_table('audit_log',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('tag', sa.Text(), nullable=False),
    sa.Column('subject_type', sa.Text(), nullable=False),
    sa.Column('subject_id', sa.BigInteger(), nullable=True),
    sa.Column('details', postgresql.JSONB(astext_type=sa.Text()), server_default='{}', nullable=False),
    sa.Column('request_id', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_log'))
    )
    op.create_index('ix_audit_log_subject', 'audit_log', ['subject_type', 'subject_id', 'id'], unique=False)
    op.create_table('encryption_keys',
    sa.Column('key_id', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('key_id', name=op.f('pk_encryption_keys'))
    )
    op.create_table('installation',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('fingerprint_key', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('id = 1', name=op.f('ck_installation_one_row')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_installation'))
    )
    op.create_table('plans',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('country_iso2', sa.Text(), nullable=False),
    sa.Column('data_mb', sa.BigInteger(), nullable=False),
    sa.Column('validity_days', sa.Integer(), nullable=False),
    sa.Column('price_minor', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('is_on_sale', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("country_iso2 ~ '^[A-Z]{2}$'", name=op.f('ck_plans_country_iso2')),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_plans_currency')),
    sa.CheckConstraint("sku <> ''", name=op.f('ck_plans_sku_given')),
    sa.CheckConstraint('data_mb > 0', name=op.f('ck_plans_data_positive')),
    sa.CheckConstraint('price_minor >= 0', name=op.f('ck_plans_price_not_negative')),
    sa.CheckConstraint('validity_days > 0', name=op.f('ck_plans_validity_positive')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_plans')),
    sa.UniqueConstraint('sku', name=op.f('uq_plans_sku'))
    )
    op.create_table('provider_states',
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('rate_limited_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('provider', name=op.f('pk_provider_states'))
    )
    op.create_table('service_keys',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('secret_hash', sa.LargeBinary(), nullable=False),
    sa.Column('scopes', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("scopes <@ ARRAY['orders', 'esims']::text[]", name=op.f('ck_service_keys_scopes')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_service_keys'))
    )
    op.create_index('uq_service_keys_secret_hash', 'service_keys', ['secret_hash'], unique=True)
    op.create_table('orders',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('plan_id', sa.BigInteger(), nullable=True),
    sa.Column('plan_snapshot', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('customer_email', sa.Text(), nullable=False),
    sa.Column('customer_name', sa.Text(), nullable=False),
    sa.Column('payment_reference', sa.Text(), nullable=False),
    sa.Column('placed_by_key_id', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f('ck_orders_currency')),
    sa.CheckConstraint("status IN ('paid', 'cancelled', 'refunded')", name=op.f('ck_orders_status')),
    sa.CheckConstraint('amount_minor >= 0', name=op.f('ck_orders_amount_not_negative')),
    sa.ForeignKeyConstraint(['placed_by_key_id'], ['service_keys.id'], name=op.f('fk_orders_placed_by_key_id')),
    sa.ForeignKeyConstraint(['plan_id'], ['plans.id'], name=op.f('fk_orders_plan_id'), ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_orders'))
    )
    op.create_index('ix_orders_placed_by_key_id', 'orders', ['placed_by_key_id'], unique=False)
    op.create_index('ix_orders_plan_id', 'orders', ['plan_id'], unique=False)
    op.create_table('plan_codes',
    sa.Column('plan_id', sa.BigInteger(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('external_id', sa.Text(), nullable=False),
    sa.Column('cost_minor', sa.BigInteger(), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("external_id <> ''", name=op.f('ck_plan_codes_external_id_given')),
    sa.CheckConstraint('cost_minor >= 0', name=op.f('ck_plan_codes_cost_not_negative')),
    sa.ForeignKeyConstraint(['plan_id'], ['plans.id'], name=op.f('fk_plan_codes_plan_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('plan_id', 'provider', name=op.f('pk_plan_codes'))
    )
    op.create_table('esim_profiles',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('order_id', sa.BigInteger(), nullable=False),
    sa.Column('status', sa.Text(), server_default='pending', nullable=False),
    sa.Column('is_live', sa.Boolean(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('provider_reference', sa.Text(), nullable=True),
    sa.Column('provisioned_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('activation_code', sa.LargeBinary(), nullable=True),
    sa.Column('activation_code_fingerprint', sa.LargeBinary(), nullable=True),
    sa.Column('iccid', sa.LargeBinary(), nullable=True),
    sa.Column('iccid_fingerprint', sa.LargeBinary(), nullable=True),
    sa.Column('qr_code', sa.LargeBinary(), nullable=True),
    sa.Column('instructions', sa.LargeBinary(), nullable=True),
    sa.Column('provider_payload', sa.LargeBinary(), nullable=True),
    sa.Column('warnings', postgresql.ARRAY(sa.Text()), server_default='{}', nullable=False),
    sa.Column('profile_state', sa.Text(), nullable=True),
    sa.Column('plan_state', sa.Text(), nullable=True),
    sa.Column('data_used_mb', sa.Double(), nullable=True),
    sa.Column('data_total_mb', sa.Double(), nullable=True),
    sa.Column('usage_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("(status = 'provisioned') = (provisioned_at IS NOT NULL) AND (status = 'provisioned') = (activation_code IS NOT NULL)", name=op.f('ck_esim_profiles_provisioned_is_whole')),
    sa.CheckConstraint("plan_state IN ('not_started', 'active', 'depleted', 'expired', 'terminated')", name=op.f('ck_esim_profiles_plan_state')),
    sa.CheckConstraint("profile_state IN ('released', 'downloaded', 'installed', 'enabled', 'disabled', 'deleted')", name=op.f('ck_esim_profiles_profile_state')),
    sa.CheckConstraint("status IN ('pending', 'provisioning', 'provisioned', 'refused', 'unknown', 'cancelled')", name=op.f('ck_esim_profiles_status')),
    sa.CheckConstraint('data_used_mb >= 0 AND data_total_mb >= 0', name=op.f('ck_esim_profiles_usage_not_negative')),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], name=op.f('fk_esim_profiles_order_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_esim_profiles')),
    sa.UniqueConstraint('order_id', name=op.f('uq_esim_profiles_order_id'))
    )
    op.create_index('ix_esim_profiles_unsettled', 'esim_profiles', ['status', 'id'], unique=False, postgresql_where=sa.text("status <> 'provisioned'"))
    op.create_index('uq_esim_profiles_activation_code', 'esim_profiles', ['activation_code_fingerprint'], unique=True)
    op.create_index('uq_esim_profiles_iccid', 'esim_profiles', ['iccid_fingerprint'], unique=True)
    op.create_table('idempotency_keys',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('request_hash', sa.LargeBinary(), nullable=False),
    sa.Column('order_id', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], name=op.f('fk_idempotency_keys_order_id')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_idempotency_keys')),
    sa.UniqueConstraint('order_id', name=op.f('uq_idempotency_keys_order_id'))
    )
    op.create_table('provisioning_attempts',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('profile_id', sa.BigInteger(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('is_live', sa.Boolean(), nullable=False),
    sa.Column('reference', sa.Text(), nullable=False),
    sa.Column('base_url', sa.Text(), nullable=True),
    sa.Column('partner_id', sa.Text(), nullable=True),
    sa.Column('request', sa.LargeBinary(), nullable=False),
    sa.Column('requested_by', sa.Text(), nullable=False),
    sa.Column('opened_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('deadline_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('problem', sa.Text(), nullable=True),
    sa.Column('retry_after_s', sa.Integer(), nullable=True),
    sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('response_status', sa.Integer(), nullable=True),
    sa.Column('response_body', sa.LargeBinary(), nullable=True),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('duration_ms', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("outcome IN ('delivered', 'accepted', 'refused', 'not_sent', 'held_off', 'unknown', 'surplus')", name=op.f('ck_provisioning_attempts_outcome')),
    sa.CheckConstraint('(outcome IS NULL) = (closed_at IS NULL)', name=op.f('ck_provisioning_attempts_closed_has_outcome')),
    sa.ForeignKeyConstraint(['profile_id'], ['esim_profiles.id'], name=op.f('fk_provisioning_attempts_profile_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_provisioning_attempts'))
    )
    op.create_index('ix_provisioning_attempts_deadline', 'provisioning_attempts', ['deadline_at'], unique=False, postgresql_where=sa.text('outcome IS NULL'))
    op.create_index('ix_provisioning_attempts_profile_id', 'provisioning_attempts', ['profile_id', 'id'], unique=False)
    op.create_index('uq_provisioning_attempts_open', 'provisioning_attempts', ['profile_id'], unique=True, postgresql_where=sa.text('outcome IS NULL'))

    # Without parameters, so that its percent signs and its many statements are left alone.
    _driver().execute(PROCRASTINATE.read_text(encoding="utf-8"))


def downgrade() -> None:
    op.drop_index('uq_provisioning_attempts_open', table_name='provisioning_attempts', postgresql_where=sa.text('outcome IS NULL'))
    op.drop_index('ix_provisioning_attempts_profile_id', table_name='provisioning_attempts')
    op.drop_index('ix_provisioning_attempts_deadline', table_name='provisioning_attempts', postgresql_where=sa.text('outcome IS NULL'))
    op.drop_table('provisioning_attempts')
    op.drop_table('idempotency_keys')
    op.drop_index('uq_esim_profiles_iccid', table_name='esim_profiles')
    op.drop_index('uq_esim_profiles_activation_code', table_name='esim_profiles')
    op.drop_index('ix_esim_profiles_unsettled', table_name='esim_profiles', postgresql_where=sa.text("status <> 'provisioned'"))
    op.drop_table('esim_profiles')
    op.drop_table('plan_codes')
    op.drop_index('ix_orders_plan_id', table_name='orders')
    op.drop_index('ix_orders_placed_by_key_id', table_name='orders')
    op.drop_table('orders')
    op.drop_index('uq_service_keys_secret_hash', table_name='service_keys')
    op.drop_table('service_keys')
    op.drop_table('provider_states')
    op.drop_table('plans')
    op.drop_table('installation')
    op.drop_table('encryption_keys')
    op.drop_index('ix_audit_log_subject', table_name='audit_log')
    op.drop_table('audit_log')
    op.execute(
        """
        DO $$
        DECLARE
            thing record;
        BEGIN
            FOR thing IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'procrastinate\\_%' AND relnamespace = current_schema()::regnamespace
            LOOP
                EXECUTE format('DROP TABLE %I CASCADE', thing.relname);
            END LOOP;
            FOR thing IN SELECT oid::regprocedure AS signature FROM pg_proc WHERE proname LIKE 'procrastinate\\_%' AND pronamespace = current_schema()::regnamespace
            LOOP
                EXECUTE 'DROP FUNCTION ' || thing.signature || ' CASCADE';
            END LOOP;
            FOR thing IN SELECT typname FROM pg_type WHERE typname LIKE 'procrastinate\\_%' AND typtype IN ('e', 'c') AND typnamespace = current_schema()::regnamespace
            LOOP
                EXECUTE format('DROP TYPE %I CASCADE', thing.typname);
            END LOOP;
        END $$
        """
    )
