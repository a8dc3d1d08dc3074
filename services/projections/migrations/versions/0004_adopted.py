"""What regions decide by, and services, with their content: the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.projections.migrations.anew import begin_again

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = begin_again()
    op.create_table(
        "adopted",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("content", postgresql.JSONB, nullable=False),
        schema=schema,
    )


def downgrade() -> None:
    schema = begin_again()
    op.drop_table("adopted", schema=schema)
