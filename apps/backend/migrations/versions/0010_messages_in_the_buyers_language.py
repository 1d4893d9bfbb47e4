"""messages in the buyer's language, again on request, and at thresholds

Revision ID: 0010
Revises: 0009
"""

from alembic import op
import sqlalchemy as sa


revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

_KINDS = "kind IN ('instructions', 'resend', 'data_80', 'data_100', 'expires_24h')"


def upgrade() -> None:
    # Each step can be done again: the indexes are made between two transactions, and a try that is cut short there starts anew.
    op.add_column('orders', sa.Column('customer_locale', sa.Text(), nullable=True), if_not_exists=True)
    op.add_column('esim_profiles', sa.Column('plan_active_at', sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    op.add_column('esim_profiles', sa.Column('plan_expires_at', sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    op.add_column(
        'outgoing_mails',
        sa.Column('number', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        'crossed_thresholds',
        sa.Column('profile_id', sa.BigInteger(), nullable=False),
        sa.Column('threshold', sa.Text(), nullable=False),
        sa.Column('crossed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.CheckConstraint(
            "threshold IN ('data_50', 'data_80', 'data_100', 'expires_24h')", name=op.f('ck_crossed_thresholds_threshold')
        ),
        sa.ForeignKeyConstraint(['profile_id'], ['esim_profiles.id'], name=op.f('fk_crossed_thresholds_profile_id')),
        sa.PrimaryKeyConstraint('profile_id', 'threshold', name=op.f('pk_crossed_thresholds')),
        if_not_exists=True,
    )
    # Not read through: what is there has passed the narrower one.
    op.drop_constraint(op.f('ck_outgoing_mails_kind'), 'outgoing_mails')
    op.create_check_constraint(op.f('ck_outgoing_mails_kind'), 'outgoing_mails', _KINDS, postgresql_not_valid=True)

    with op.get_context().autocommit_block():
        op.execute('ALTER TABLE outgoing_mails VALIDATE CONSTRAINT ck_outgoing_mails_kind')
        for name in ('uq_outgoing_mails_profile_id_kind_number', 'ix_outgoing_mails_refused', 'ix_esim_profiles_expiring'):
            index = op.get_bind().scalar(
                sa.text('SELECT indexrelid FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid'),
                {'name': name},
            )
            if index is not None:  # a try that was cut short has left it
                op.execute(f'DROP INDEX CONCURRENTLY {name}')
        op.create_index(
            'uq_outgoing_mails_profile_id_kind_number',
            'outgoing_mails',
            ['profile_id', 'kind', 'number'],
            unique=True,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            'ix_outgoing_mails_refused',
            'outgoing_mails',
            ['refused_at'],
            postgresql_where=sa.text('refused_at IS NOT NULL'),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            'ix_esim_profiles_expiring',
            'esim_profiles',
            ['plan_expires_at'],
            postgresql_where=sa.text("plan_state = 'active'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
    # The release before writes messages of one kind, with the number 0: to it the new index says the same.
    op.drop_constraint(op.f('uq_outgoing_mails_profile_id_kind'), 'outgoing_mails')


def downgrade() -> None:
    op.execute("DELETE FROM outgoing_mails WHERE kind <> 'instructions'")
    op.drop_constraint(op.f('ck_outgoing_mails_kind'), 'outgoing_mails')
    op.create_check_constraint(op.f('ck_outgoing_mails_kind'), 'outgoing_mails', "kind IN ('instructions')")
    op.create_unique_constraint(op.f('uq_outgoing_mails_profile_id_kind'), 'outgoing_mails', ['profile_id', 'kind'])
    op.drop_index('ix_esim_profiles_expiring', 'esim_profiles')
    op.drop_index('ix_outgoing_mails_refused', 'outgoing_mails')
    op.drop_index('uq_outgoing_mails_profile_id_kind_number', 'outgoing_mails')
    op.drop_table('crossed_thresholds')
    op.drop_column('outgoing_mails', 'number')
    op.drop_column('esim_profiles', 'plan_expires_at')
    op.drop_column('esim_profiles', 'plan_active_at')
    op.drop_column('orders', 'customer_locale')
