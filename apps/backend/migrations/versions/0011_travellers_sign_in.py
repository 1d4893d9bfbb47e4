"""travellers sign in

Revision ID: 0011
Revises: 0010
"""

from alembic import op
import sqlalchemy as sa


revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # While others write, which a transaction can't. So it comes first: if the rest must be tried again, it is there already.
    with op.get_context().autocommit_block():
        is_valid = op.get_bind().scalar(
            sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_orders_owner')")
        )
        if is_valid is False:  # a try that was cut short has left it
            op.execute('DROP INDEX CONCURRENTLY ix_orders_owner')
        if not is_valid:
            op.create_index(
                'ix_orders_owner',
                'orders',
                [sa.text('lower(customer_email COLLATE "C")'), 'id'],
                postgresql_concurrently=True,
            )
    op.create_table('rate_limits',
    sa.Column('bucket', sa.LargeBinary(), nullable=False),
    sa.Column('free_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('bucket', name=op.f('pk_rate_limits'))
    )
    op.create_table('sign_in_codes',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('request_hash', sa.LargeBinary(), nullable=False),
    sa.Column('code_salt', sa.LargeBinary(), nullable=False),
    sa.Column('code_hash', sa.LargeBinary(), nullable=False),
    sa.Column('address', sa.LargeBinary(), nullable=False),
    sa.Column('code', sa.LargeBinary(), nullable=True),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('tries', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('tries >= 0', name=op.f('ck_sign_in_codes_tries_not_negative')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_sign_in_codes'))
    )
    op.create_index('uq_sign_in_codes_request_hash', 'sign_in_codes', ['request_hash'], unique=True)
    op.create_index('ix_sign_in_codes_expires_at', 'sign_in_codes', ['expires_at'], unique=False)
    op.create_table('travellers',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('address', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_travellers'))
    )
    op.create_index('uq_travellers_address', 'travellers', ['address'], unique=True)
    op.create_table('traveller_sessions',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('traveller_id', sa.BigInteger(), nullable=False),
    sa.Column('token_hash', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('last_used_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('ends_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['traveller_id'], ['travellers.id'], name=op.f('fk_traveller_sessions_traveller_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_traveller_sessions'))
    )
    op.create_index('uq_traveller_sessions_token_hash', 'traveller_sessions', ['token_hash'], unique=True)
    op.create_index('ix_traveller_sessions_traveller_id', 'traveller_sessions', ['traveller_id'], unique=False)


def downgrade() -> None:
    op.drop_index('ix_orders_owner', table_name='orders')
    op.drop_table('traveller_sessions')
    op.drop_table('travellers')
    op.drop_table('sign_in_codes')
    op.drop_table('rate_limits')
