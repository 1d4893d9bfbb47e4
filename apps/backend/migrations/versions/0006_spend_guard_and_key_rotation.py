"""spend guard and key rotation

Revision ID: 0006
Revises: 0005
"""

from alembic import op
import sqlalchemy as sa


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # While others write, which a transaction can't. So it comes first: if the rest must be tried again, it is there already.
    with op.get_context().autocommit_block():
        is_valid = op.get_bind().scalar(
            sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_provisioning_attempts_spending')")
        )
        if is_valid is False:  # a try that was cut short has left it
            op.execute('DROP INDEX CONCURRENTLY ix_provisioning_attempts_spending')
        if not is_valid:
            op.create_index(
                'ix_provisioning_attempts_spending',
                'provisioning_attempts',
                ['opened_at'],
                postgresql_where=sa.text(
                    "is_live AND (outcome IS NULL OR outcome IN ('delivered', 'accepted', 'unknown', 'surplus'))"
                ),
                postgresql_concurrently=True,
            )
    op.add_column('provider_states', sa.Column('paused_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('provider_states', sa.Column('paused_by', sa.Text(), nullable=True))
    op.add_column('provider_states', sa.Column('pause_reason', sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f('ck_provider_states_pause_is_whole'),
        'provider_states',
        '(paused_at IS NULL) = (paused_by IS NULL) AND (paused_at IS NULL) = (pause_reason IS NULL)',
    )
    op.add_column('encryption_keys', sa.Column('in_use_until', sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column('encryption_keys', 'in_use_until')
    op.drop_index('ix_provisioning_attempts_spending', 'provisioning_attempts')
    op.drop_constraint(op.f('ck_provider_states_pause_is_whole'), 'provider_states')
    for column in ('pause_reason', 'paused_by', 'paused_at'):
        op.drop_column('provider_states', column)
