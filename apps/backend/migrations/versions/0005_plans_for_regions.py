"""plans for regions

Revision ID: 0005
Revises: 0004
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default is what an import by an older release, which knows no regions, means.
    op.add_column('plans', sa.Column('other_countries', postgresql.ARRAY(sa.Text()), server_default='{}', nullable=False))
    op.create_check_constraint(
        op.f('ck_plans_other_countries'),
        'plans',
        "array_to_string(other_countries, ' ', '?') ~ '^([A-Z]{2}( [A-Z]{2})*)?$' AND country_iso2 <> ALL (other_countries)",
    )


def downgrade() -> None:
    op.drop_column('plans', 'other_countries')
