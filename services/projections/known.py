"""The rows a batch of events goes on from, and what the batch has made of them so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        self._found_by: dict[str, dict[str, dict[Any, dict[tuple[Any, ...], None]]]] = {
            name: {} for name in KEYS
        }
        """Keys by value, for each column that was asked for."""

    def row(self, table: str, *key: Any) -> Row | None:
        """The row with this key, in the order of the key's columns."""
        return self._rows[table].get(key)

    def rows(self, table: str, column: str, value: Any) -> Iterator[Row]:
        """The rows with this value, of those that were asked for or put."""
        by_value = self._found_by[table].get(column)
        if by_value is None:
            by_value = self._found_by[table][column] = {}
            for key, row in self._rows[table].items():
                by_value.setdefault(row[column], {})[key] = None
        return iter([self._rows[table][key] for key in by_value.get(value, ())])

    def take(self, table: str, row: Row) -> None:
        """A row as it is stored."""
        self._set(table, tuple([row[column] for column in KEYS[table]]), row)

    def put(self, change: Put) -> None:
        """A row as an event has made it."""
        table, row = change
        key = tuple([row[column] for column in KEYS[table]])
        self._set(table, key, row)
        self._changed[table][key] = row

    def changes(self) -> list[Put]:
        """Each row that was put, as it is in the end."""
        return [Put(table, row) for table, rows in self._changed.items() for row in rows.values()]

    def _set(self, table: str, key: tuple[Any, ...], row: Row) -> None:
        former = self._rows[table].get(key)
        self._rows[table][key] = row
        for column, by_value in self._found_by[table].items():
            if former is not None and former[column] != row[column]:
                del by_value[former[column]][key]
            by_value.setdefault(row[column], {})[key] = None


class Damaged(Exception):
    """The ledger holds something that can't follow from what stands before it, or that this version does not know. The views stop
    there: a view that passed over an event would be wrong and not say so."""
