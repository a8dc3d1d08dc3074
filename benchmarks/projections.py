"""Projections: the real service makes all its views from a backlog of ledger events, into a PostgreSQL that syncs to disk.

How far it has come is read from the positions the service keeps with its rows; the clock starts when they first move.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any, Final, NamedTuple

import psycopg

from benchmarks.ledgers import Author, write
from benchmarks.outside import every_record
from benchmarks.processes import Program, Usage, family_cpu
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage
from benchmarks.world import worlds
from referral_bus.log import topics
from referral_bus.wire.codec import Codec

NAIVE: Final = "naive projector"
_DAYS_AGO: Final = 86_400_000
_PACE_MS: Final = 3_000
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 60.0
_SIZE: Final = (
    "select coalesce(sum(pg_total_relation_size(oid)), 0) from pg_class"
    " where relkind = 'r' and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema')"
)
_POSITIONS: Final = "select coalesce(sum(sequence), 0) from projections.regions"


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peer, in turn, ``runs`` times, on one ledger and a fresh database each."""
    count, peers = scale.of(200_000, 20_000), scale.of(20_000, 3_000)
    figure = Figure(
        "projections",
        "Ledger events into PostgreSQL, one process, all views",
        (
            Measure("reflected", "events/s", "more", 5000),
            Measure("lost", "", "less", 0),
            Measure("CPU a thousand", "s"),
            Measure("PostgreSQL's CPU a thousand", "s"),
            Measure("peak memory", "MB"),
            Measure("on disk a thousand", "MB"),
            Measure("checked against the ledger", "events/s"),
            Measure("peak memory of the check", "MB"),
            Measure("rows that differ", "", "less", 0),
        ),
        {
            OURS: "the projections service: seven views, chain of hashes checked, position and rows in one transaction",
            NAIVE: "one view, one upsert and one transaction an event, no position, nothing checked",
        },
    )
    bus, numbers = await stage.bus(), itertools.count()
    await _write(stage, bus, count)
    total = await _length(stage, topics.ledger(bus))
    figure.setting = (
        f"{total:,} events in {PARTITIONS} partitions (the naive one: the first {peers:,}), {scale.runs} runs of each in turn, fsync "
        "on, PostgreSQL and broker on the same cores"
    )
    for _ in range(scale.runs):
        database = await stage.database(f"views{next(numbers)}")
        figure.add(OURS, await _ours(stage, bus, database, total))
        figure.add(OURS, await _checked(stage, bus, database, total))
        database = await stage.database(f"views{next(numbers)}")
        figure.add(NAIVE, await _peers(stage, topics.ledger(bus), database, peers))
    return figure


async def _write(stage: Stage, bus: str, count: int) -> None:
    codec, now = Codec.load(), int(time.time() * 1000) - _DAYS_AGO
    for world in worlds(PARTITIONS, places=2):
        author = Author(world, bus, codec, now, _PACE_MS)
        await write(stage.log, author, [author.beginning()], inbox=False)
        await write(stage.log, author, author.lives(count // PARTITIONS), inbox=False)


async def _length(stage: Stage, topic: str) -> int:
    return sum([1 async for _ in every_record(stage.bootstrap, topic)])


async def _ours(stage: Stage, bus: str, database: str, total: int) -> dict[str, float]:
    service = stage.service("projections", bus, database)
    await service.program.start()
    try:
        began, ended = await _reflected(service.program, stage, database, total)
    finally:
        await service.program.stop()
    thousands = (ended.events - began.events) / 1000
    return {
        "reflected": thousands * 1000 / (ended.at - began.at),
        "lost": total - ended.events,
        "CPU a thousand": (ended.used.cpu - began.used.cpu) / thousands,
        "PostgreSQL's CPU a thousand": (ended.database_cpu - began.database_cpu) / thousands,
        "peak memory": ended.used.peak,
        "on disk a thousand": await _megabytes(database) / (ended.events / 1000),
    }


class _Seen(NamedTuple):
    """How far the views were at a moment (seconds of the monotonic clock), and what it had taken."""

    at: float
    events: int
    used: Usage
    database_cpu: float


async def _reflected(program: Program, stage: Stage, database: str, total: int) -> tuple[_Seen, _Seen]:
    """The first moment at which the views reflected anything, and the one at which they reflected all, or stood still."""
    first: _Seen | None = None
    last: _Seen | None = None
    async with await psycopg.AsyncConnection.connect(
        database.replace("+psycopg", ""), autocommit=True
    ) as sql:
        while last is None or last.events < total:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                [events] = await (await sql.execute(_POSITIONS)).fetchone() or (0,)
            except psycopg.errors.UndefinedTable:
                events = 0  # the service has not made its tables yet
            seen = _Seen(time.monotonic(), int(events), program.usage(), family_cpu(stage.postgres.pid))
            if first is None and seen.events:
                first = seen
            if last is None or seen.events > last.events:
                last = seen
            elif seen.at > last.at + _PATIENCE_SECONDS:
                break
    if first is None or last is None or last.events == first.events:
        raise program.failed()
    return first, last


async def _checked(stage: Stage, bus: str, database: str, total: int) -> dict[str, float]:
    """``refbus check-views`` of what was reflected, which holds every row of every view in memory."""
    program = stage.program("checking", stage.bootstrap, bus, database)
    await program.start()
    try:
        said: dict[str, Any] = await program.result()
    finally:
        await program.stop()
    return {
        "checked against the ledger": total / said["seconds"],
        "peak memory of the check": said["peak"],
        "rows that differ": said["different"],
    }


async def _peers(stage: Stage, topic: str, database: str, most: int) -> dict[str, float]:
    program = stage.program("peers.naive_projector", stage.bootstrap, topic, database, most)
    before = family_cpu(stage.postgres.pid)
    await program.start()
    try:
        said: dict[str, Any] = await program.result()
    finally:
        await program.stop()
    thousands = said["events"] / 1000
    return {
        "reflected": said["events"] / said["seconds"],
        "lost": most - said["events"],
        "CPU a thousand": said["cpu"] / thousands,
        "PostgreSQL's CPU a thousand": (family_cpu(stage.postgres.pid) - before) / thousands,
        "peak memory": said["peak"],
        "on disk a thousand": await _megabytes(database) / thousands,
    }


async def _megabytes(database: str) -> float:
    """What its tables take with their indexes, dead rows included, as they are when the last event is in."""
    async with await psycopg.AsyncConnection.connect(database.replace("+psycopg", "")) as sql:
        [size] = await (await sql.execute(_SIZE)).fetchone() or (0,)
    return float(size) / 1e6
