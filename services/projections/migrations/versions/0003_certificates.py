"""Certificates beside the matches they are of, and all versions of a policy, by which scores are read: the views reflect the ledger anew.

Their positions go with them: the service, or ``refbus rebuild`` beside the old ones, begins at the ledger's first event.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.projections.migrations.anew import begin_again

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = begin_again()
    op.add_column("events", sa.Column("certificate", sa.Text, nullable=True), schema=schema)
    op.add_column("policies", sa.Column("sequence", sa.BigInteger, nullable=False), schema=schema)
    op.add_column("policies", sa.Column("rank_by", postgresql.JSONB, nullable=False), schema=schema)
    op.drop_constraint("policies_pkey", "policies", schema=schema)
    op.create_primary_key("policies_pkey", "policies", ["region", "policy", "version"], schema=schema)


def downgrade() -> None:
    schema = begin_again()
    op.drop_constraint("policies_pkey", "policies", schema=schema)
    op.create_primary_key("policies_pkey", "policies", ["region"], schema=schema)
    op.drop_column("policies", "rank_by", schema=schema)
    op.drop_column("policies", "sequence", schema=schema)
    op.drop_column("events", "certificate", schema=schema)
