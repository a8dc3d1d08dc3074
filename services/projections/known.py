"""The rows a batch of events goes on from, and what the batch has made of them so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from referral_bus.store.rows import Put, Row
from services.projections.tables import SERVING

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    table.name: tuple(column.name for column in table.primary_key) for table in SERVING.views
}
"""The columns of each table's primary key."""


class Known:
    """Rows by table and key. A view reads from it and never changes a row: it puts another in its place."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in KEYS}
        self._changed: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in KEYS}

    def row(self, table: str, *key: Any) -> Row | None:
        """The row with this key, in the order of the key's columns."""
        return self._rows[table].get(key)

    def rows(self, table: str, column: str, value: Any) -> Iterator[Row]:
        """The rows with this value, of those that were asked for or put."""
        return (row for row in self._rows[table].values() if row[column] == value)

    def take(self, table: str, rows: Iterable[Row]) -> None:
        """Rows as they are stored."""
        for row in rows:
            self._rows[table][tuple(row[column] for column in KEYS[table])] = row

    def put(self, change: Put) -> None:
        """A row as an event has made it."""
        table, row = change
        key = tuple([row[column] for column in KEYS[table]])
        self._rows[table][key] = self._changed[table][key] = row

    def changes(self) -> list[Put]:
        """Each row that was put, as it is in the end."""
        return [Put(table, row) for table, rows in self._changed.items() for row in rows.values()]


class Damaged(Exception):
    """The ledger holds something that can't follow from what stands before it, or that this version does not know. The views stop
    there: a view that passed over an event would be wrong and not say so."""
