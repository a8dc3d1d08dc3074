"""What migrations do that change what the views hold of the ledger: they empty them, to be reflected anew."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

from referral_bus.store.tables import POSITIONS


def begin_again(views: Iterable[str]) -> str:
    """Empty these views, which are those there are at that migration, and forget how far they had come. Returns their schema. Raises
    RuntimeError where nobody said which that is."""
    schema: str | None = op.get_context().version_table_schema
    if schema is None:
        raise RuntimeError("the views' migrations need to be told their schema")
    for table in (POSITIONS, *views):
        op.execute(sa.text(f'truncate table "{schema}"."{table}"'))
    return schema
