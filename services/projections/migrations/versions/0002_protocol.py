"""The whole life of a referral: what each row means has changed, so the views are emptied and reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.projections.migrations.anew import begin_again

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _columns() -> dict[str, list[sa.Column[object]]]:
    return {
        "referrals": [
            sa.Column("protocol", sa.Text, nullable=False),
            sa.Column("protocol_version", sa.Integer, nullable=False),
            sa.Column("limits", postgresql.JSONB, nullable=False),
            sa.Column("mode", sa.Text, nullable=False),
            sa.Column("part_of", sa.Text, nullable=True),
            sa.Column("parts", postgresql.JSONB, nullable=True),
            sa.Column("outcome_at", sa.BigInteger, nullable=True),
            sa.Column("corrected", sa.Boolean, nullable=False),
            sa.Column("offers", postgresql.JSONB, nullable=False),
            sa.Column("serving", sa.Text, nullable=True),
            sa.Column("started", sa.Boolean, nullable=False),
            sa.Column("hold_reason", sa.Text, nullable=True),
            sa.Column("held_until", sa.BigInteger, nullable=True),
            sa.Column("waits_for", postgresql.JSONB, nullable=True),
            sa.Column("review_at", sa.BigInteger, nullable=True),
            sa.Column("reopened_at", sa.BigInteger, nullable=True),
        ],
        "events": [sa.Column("correction", sa.Boolean, nullable=False)],
        "sections": [sa.Column("task", sa.Text, nullable=True)],
        "tasks": [
            sa.Column("transfer", sa.Boolean, nullable=False),
            sa.Column("acknowledged_at", sa.BigInteger, nullable=True),
            sa.Column("starts_at", sa.BigInteger, nullable=True),
            sa.Column("handed_over_at", sa.BigInteger, nullable=True),
            sa.Column("held_until", sa.BigInteger, nullable=True),
            sa.Column("missed", sa.Integer, nullable=False),
        ],
        "units": [
            sa.Column("overbook", sa.BigInteger, nullable=False),
            sa.Column("moved", postgresql.JSONB, nullable=False),
        ],
    }


def upgrade() -> None:
    schema = begin_again()
    op.drop_index("tasks_queue", "tasks", schema=schema)
    for table, dropped in (("referrals", ("unit",)), ("tasks", ("waits_for", "waits_since", "due_at"))):
        for name in dropped:
            op.drop_column(table, name, schema=schema)
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column, schema=schema)
    op.create_index(
        "referrals_line",
        "referrals",
        ["region"],
        schema=schema,
        postgresql_where=sa.text("waits_for is not null"),
    )
    op.create_table(
        "protocols",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("protocol", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("limits", postgresql.JSONB, nullable=False),
        schema=schema,
    )
    op.create_index("protocols_protocol", "protocols", ["protocol"], schema=schema)
    op.create_table(
        "policies",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("trust", postgresql.JSONB, nullable=False),
        schema=schema,
    )
    op.create_table(
        "waits",
        sa.Column("wait", sa.Text, primary_key=True),
        sa.Column("referral", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=True),
        sa.Column("service", sa.Text, nullable=True),
        sa.Column("waits_for", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("whose", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=True),
        sa.Column("step", sa.Text, nullable=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=True),
        sa.Column("reminded", sa.Integer, nullable=True),
        sa.Column("escalated_at", sa.BigInteger, nullable=True),
        sa.Column("done_at", sa.BigInteger, nullable=True),
        schema=schema,
    )
    op.create_index("waits_referral", "waits", ["referral"], schema=schema)
    op.create_index(
        "waits_queue",
        "waits",
        [sa.text("coalesce(due_at, 9223372036854775807)"), "since", "wait"],
        schema=schema,
        postgresql_where=sa.text("done_at is null"),
    )
    op.create_table(
        "reliability",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("kept", sa.BigInteger, nullable=False),
        sa.Column("broken", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_index("reliability_service", "reliability", ["service"], schema=schema)
    op.create_table(
        "lent",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        schema=schema,
    )


def downgrade() -> None:
    schema = begin_again()
    for table in ("lent", "reliability", "waits", "policies", "protocols"):
        op.drop_table(table, schema=schema)
    op.drop_index("referrals_line", "referrals", schema=schema)
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name, schema=schema)
    op.add_column("referrals", sa.Column("unit", sa.Text, nullable=True), schema=schema)
    op.add_column("tasks", sa.Column("waits_for", sa.Text, nullable=True), schema=schema)
    op.add_column("tasks", sa.Column("waits_since", sa.BigInteger, nullable=True), schema=schema)
    op.add_column("tasks", sa.Column("due_at", sa.BigInteger, nullable=True), schema=schema)
    op.create_index(
        "tasks_queue",
        "tasks",
        [sa.text("coalesce(due_at, 9223372036854775807)"), "waits_since", "task"],
        schema=schema,
        postgresql_where=sa.text("waits_for is not null"),
    )
