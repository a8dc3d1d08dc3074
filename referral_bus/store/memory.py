"""Rows and positions in memory, under the same contract as PostgreSQL; several owners can share one."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Table

from referral_bus.log.port import Partition
from referral_bus.store.port import Claim, StoreUnavailable, Superseded
from referral_bus.store.rows import Put, Row, Wanted, last_of_each, storable


class MemoryViews:
    """A :class:`~referral_bus.store.port.ViewStore` and :class:`~referral_bus.store.rows.Rows` of these tables."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.away = False
        """While true, nothing is done and every call raises StoreUnavailable."""
        self.lose_answers = 0
        """So many of the next applies are done, but raise StoreUnavailable: their caller can't know the outcome."""
        self._keys = {table.name: tuple(column.name for column in table.primary_key) for table in tables}
        self._rows: dict[str, dict[tuple[object, ...], Row]] = {name: {} for name in self._keys}
        self._claims: dict[Partition, Claim] = {}
        self._found_by: dict[tuple[str, str], dict[object, set[tuple[object, ...]]]] = {}
        """Keys by value, for each column that was ever asked for: a fold of a long ledger asks for a few columns very often."""

    async def claim(self, partition: Partition) -> Claim:
        self._reachable()
        epoch, position = self._claims.get(partition, Claim(0, 0))
        self._claims[partition] = Claim(epoch + 1, position)
        return self._claims[partition]

    async def apply(
        self, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Put]
    ) -> None:
        self._reachable()
        if self._claims.get(partition) != Claim(epoch, start):
            raise Superseded(
                f"{partition.topic}/{partition.number} has another owner or position: claim it anew"
            )
        self._claims[partition] = Claim(epoch, end)
        for table, rows in last_of_each(changes, self._keys).items():
            for row in rows:
                self._put(table, row)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("the store went away before it answered: claim anew")

    async def rows(self, wanted: Wanted) -> list[tuple[str, Row]]:
        self._reachable()
        return [
            (table, row)
            for (table, column), values in wanted.items()
            for row in self._found(table, column, values)
        ]

    def _found(self, table: str, column: str, values: Collection[str]) -> list[Row]:
        rows = self._rows[table]
        by_value = self._found_by.get((table, column))
        if by_value is None:
            by_value = self._found_by[table, column] = {}
            for key, row in rows.items():
                by_value.setdefault(row[column], set()).add(key)
        return [copy.deepcopy(rows[key]) for value in set(values) for key in by_value.get(value, ())]

    def table(self, name: str) -> list[Row]:
        """All rows of a table, in the order of their keys."""
        return [copy.deepcopy(row) for _, row in sorted(self._rows[name].items())]

    def position(self, partition: Partition) -> int:
        """The offset of the first record that the rows do not reflect."""
        return self._claims.get(partition, Claim(0, 0)).position

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _put(self, table: str, given: Row) -> None:
        row = storable(given)
        key = tuple(row[column] for column in self._keys[table])
        former = self._rows[table].get(key)
        self._rows[table][key] = row
        for (named, column), by_value in self._found_by.items():
            if named != table:
                continue
            if former is not None:
                by_value[former[column]].discard(key)
            by_value.setdefault(row[column], set()).add(key)

    def _reachable(self) -> None:
        if self.away:
            raise StoreUnavailable("the store is away: try again later")
