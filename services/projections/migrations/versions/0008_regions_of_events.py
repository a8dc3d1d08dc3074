"""The region of each event: whose rows a row stands among is known of every table, and the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.projections.migrations.anew import begin_again

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = begin_again()
    op.add_column("events", sa.Column("region", sa.Text, nullable=False), schema=schema)


def downgrade() -> None:
    schema = begin_again()
    op.drop_column("events", "region", schema=schema)
