"""news from providers

Revision ID: 0007
Revises: 0006
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('esim_profiles', sa.Column('profile_state_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('esim_profiles', sa.Column('plan_state_at', sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        'provider_events',
        sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column('provider', sa.Text(), nullable=False),
        sa.Column('fingerprint', sa.LargeBinary(), nullable=False),
        sa.Column('body', sa.LargeBinary(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=True),
        sa.Column('iccid_fingerprint', sa.LargeBinary(), nullable=True),
        sa.Column('at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('outcome', sa.Text(), nullable=True),
        sa.Column('warnings', postgresql.ARRAY(sa.Text()), server_default='{}', nullable=False),
        sa.Column('profile_id', sa.BigInteger(), nullable=True),
        sa.Column('settled_at', sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("outcome IN ('applied', 'older', 'parked', 'odd')", name=op.f('ck_provider_events_outcome')),
        sa.CheckConstraint('(outcome IS NULL) = (settled_at IS NULL)', name=op.f('ck_provider_events_settled_has_outcome')),
        sa.CheckConstraint(
            "outcome NOT IN ('applied', 'older') OR profile_id IS NOT NULL",
            name=op.f('ck_provider_events_applied_has_profile'),
        ),
        sa.ForeignKeyConstraint(['profile_id'], ['esim_profiles.id'], name=op.f('fk_provider_events_profile_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_provider_events')),
        sa.UniqueConstraint('provider', 'fingerprint', name=op.f('uq_provider_events_provider_fingerprint')),
    )
    op.create_index(
        'ix_provider_events_open',
        'provider_events',
        ['iccid_fingerprint'],
        unique=False,
        postgresql_where=sa.text("outcome IS NULL OR outcome = 'parked'"),
    )
    op.create_index(
        'ix_provider_events_profile_id',
        'provider_events',
        ['profile_id', 'id'],
        unique=False,
        postgresql_where=sa.text('profile_id IS NOT NULL'),
    )


def downgrade() -> None:
    op.drop_table('provider_events')
    op.drop_column('esim_profiles', 'plan_state_at')
    op.drop_column('esim_profiles', 'profile_state_at')
