"""What was admitted, whose referral is whose, and how far reference data was put to each region."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SCHEMA = "intake"


def upgrade() -> None:
    op.create_table(
        "admissions",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("referral", sa.Text, nullable=True),
        sa.Column("partition", sa.Integer, nullable=True),
        sa.Column("offset", sa.BigInteger, nullable=True),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer, nullable=False, server_default="1"),
        sa.CheckConstraint('("partition" is null) = ("offset" is null)', name="admissions_position"),
        schema=_SCHEMA,
    )
    op.create_index("admissions_admitted_at", "admissions", ["admitted_at"], schema=_SCHEMA)
    op.create_table(
        "referrals",
        sa.Column("referral", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "relayed",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )


def downgrade() -> None:
    for table in ("relayed", "referrals", "admissions"):
        op.drop_table(table, schema=_SCHEMA)
