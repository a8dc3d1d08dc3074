"""Standings folded from the ledger, what organisations hear, who subscribed, and what became of each delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "regions",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("next_sequence", sa.BigInteger, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "organisations",
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("encryption_key", sa.Text, nullable=True),
        schema=_SCHEMA,
    )
    op.create_table(
        "agreements",
        sa.Column("agreement", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("content", postgresql.JSONB, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("agreements_recipient", "agreements", ["recipient"], schema=_SCHEMA)
    op.create_table(
        "standings",
        sa.Column("referral", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("agency", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("offers", postgresql.JSONB, nullable=False),
        sa.Column("accepted_task", sa.Text, nullable=True),
        sa.Column("accepted_by", sa.Text, nullable=True),
        sa.Column("outcome", sa.Text, nullable=True),
        sa.Column("sealed_facts", sa.LargeBinary, nullable=True),
        sa.Column("sealed_identity", sa.LargeBinary, nullable=True),
        sa.Column("sealed_note", sa.LargeBinary, nullable=True),
        schema=_SCHEMA,
    )
    op.create_index("standings_subject", "standings", ["subject"], schema=_SCHEMA)
    op.create_table(
        "parked",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("submission", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "streams",
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "notices",
        sa.Column("organisation", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("referral", sa.Text, nullable=True),
        sa.Column("task", sa.Text, nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("submission", sa.Text, nullable=True),
        sa.UniqueConstraint("organisation", "region", "sequence", "role", name="notices_event"),
        schema=_SCHEMA,
    )
    op.create_index("notices_at", "notices", ["at"], schema=_SCHEMA)
    op.create_table(
        "subscriptions",
        sa.Column("subscription", sa.Text, primary_key=True),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("types", postgresql.ARRAY(sa.Text), nullable=True),
        sa.Column("url", sa.Text, nullable=True),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("channel in ('webhook', 'sse', 'feed')", name="subscriptions_channel"),
        sa.CheckConstraint("role in ('agency', 'provider')", name="subscriptions_role"),
        sa.CheckConstraint(
            "(channel = 'webhook') = (url is not null and sealed_secret is not null)",
            name="subscriptions_webhook",
        ),
        schema=_SCHEMA,
    )
    op.create_index("subscriptions_organisation", "subscriptions", ["organisation"], schema=_SCHEMA)
    op.create_table(
        "deliveries",
        sa.Column("subscription", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_reason", sa.Text, nullable=True),
        sa.Column("result", sa.Text, nullable=True),
        sa.Column("done_at", sa.BigInteger, nullable=True),
        sa.ForeignKeyConstraint(
            ["subscription"],
            [f"{_SCHEMA}.subscriptions.subscription"],
            ondelete="CASCADE",
            name="deliveries_subscription",
        ),
        sa.ForeignKeyConstraint(
            ["organisation", "number"],
            [f"{_SCHEMA}.notices.organisation", f"{_SCHEMA}.notices.number"],
            ondelete="CASCADE",
            name="deliveries_notice",
        ),
        sa.CheckConstraint("(result is null) = (done_at is null)", name="deliveries_done"),
        schema=_SCHEMA,
    )
    op.create_index(
        "deliveries_pending",
        "deliveries",
        ["subscription", "number"],
        schema=_SCHEMA,
        postgresql_where=sa.text("done_at is null"),
    )
    op.create_index("deliveries_of", "deliveries", ["organisation", "number"], schema=_SCHEMA)


def downgrade() -> None:
    for table in (
        "deliveries",
        "subscriptions",
        "notices",
        "streams",
        "parked",
        "standings",
        "agreements",
        "organisations",
        "regions",
    ):
        op.drop_table(table, schema=_SCHEMA)
