"""Who offers a unit hears of its places: who that is, and which unit a notice is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "services",
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("organisation", sa.Text, nullable=False),
        schema=_SCHEMA,
    )
    op.add_column("notices", sa.Column("unit", sa.Text, nullable=True), schema=_SCHEMA)


def downgrade() -> None:
    op.drop_column("notices", "unit", schema=_SCHEMA)
    op.drop_table("services", schema=_SCHEMA)
