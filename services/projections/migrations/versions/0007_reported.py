"""When the bus heard of a count of places, beside when it was true: the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.projections.migrations.anew import begin_again

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = begin_again()
    op.add_column("units", sa.Column("reported_at", sa.BigInteger, nullable=False), schema=schema)


def downgrade() -> None:
    schema = begin_again()
    op.drop_column("units", "reported_at", schema=schema)
