"""The tables of the views, in the schema they serve from or in one that is being built beside it. Times are epoch milliseconds, UTC.

Every row belongs to one region, and so to one partition of the ledger and one writer. What concerns a person stands in
``sections`` alone, sealed.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from referral_bus.store import tables as store

SCHEMA: Final = "projections"
NEXT_SCHEMA: Final = "projections_next"
"""Where a rebuild makes the views anew."""
FORMER_SCHEMA: Final = "projections_former"
"""Where the views it replaced stand until they are dropped."""


class ViewTables:
    """The tables, in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        metadata = MetaData(schema=schema)
        self.positions = store.positions(metadata)
        self.regions = Table(
            "regions",
            metadata,
            Column("region", Text, primary_key=True),
            Column("partition", Integer, nullable=False),
            Column("sequence", BigInteger, nullable=False),
            Column("hash", LargeBinary, nullable=False),
            Column("decided_through", BigInteger, nullable=False),
            Column("at", BigInteger, nullable=False),
        )
        self.organisations = Table(
            "organisations",
            metadata,
            Column("region", Text, primary_key=True),
            Column("organisation", Text, primary_key=True),
            Column("version", Integer, nullable=False),
            Column("name", Text, nullable=False),
            Column("kind", Text, nullable=False),
        )
        self.agreements = Table(
            "agreements",
            metadata,
            Column("region", Text, primary_key=True),
            Column("agreement", Text, primary_key=True),
            Column("version", Integer, nullable=False),
            Column("recipient", Text, nullable=False),
            Column("content", JSONB, nullable=False),
            Index("agreements_recipient", "recipient"),
        )
        self.protocols = Table(
            "protocols",
            metadata,
            Column("region", Text, primary_key=True),
            Column("protocol", Text, primary_key=True),
            Column("version", Integer, primary_key=True),
            Column("limits", JSONB, nullable=False),
            Index("protocols_protocol", "protocol"),
        )
        self.policies = Table(
            "policies",
            metadata,
            Column("region", Text, primary_key=True),
            Column("policy", Text, primary_key=True),
            Column("version", Integer, primary_key=True),
            Column("sequence", BigInteger, nullable=False),
            Column("rank_by", JSONB, nullable=False),
            Column("trust", JSONB, nullable=False),
        )
        self.adopted = Table(
            "adopted",
            metadata,
            Column("region", Text, primary_key=True),
            Column("kind", Text, primary_key=True),
            Column("name", Text, primary_key=True),
            Column("version", Integer, primary_key=True),
            Column("at", BigInteger, nullable=False),
            Column("content", JSONB, nullable=False),
        )
        self.referrals = Table(
            "referrals",
            metadata,
            Column("referral", Text, primary_key=True),
            Column("region", Text, nullable=False),
            Column("subject", Text, nullable=True),
            Column("erased", Boolean, nullable=False),
            Column("agency", Text, nullable=False),
            Column("urgency", Text, nullable=False),
            Column("purpose", Text, nullable=False),
            Column("protocol", Text, nullable=False),
            Column("protocol_version", Integer, nullable=False),
            Column("limits", JSONB, nullable=False),
            Column("mode", Text, nullable=False),
            Column("part_of", Text, nullable=True),
            Column("parts", JSONB, nullable=True),
            Column("status", Text, nullable=False),
            Column("standing", Text, nullable=False),
            Column("reason", Text, nullable=True),
            Column("outcome", Text, nullable=True),
            Column("outcome_at", BigInteger, nullable=True),
            Column("corrected", Boolean, nullable=False),
            Column("attempts", Integer, nullable=False),
            Column("offers", JSONB, nullable=False),
            Column("task", Text, nullable=True),
            Column("service", Text, nullable=True),
            Column("accepted_task", Text, nullable=True),
            Column("accepted_by", Text, nullable=True),
            Column("serving", Text, nullable=True),
            Column("started", Boolean, nullable=False),
            Column("hold_reason", Text, nullable=True),
            Column("held_until", BigInteger, nullable=True),
            Column("waits_for", JSONB, nullable=True),
            Column("review_at", BigInteger, nullable=True),
            Column("opened_at", BigInteger, nullable=False),
            Column("reopened_at", BigInteger, nullable=True),
            Column("changed_at", BigInteger, nullable=False),
            Column("sequence", BigInteger, nullable=False),
            Index("referrals_caseload", "agency", "opened_at", "referral"),
            Index("referrals_subject", "subject", postgresql_where=text("subject is not null")),
            Index("referrals_line", "region", postgresql_where=text("waits_for is not null")),
        )
        self.events = Table(
            "events",
            metadata,
            Column("referral", Text, primary_key=True),
            Column("sequence", BigInteger, primary_key=True),
            Column("region", Text, nullable=False),
            Column("type", Text, nullable=False),
            Column("at", BigInteger, nullable=False),
            Column("task", Text, nullable=True),
            Column("correction", Boolean, nullable=False),
            Column("detail", JSONB, nullable=False),
            Column("certificate", Text, nullable=True),
        )
        self.sections = Table(
            "sections",
            metadata,
            Column("referral", Text, primary_key=True),
            Column("section", Text, primary_key=True),
            Column("region", Text, nullable=False),
            Column("subject", Text, nullable=True),
            Column("task", Text, nullable=True),
            Column("sealed", LargeBinary, nullable=True),
            Index("sections_subject", "subject", postgresql_where=text("subject is not null")),
        )
        self.erasures = Table(
            "erasures",
            metadata,
            Column("region", Text, primary_key=True),
            Column("subject", Text, primary_key=True),
            Column("at", BigInteger, nullable=False),
            Index("erasures_subject", "subject"),
        )
        self.tasks = Table(
            "tasks",
            metadata,
            Column("task", Text, primary_key=True),
            Column("referral", Text, nullable=False),
            Column("region", Text, nullable=False),
            Column("provider", Text, nullable=False),
            Column("service", Text, nullable=False),
            Column("unit", Text, nullable=False),
            Column("transfer", Boolean, nullable=False),
            Column("status", Text, nullable=False),
            Column("business_status", Text, nullable=False),
            Column("reason", Text, nullable=True),
            Column("expires_at", BigInteger, nullable=False),
            Column("offered_at", BigInteger, nullable=False),
            Column("acknowledged_at", BigInteger, nullable=True),
            Column("accepted_at", BigInteger, nullable=True),
            Column("starts_at", BigInteger, nullable=True),
            Column("handed_over_at", BigInteger, nullable=True),
            Column("started_at", BigInteger, nullable=True),
            Column("held_until", BigInteger, nullable=True),
            Column("missed", Integer, nullable=False),
            Column("questions", Integer, nullable=False),
            Column("ended_at", BigInteger, nullable=True),
            Index("tasks_referral", "referral"),
            Index("tasks_inbox", "provider", "offered_at", "task"),
        )
        self.waits = Table(
            "waits",
            metadata,
            Column("wait", Text, primary_key=True),
            Column("referral", Text, nullable=False),
            Column("task", Text, nullable=True),
            Column("region", Text, nullable=False),
            Column("provider", Text, nullable=True),
            Column("service", Text, nullable=True),
            Column("waits_for", Text, nullable=False),
            Column("name", Text, nullable=False),
            Column("whose", Text, nullable=False),
            Column("target", Text, nullable=True),
            Column("step", Text, nullable=True),
            Column("since", BigInteger, nullable=False),
            Column("due_at", BigInteger, nullable=True),
            Column("reminded", Integer, nullable=True),
            Column("escalated_at", BigInteger, nullable=True),
            Column("done_at", BigInteger, nullable=True),
            Index("waits_referral", "referral"),
            Index(
                "waits_queue",
                text("coalesce(due_at, 9223372036854775807)"),
                "since",
                "wait",
                postgresql_where=text("done_at is null"),
            ),
        )
        self.units = Table(
            "units",
            metadata,
            Column("unit", Text, primary_key=True),
            Column("region", Text, nullable=False),
            Column("service", Text, nullable=False),
            Column("organisation", Text, nullable=False),
            Column("service_name", Text, nullable=False),
            Column("name", Text, nullable=False),
            Column("offered", Boolean, nullable=False),
            Column("total", BigInteger, nullable=False),
            Column("taken", BigInteger, nullable=False),
            Column("held", BigInteger, nullable=False),
            Column("free", BigInteger, nullable=False),
            Column("overbook", BigInteger, nullable=False),
            Column("doubted", BigInteger, nullable=False),
            Column("doubted_at", BigInteger),
            Column("doubted_until", BigInteger),
            Column("counted_at", BigInteger, nullable=False),
            Column("reported_at", BigInteger, nullable=False),
            Column("moved", JSONB, nullable=False),
            Index("units_service", "service"),
        )
        self.reliability = Table(
            "reliability",
            metadata,
            Column("region", Text, primary_key=True),
            Column("service", Text, primary_key=True),
            Column("kept", BigInteger, nullable=False),
            Column("broken", BigInteger, nullable=False),
            Index("reliability_service", "service"),
        )
        self.lent = Table(
            "lent",
            metadata,
            Column("task", Text, primary_key=True),
            Column("region", Text, nullable=False),
            Column("unit", Text, nullable=False),
            Column("until", BigInteger, nullable=False),
            Column("state", Text, nullable=False),
        )
        self.submissions = Table(
            "submissions",
            metadata,
            Column("place", Text, primary_key=True),
            Column("region", Text, nullable=False),
            Column("sequence", BigInteger, nullable=False),
            Column("organisation", Text, nullable=False),
            Column("submission", Text, nullable=False),
            Column("type", Text, nullable=False),
            Column("about", Text, nullable=True),
            Column("state", Text, nullable=False),
            Column("reason", Text, nullable=True),
            Column("until", BigInteger, nullable=True),
            Column("at", BigInteger, nullable=False),
            Index("submissions_of", "organisation", "at", "place"),
        )
        self.views: tuple[Table, ...] = (
            self.regions,
            self.organisations,
            self.agreements,
            self.protocols,
            self.policies,
            self.adopted,
            self.referrals,
            self.events,
            self.sections,
            self.erasures,
            self.tasks,
            self.waits,
            self.units,
            self.reliability,
            self.lent,
            self.submissions,
        )
        self.metadata = metadata


SERVING: Final = ViewTables(SCHEMA)
