"""what a restore forgets

Revision ID: 0004
Revises: 0003
"""

from alembic import op
import sqlalchemy as sa


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('installation', sa.Column('identity', sa.Text(), server_default=sa.text('(gen_random_uuid())::text'), nullable=False))
    op.add_column('installation', sa.Column('held_since', sa.DateTime(timezone=True), nullable=True))
    op.alter_column('provisioning_attempts', 'request', nullable=True)
    op.create_table(
        'forgotten_attempts',
        sa.Column('attempt_id', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column('opened_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('reference', sa.Text(), nullable=False),
        sa.Column('order_id', sa.BigInteger(), nullable=False),
        sa.Column('placed_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('provider', sa.Text(), nullable=False),
        sa.Column('order_key', sa.Text(), nullable=False),
        sa.Column('found_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('filed_as', sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint('attempt_id', 'opened_at', name=op.f('pk_forgotten_attempts')),
    )
    op.create_index(
        'ix_forgotten_attempts_order_key',
        'forgotten_attempts',
        ['order_key'],
        unique=False,
        postgresql_where=sa.text('filed_as IS NULL'),
    )


def downgrade() -> None:
    op.drop_table('forgotten_attempts')
    op.execute("UPDATE provisioning_attempts SET request = '' WHERE request IS NULL")
    op.alter_column('provisioning_attempts', 'request', nullable=False)
    op.drop_column('installation', 'held_since')
    op.drop_column('installation', 'identity')
