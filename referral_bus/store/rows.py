"""Rows of views, and the one change that is made to them: a row is put in place of the one with its key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from referral_bus.contracts.message import NUL

Row = dict[str, Any]
"""A row by column. Values are text, whole numbers, truth values, bytes, None, and lists and dicts of them for JSON columns."""


_INSTEAD: Final = "\ufffd"
"""The replacement character of Unicode."""


def storable(value: Any) -> Any:
    """A copy of a row, or of a value in one, with U+FFFD for what PostgreSQL takes in no text, nor in JSON: NUL. Intake refuses it, but a
    ledger keeps what it has."""
    if isinstance(value, str):
        return value.replace(NUL, _INSTEAD) if NUL in value else value
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    return value


class Put(NamedTuple):
    """The whole row as it is from now on; its table's primary key says which row that is."""

    table: str
    row: Row


Wanted = Mapping[tuple[str, str], Collection[str]]
"""Values by table and text column."""


class Rows(Protocol):
    """What a fold reads of the rows it goes on from."""

    async def rows(self, wanted: Wanted) -> list[tuple[str, Row]]:
        """The rows that hold a wanted value, each with the name of its table; one that is wanted by two columns may come twice. Raises
        :class:`~referral_bus.store.port.StoreError`."""


def last_of_each(changes: Sequence[Put], keys: dict[str, tuple[str, ...]]) -> dict[str, list[Row]]:
    """The last row of each key, by table in the order of their first change."""
    found: dict[str, dict[tuple[Any, ...], Row]] = {}
    for table, row in changes:
        found.setdefault(table, {})[tuple(row[column] for column in keys[table])] = row
    return {table: list(rows.values()) for table, rows in found.items()}
