"""install pages

An eSIM that was ordered before has no link until it is first needed: a token can't be made here, as it is sealed with ENCRYPTION_KEY.

Revision ID: 0009
Revises: 0008
"""

from alembic import op
import sqlalchemy as sa


revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A transaction of its own for each: `IF NOT EXISTS`, so that a try which was cut short is gone on with.
    with op.get_context().autocommit_block():
        for column, kind in (
            ('page_token', sa.LargeBinary()),
            ('page_token_hash', sa.LargeBinary()),
            ('page_expires_at', sa.DateTime(timezone=True)),
        ):
            op.add_column('esim_profiles', sa.Column(column, kind, nullable=True), if_not_exists=True)
        is_valid = op.get_bind().scalar(
            sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('uq_esim_profiles_page_token')")
        )
        if is_valid is False:  # a try that was cut short has left it
            op.execute('DROP INDEX CONCURRENTLY uq_esim_profiles_page_token')
        if not is_valid:
            op.create_index(
                'uq_esim_profiles_page_token',
                'esim_profiles',
                ['page_token_hash'],
                unique=True,
                postgresql_where=sa.text('page_token_hash IS NOT NULL'),
                postgresql_concurrently=True,
            )
    op.create_check_constraint(
        op.f('ck_esim_profiles_page_is_whole'),
        'esim_profiles',
        '(page_token IS NULL) = (page_token_hash IS NULL) AND (page_token IS NULL OR page_expires_at IS NOT NULL)',
        postgresql_not_valid=True,
    )
    op.execute('ALTER TABLE esim_profiles VALIDATE CONSTRAINT ck_esim_profiles_page_is_whole')


def downgrade() -> None:
    op.drop_constraint(op.f('ck_esim_profiles_page_is_whole'), 'esim_profiles')
    op.drop_index('uq_esim_profiles_page_token', 'esim_profiles')
    for column in ('page_expires_at', 'page_token_hash', 'page_token'):
        op.drop_column('esim_profiles', column)
