"""Are the views what the ledger says? The ledger is folded afresh in memory, a partition at a time, and every row held against the
database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Table, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from referral_bus.log.port import Log, Partition
from referral_bus.store.memory import MemoryViews
from referral_bus.store.rows import Row
from referral_bus.wire.codec import Codec
from services.projections.fold import Fold
from services.projections.known import KEYS
from services.projections.replay import Progress, Replay, Told
from services.projections.swap import unswapped
from services.projections.tables import SERVING

MOST_SHOWN: Final = 20
_AGAIN_SECONDS: Final = 0.1
_ROWS_AT_ONCE: Final = 2_000
_UNSHOWN: Final = frozenset({"subject"})
"""Columns whose values are not shown, not even as part of a key."""


class NotCaughtUp(Exception):
    """The views did not reach the ledger's end in time; the message says where they stand."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as the ledger says. ``columns`` are those that differ, for a row that is on both sides."""

    table: str
    key: dict[str, Any]
    what: Literal["missing", "not on the ledger", "different"]
    columns: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """What was compared and what differed; of the differences the first few are kept."""

    rows: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    different: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return self.different == 0

    def add(self, difference: Difference) -> None:
        self.different += 1
        if len(self.differences) < MOST_SHOWN:
            self.differences.append(difference)


async def compare(
    engine: AsyncEngine,
    log: Log,
    topic: str,
    codec: Codec,
    patience: float,
    progress: Progress = lambda done, of: None,
) -> Comparison:
    """Compare every row and position, a partition after the other, each at one moment, once the views reflect all that was on it when its
    turn came. No row belongs to two partitions, so those of one are all that is held in memory.

    Raises NotCaughtUp where they don't within ``patience`` seconds, Damaged where the ledger can't be folded, LogError and
    SQLAlchemy's errors.
    """
    async with _one_moment(engine) as connection:
        of = sum((await _positions(connection, topic)).values())
        # Looked for before all else: afterwards there may be rows of a region that began when its partition had had its turn.
        strange = {region for table in SERVING.views for region in await _regions(connection, table)}
    found = Comparison(rows=dict.fromkeys(KEYS, 0))
    for number in range(await log.partitions(topic)):
        before = sum(found.positions.values())

        def told(_: Partition, position: int, before: int = before) -> None:
            progress(min(before + position, of), of)

        fresh = MemoryViews(SERVING.views)
        replay = await Replay.open(log, [Partition(topic, number)], fresh, Fold(fresh, codec))
        try:
            strange -= await _compare_partition(found, engine, fresh, replay, patience, told)
        finally:
            await replay.close()
    if strange:
        async with _one_moment(engine) as connection:
            for table in SERVING.views:
                await _compare_rows(found, connection, table, strange, {})
    return found


async def _compare_partition(
    found: Comparison, engine: AsyncEngine, fresh: MemoryViews, replay: Replay, patience: float, told: Told
) -> set[str]:
    """Compare what is of the one partition that is replayed. Returns its regions."""
    await replay.through(await replay.ends(), told)
    [(partition, reached)] = replay.positions().items()
    await _caught_up(engine, partition, reached, patience)
    async with _one_moment(engine) as connection:
        stored = (await _positions(connection, partition.topic)).get(partition, 0)
        await replay.through({partition: stored}, told)
        # Where folding ended is behind the last record below the stored position; anything else is no position of the ledger.
        position = found.positions[str(partition.number)] = replay.positions()[partition]
        if stored != position:
            found.add(Difference("positions", {"partition": partition.number}, "different", ["next"]))
        regions = {row["region"] for row in fresh.table(SERVING.regions.name)}
        for table in SERVING.views:
            keys = KEYS[table.name]
            expected = {tuple(row[column] for column in keys): row for row in fresh.table(table.name)}
            found.rows[table.name] += len(expected)
            await _compare_rows(found, connection, table, regions, expected)
        return regions


async def _caught_up(engine: AsyncEngine, partition: Partition, wanted: int, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        async with engine.connect() as connection:
            stored = (await _positions(connection, partition.topic)).get(partition, 0)
        if stored >= wanted:
            return
        if time.monotonic() > until:
            raise NotCaughtUp(
                f"the views do not reflect the ledger after {patience:g} s (partition {partition.number} at {stored} of {wanted}). "
                "Is projections running?"
            )
        await asyncio.sleep(_AGAIN_SECONDS)


@asynccontextmanager
async def _one_moment(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection that sees the views as they are at one moment, while no rebuild swaps them."""
    async with unswapped(engine), engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        await connection.execute(text("set transaction read only"))
        await connection.execute(text("set local statement_timeout = 0"))
        yield connection


async def _positions(connection: AsyncConnection, topic: str) -> dict[Partition, int]:
    positions = SERVING.positions.c
    rows = await connection.execute(
        select(positions.partition, positions.next).where(positions.topic == topic)
    )
    return {Partition(topic, row.partition): row.next for row in rows}


async def _regions(connection: AsyncConnection, table: Table) -> set[str]:
    return set(await connection.scalars(select(table.c.region).distinct()))


async def _compare_rows(
    found: Comparison,
    connection: AsyncConnection,
    table: Table,
    regions: Collection[str],
    expected: dict[tuple[Any, ...], Row],
) -> None:
    """Compare the rows of these regions with those they are expected to be, by key, which are used up."""
    keys = KEYS[table.name]
    theirs = select(table).where(table.c.region.in_(regions))
    rows = await connection.stream(theirs.execution_options(yield_per=_ROWS_AT_ONCE))
    async for mapping in rows.mappings():
        row = dict(mapping)
        wanted = expected.pop(tuple(row[column] for column in keys), None)
        if wanted is None:
            found.add(Difference(table.name, _shown(row, keys), "not on the ledger"))
        elif row != wanted:
            columns = sorted(column for column in row if row[column] != wanted[column])
            found.add(Difference(table.name, _shown(row, keys), "different", columns))
    for row in expected.values():
        found.add(Difference(table.name, _shown(row, keys), "missing"))


def _shown(row: Row, keys: tuple[str, ...]) -> dict[str, Any]:
    return {column: "..." if column in _UNSHOWN else row[column] for column in keys}
