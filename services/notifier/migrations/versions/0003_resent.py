"""What is sent again is tried as if it were new, and no organisation asks for that all the time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SCHEMA = "notifier"


def upgrade() -> None:
    op.add_column(
        "deliveries",
        sa.Column("attempts_before", sa.Integer, nullable=False, server_default="0"),
        schema=_SCHEMA,
    )
    op.create_table(
        "resends",
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("resends", schema=_SCHEMA)
    op.drop_column("deliveries", "attempts_before", schema=_SCHEMA)
