"""A backup of a bus with some thousand referrals, and a restore of it: how long they take, and how large it is.

The referrals come over HTTP and are sealed, matched and offered by the services as they are run for real. What is copied rests meanwhile.
It is restored into a broker and a database nobody ever used, and then, as where Kafka has lost nothing, into a database beside the first
broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.intake import LOTS, publish, written
from benchmarks.matched import SECRETS_OF
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage
from benchmarks.world import worlds
from referral_bus.backup.cluster import cluster
from referral_bus.backup.database import Database
from referral_bus.backup.database_alone import restore_database
from referral_bus.backup.folder import Folder, Manifest
from referral_bus.backup.restoring import restore
from referral_bus.backup.taking import take
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import EmbeddedPostgres, programs_folder
from referral_bus.log import topics
from referral_bus.wire.codec import Codec

_PLACES: Final = 20
_QUIET_LOOKS, _LOOK_SECONDS = 5, 1.0
_HEARD_SECONDS: Final = 1800.0
_HEARD: Final = "select (select count(*) from notifier.standings), (select count(*) from notifier.notices)"


async def measure(stage: Stage, scale: Scale) -> Figure:
    """A backup and both restores, ``runs`` times, of one bus."""
    count = scale.of(20_000, 300)
    figure = Figure(
        "backup",
        f"A backup of {count:,} referrals, and back",
        (
            Measure("backup", "s"),
            Measure("restore", "s"),
            Measure("restore of the database alone", "s"),
            Measure("size", "MB"),
            Measure("size a referral", "bytes"),
        ),
        {
            OURS: "refbus backup and refbus restore without the start of Python; the database alone: nothing on its inbox is newer"
        },
    )
    # Matching's key is derived for this bus.
    bus, database = SECRETS_OF, await stage.database("backup")
    await stage.log.ensure(topics.topics(bus, PARTITIONS, replication=1))
    await _lived(stage, bus, database, count)
    for run in range(scale.runs):
        taken, manifest = await _run(stage, bus, database, stage.folder / f"run-{run}")
        figure.add(OURS, {**taken, "size a referral": taken["size"] * 1e6 / count})
    records = {name: sum(part.records for part in parts) for name, parts in manifest.topics.items()}
    figure.setting = (
        f"{records[topics.inbox(bus)]:,} submissions, {records[topics.ledger(bus)]:,} events, {sum(records.values()):,} records in all; "
        f"{PARTITIONS} partitions, replication 1, fsync on; referrals are offered and not answered; {scale.runs} runs, brokers, databases "
        "and the copying on the same cores"
    )
    return figure


async def _lived(stage: Stage, bus: str, database: str, count: int) -> None:
    """The referrals, until the notifier has heard of all."""
    among = worlds(PARTITIONS, _PLACES)
    file = written(stage, bus, among, count, "backup")
    quota = {"quota_per_second": LOTS, "quota_burst": LOTS}
    intake = stage.service("intake", bus, database, **quota)
    services = [intake, *(stage.service(name, bus, database) for name in ("matching", "notifier"))]
    try:
        # Intake first: the schema of the keys is made by it.
        for service in services:
            await service.program.start()
            await service.ready()
        codec, appender = Codec.load(), await stage.log.appender()
        for world in among:
            await appender.append([said.record(topics.inbox(bus), codec) for said in world.beginning()])
        await appender.close()
        await publish(stage, intake, bus, among)
        load = stage.program("http_load", intake.url, file, "backup", "batch")
        await load.start()
        try:
            await load.result()
        finally:
            await load.stop()
        await _heard(database, count)
    finally:
        for service in services:
            await service.program.stop()


async def _heard(database: str, count: int) -> None:
    address, before, same = database.replace("+psycopg", "", 1), None, 0
    async with (
        asyncio.timeout(_HEARD_SECONDS),
        await psycopg.AsyncConnection.connect(address, autocommit=True) as sql,
    ):
        while same < _QUIET_LOOKS:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await (await sql.execute(_HEARD)).fetchone()
            done = found is not None and found[0] >= count and found == before
            before, same = found, same + 1 if done else 0


async def _run(stage: Stage, bus: str, database: str, folder: Path) -> tuple[dict[str, float], Manifest]:
    programs, codec, backup = programs_folder(), Codec.load(), Folder(folder / "backup")
    taken: dict[str, float] = {}
    async with _others(folder) as (kafka, postgres):
        began = time.perf_counter()
        async with cluster(stage.bootstrap) as here:
            manifest = await take(here, Database(database, programs), backup, bus, _untold)
        taken["backup"] = time.perf_counter() - began
        taken["size"] = backup.size() / 1e6
        other = Database(await asyncio.to_thread(postgres.url, "whole"), programs)
        began = time.perf_counter()
        async with cluster(kafka.bootstrap) as there:
            await restore(there, other, backup, codec, _untold)
        taken["restore"] = time.perf_counter() - began
        other = Database(await asyncio.to_thread(postgres.url, "alone"), programs)
        began = time.perf_counter()
        async with cluster(stage.bootstrap) as here:
            await restore_database(here, other, backup, codec, _untold)
        taken["restore of the database alone"] = time.perf_counter() - began
    return taken, manifest


@asynccontextmanager
async def _others(folder: Path) -> AsyncIterator[tuple[EmbeddedKafka, EmbeddedPostgres]]:
    """A broker and a database to restore into."""
    kafka, postgres = EmbeddedKafka(folder / "kafka", free_ports(1)[0]), EmbeddedPostgres(folder / "postgres")
    try:
        await asyncio.gather(asyncio.to_thread(kafka.start), asyncio.to_thread(postgres.start))
        yield kafka, postgres
    finally:
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))


def _untold(*_: Any) -> None:
    """Nobody watches."""
