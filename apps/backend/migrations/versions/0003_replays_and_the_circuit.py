"""replays and the circuit

Revision ID: 0003
Revises: 0002
"""

from alembic import op
import sqlalchemy as sa


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('provisioning_attempts', sa.Column('is_replay', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('provider_states', sa.Column('failures_in_a_row', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('provider_states', sa.Column('circuit_opened_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('provider_states', sa.Column('circuit_reason', sa.Text(), nullable=True))
    op.add_column('provider_states', sa.Column('probe_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('provider_states', sa.Column('failed_probes', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.create_check_constraint(
        op.f('ck_provider_states_open_circuit_is_whole'),
        'provider_states',
        '(circuit_opened_at IS NULL) = (circuit_reason IS NULL) AND (circuit_opened_at IS NULL) = (probe_at IS NULL)',
    )


def downgrade() -> None:
    op.drop_constraint(op.f('ck_provider_states_open_circuit_is_whole'), 'provider_states')
    for column in ('failed_probes', 'probe_at', 'circuit_reason', 'circuit_opened_at', 'failures_in_a_row'):
        op.drop_column('provider_states', column)
    op.drop_column('provisioning_attempts', 'is_replay')
