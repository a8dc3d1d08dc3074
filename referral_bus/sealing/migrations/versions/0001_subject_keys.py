"""Data keys of subjects, and how far the ledger's destroyed keys were replayed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SCHEMA = "sealing"


def upgrade() -> None:
    op.create_table(
        "subject_keys",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("section", sa.Text, primary_key=True),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=True),
        sa.Column("key_version", sa.SmallInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("section in ('facts', 'identity')", name="subject_keys_section"),
        sa.CheckConstraint(
            "(wrapped_key is null) = (destroyed_at is not null)", name="subject_keys_key_or_tombstone"
        ),
        schema=_SCHEMA,
    )
    op.create_table(
        "replayed",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("replayed", schema=_SCHEMA)
    op.drop_table("subject_keys", schema=_SCHEMA)
