"""How a view names the rows it goes on from."""

from __future__ import annotations

from typing import Any, NamedTuple

from referral_bus.store.rows import Row
from services.projections.known import Damaged, Known


class Need(NamedTuple):
    """All rows of a table that have this value in this text column."""

    table: str
    column: str
    value: str


def the(known: Known, table: str, *key: Any) -> Row:
    """The row an event can't do without. Raises Damaged."""
    row = known.row(table, *key)
    if row is None:
        raise Damaged(
            f"nothing before it made the row of {table} that it changes ({', '.join(map(str, key))})"
        )
    return row
