"""The whole protocol: what parties said is kept by event, parts know the whole they belong to, and operations hear of escalations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SCHEMA = "notifier"


def upgrade() -> None:
    op.add_column(
        "organisations", sa.Column("roles", postgresql.ARRAY(sa.Text), nullable=True), schema=_SCHEMA
    )
    # The roles stand in records that were read before; the kind is all that was kept of them, and says them but for who has two.
    op.execute(
        "update notifier.organisations set roles = array[case when kind in ('operations', 'provider') then kind else 'agency' end]"
    )
    op.alter_column("organisations", "roles", nullable=False, schema=_SCHEMA)
    op.add_column("standings", sa.Column("part_of", sa.Text, nullable=True), schema=_SCHEMA)
    op.create_table(
        "reports",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("codes", postgresql.JSONB, nullable=False),
        sa.Column("sealed_text", sa.LargeBinary, nullable=True),
        schema=_SCHEMA,
    )
    op.create_index("reports_subject", "reports", ["subject"], schema=_SCHEMA)
    op.create_index("reports_at", "reports", ["at"], schema=_SCHEMA)
    op.execute(
        "insert into notifier.reports"
        " select distinct on (n.region, n.sequence)"
        " n.region, n.sequence, s.subject, n.at, jsonb_build_object('outcome', s.outcome), s.sealed_note"
        " from notifier.notices n join notifier.standings s on s.referral = n.referral"
        " where n.type = 'org.referralbus.ledger.OutcomeReported.v1' and s.outcome is not null"
    )
    op.drop_column("standings", "outcome", schema=_SCHEMA)
    op.drop_column("standings", "sealed_note", schema=_SCHEMA)
    _roles_are("'agency', 'provider', 'operations'")


def downgrade() -> None:
    op.execute("delete from notifier.subscriptions where role = 'operations'")
    _roles_are("'agency', 'provider'")
    op.add_column("standings", sa.Column("outcome", sa.Text, nullable=True), schema=_SCHEMA)
    op.add_column("standings", sa.Column("sealed_note", sa.LargeBinary, nullable=True), schema=_SCHEMA)
    op.execute(
        "update notifier.standings s set outcome = r.codes ->> 'outcome', sealed_note = r.sealed_text"
        " from notifier.reports r join notifier.notices n on n.region = r.region and n.sequence = r.sequence"
        " where n.referral = s.referral and r.codes ? 'outcome'"
    )
    op.drop_table("reports", schema=_SCHEMA)
    op.drop_column("standings", "part_of", schema=_SCHEMA)
    op.drop_column("organisations", "roles", schema=_SCHEMA)


def _roles_are(allowed: str) -> None:
    op.drop_constraint("subscriptions_role", "subscriptions", schema=_SCHEMA)
    op.create_check_constraint("subscriptions_role", "subscriptions", f"role in ({allowed})", schema=_SCHEMA)
