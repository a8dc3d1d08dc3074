"""The views, where their rows belong to, and how far they reflect the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from referral_bus.store.tables import POSITIONS, position_columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _schema() -> str:
    schema: str | None = op.get_context().version_table_schema
    if schema is None:
        raise RuntimeError("the views' migrations need to be told their schema")
    return schema


def upgrade() -> None:
    schema = _schema()
    op.create_table(POSITIONS, *position_columns(), schema=schema)
    op.create_table(
        "regions",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("decided_through", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_table(
        "organisations",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        schema=schema,
    )
    op.create_table(
        "agreements",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("agreement", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("content", postgresql.JSONB, nullable=False),
        schema=schema,
    )
    op.create_index("agreements_recipient", "agreements", ["recipient"], schema=schema)
    op.create_table(
        "referrals",
        sa.Column("referral", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=True),
        sa.Column("erased", sa.Boolean, nullable=False),
        sa.Column("agency", sa.Text, nullable=False),
        sa.Column("urgency", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("outcome", sa.Text, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("task", sa.Text, nullable=True),
        sa.Column("service", sa.Text, nullable=True),
        sa.Column("unit", sa.Text, nullable=True),
        sa.Column("accepted_task", sa.Text, nullable=True),
        sa.Column("accepted_by", sa.Text, nullable=True),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_index("referrals_caseload", "referrals", ["agency", "opened_at", "referral"], schema=schema)
    op.create_index(
        "referrals_subject",
        "referrals",
        ["subject"],
        schema=schema,
        postgresql_where=sa.text("subject is not null"),
    )
    op.create_table(
        "events",
        sa.Column("referral", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("task", sa.Text, nullable=True),
        sa.Column("detail", postgresql.JSONB, nullable=False),
        schema=schema,
    )
    op.create_table(
        "sections",
        sa.Column("referral", sa.Text, primary_key=True),
        sa.Column("section", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=True),
        sa.Column("sealed", sa.LargeBinary, nullable=True),
        schema=schema,
    )
    op.create_index(
        "sections_subject",
        "sections",
        ["subject"],
        schema=schema,
        postgresql_where=sa.text("subject is not null"),
    )
    op.create_table(
        "erasures",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_index("erasures_subject", "erasures", ["subject"], schema=schema)
    op.create_table(
        "tasks",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("referral", sa.Text, nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("business_status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("offered_at", sa.BigInteger, nullable=False),
        sa.Column("accepted_at", sa.BigInteger, nullable=True),
        sa.Column("started_at", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("waits_for", sa.Text, nullable=True),
        sa.Column("waits_since", sa.BigInteger, nullable=True),
        sa.Column("due_at", sa.BigInteger, nullable=True),
        schema=schema,
    )
    op.create_index("tasks_referral", "tasks", ["referral"], schema=schema)
    op.create_index("tasks_inbox", "tasks", ["provider", "offered_at", "task"], schema=schema)
    op.create_index(
        "tasks_queue",
        "tasks",
        [sa.text("coalesce(due_at, 9223372036854775807)"), "waits_since", "task"],
        schema=schema,
        postgresql_where=sa.text("waits_for is not null"),
    )
    op.create_table(
        "units",
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("service_name", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("offered", sa.Boolean, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("taken", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("free", sa.BigInteger, nullable=False),
        sa.Column("counted_at", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_index("units_service", "units", ["service"], schema=schema)
    op.create_table(
        "submissions",
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("submission", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("until", sa.BigInteger, nullable=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_index("submissions_of", "submissions", ["organisation", "at", "place"], schema=schema)


def downgrade() -> None:
    schema = _schema()
    for table in (
        "submissions",
        "units",
        "tasks",
        "erasures",
        "sections",
        "events",
        "referrals",
        "agreements",
        "organisations",
        "regions",
        POSITIONS,
    ):
        op.drop_table(table, schema=schema)
