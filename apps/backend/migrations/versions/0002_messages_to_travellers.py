"""messages to travellers

Revision ID: 0002
Revises: 0001
"""

from alembic import op
import sqlalchemy as sa


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('outgoing_mails',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('profile_id', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('refused_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('error', sa.Text(), nullable=True),
    sa.CheckConstraint("kind IN ('instructions')", name=op.f('ck_outgoing_mails_kind')),
    sa.CheckConstraint('sent_at IS NULL OR refused_at IS NULL', name=op.f('ck_outgoing_mails_one_ending')),
    sa.ForeignKeyConstraint(['profile_id'], ['esim_profiles.id'], name=op.f('fk_outgoing_mails_profile_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outgoing_mails')),
    sa.UniqueConstraint('profile_id', 'kind', name=op.f('uq_outgoing_mails_profile_id_kind'))
    )


def downgrade() -> None:
    op.drop_table('outgoing_mails')
