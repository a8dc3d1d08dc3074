"""The tables of the schema ``notifier``. The migrations beside them create them. Times are epoch milliseconds, UTC."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

SCHEMA = "notifier"
metadata = MetaData(schema=SCHEMA)

regions = Table(
    "regions",
    metadata,
    Column("region", Text, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("next_sequence", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
)
"""How far each region's events are reflected: the first sequence and the first ledger offset that are not."""

organisations = Table(
    "organisations",
    metadata,
    Column("organisation", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("encryption_key", Text, nullable=True),
)

services = Table(
    "services",
    metadata,
    Column("service", Text, primary_key=True),
    Column("organisation", Text, nullable=False),
)
"""Who offers each service: what is said of its places names no organisation."""

agreements = Table(
    "agreements",
    metadata,
    Column("agreement", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    Index("agreements_recipient", "recipient"),
)

standings = Table(
    "standings",
    metadata,
    Column("referral", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("agency", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("offers", JSONB, nullable=False),
    Column("accepted_task", Text, nullable=True),
    Column("accepted_by", Text, nullable=True),
    Column("part_of", Text, nullable=True),
    Column("sealed_facts", LargeBinary, nullable=True),
    Column("sealed_identity", LargeBinary, nullable=True),
    Index("standings_subject", "subject"),
)
"""Where each referral stands, as far as telling about it needs. ``offers``: open offers, provider by task."""

reports = Table(
    "reports",
    metadata,
    Column("region", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("codes", JSONB, nullable=False),
    Column("sealed_text", LargeBinary, nullable=True),
    Index("reports_subject", "subject"),
    Index("reports_at", "at"),
)
"""What a party said in an event that is shown to another: an outcome, how it is later, a question, its answer. Kept no longer than the
notices of the event."""

parked = Table(
    "parked",
    metadata,
    Column("region", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("submission", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)
"""Who sent what was parked: a refusal after the wait names only the sequence."""

streams = Table(
    "streams",
    metadata,
    Column("organisation", Text, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("organisation", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("region", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("referral", Text, nullable=True),
    Column("task", Text, nullable=True),
    Column("reason", Text, nullable=True),
    Column("expires_at", BigInteger, nullable=True),
    Column("submission", Text, nullable=True),
    Column("unit", Text, nullable=True),
    UniqueConstraint("organisation", "region", "sequence", "role", name="notices_event"),
    Index("notices_at", "at"),
)
"""What each organisation hears, numbered in the order it became visible. Nothing of a person stands in it."""

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscription", Text, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=True),
    Column("url", Text, nullable=True),
    Column("sealed_secret", LargeBinary, nullable=True),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("channel in ('webhook', 'sse', 'feed')", name="subscriptions_channel"),
    CheckConstraint("role in ('agency', 'provider', 'operations')", name="subscriptions_role"),
    CheckConstraint(
        "(channel = 'webhook') = (url is not null and sealed_secret is not null)",
        name="subscriptions_webhook",
    ),
    Index("subscriptions_organisation", "organisation"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("subscription", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("leased_until", BigInteger, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempts_before", Integer, nullable=False, server_default="0"),
    Column("last_reason", Text, nullable=True),
    Column("result", Text, nullable=True),
    Column("done_at", BigInteger, nullable=True),
    ForeignKeyConstraint(
        ["subscription"],
        [f"{SCHEMA}.subscriptions.subscription"],
        ondelete="CASCADE",
        name="deliveries_subscription",
    ),
    ForeignKeyConstraint(
        ["organisation", "number"],
        [f"{SCHEMA}.notices.organisation", f"{SCHEMA}.notices.number"],
        ondelete="CASCADE",
        name="deliveries_notice",
    ),
    CheckConstraint("(result is null) = (done_at is null)", name="deliveries_done"),
    Index("deliveries_pending", "subscription", "number", postgresql_where=text("done_at is null")),
    Index("deliveries_of", "organisation", "number"),
)
"""What is to be sent by webhook or feed, and what became of it. ``leased_until``: somebody is at it until then. ``attempts_before``: those
of ``attempts`` that were made before it was given up and sent anew."""

resends = Table(
    "resends",
    metadata,
    Column("organisation", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)
"""When each organisation last had its deliveries sent again."""
