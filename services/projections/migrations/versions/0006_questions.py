"""How many questions about an offer are open: the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from referral_bus.store.tables import POSITIONS

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_VIEWS = (
    "regions",
    "adopted",
    "organisations",
    "agreements",
    "protocols",
    "policies",
    "referrals",
    "events",
    "sections",
    "erasures",
    "tasks",
    "waits",
    "units",
    "reliability",
    "lent",
    "submissions",
)


def _begin_again() -> str:
    schema: str | None = op.get_context().version_table_schema
    if schema is None:
        raise RuntimeError("the views' migrations need to be told their schema")
    for table in (POSITIONS, *_VIEWS):
        op.execute(sa.text(f'truncate table "{schema}"."{table}"'))
    return schema


def upgrade() -> None:
    schema = _begin_again()
    op.add_column("tasks", sa.Column("questions", sa.Integer, nullable=False), schema=schema)


def downgrade() -> None:
    schema = _begin_again()
    op.drop_column("tasks", "questions", schema=schema)
