"""Places whose provider said that they are not there: the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.projections.migrations.anew import begin_again

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = begin_again()
    op.add_column("units", sa.Column("doubted", sa.BigInteger, nullable=False), schema=schema)
    op.add_column("units", sa.Column("doubted_at", sa.BigInteger), schema=schema)
    op.add_column("units", sa.Column("doubted_until", sa.BigInteger), schema=schema)


def downgrade() -> None:
    schema = begin_again()
    for column in ("doubted_until", "doubted_at", "doubted"):
        op.drop_column("units", column, schema=schema)
