"""What migrations do that change what the views hold of the ledger: they empty them, to be reflected anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def begin_again() -> str:
    """Empty the views there are, and forget how far they had come. Returns their schema. Raises RuntimeError where nobody said which that
    is."""
    context = op.get_context()
    schema: str | None = context.version_table_schema
    if schema is None:
        raise RuntimeError("the views' migrations need to be told their schema")
    for table in sa.inspect(op.get_bind()).get_table_names(schema):
        if table != context.version_table:
            op.execute(sa.text(f'truncate table "{schema}"."{table}"'))
    return schema
