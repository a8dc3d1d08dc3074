"""Matching put together from its settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogError, Partition
from referral_bus.runtime.clock import Clock, SystemClock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.runtime.health import Health
from referral_bus.runtime.service import Task
from referral_bus.runtime.worker import Worker
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.replay import replay_destroyed
from referral_bus.sealing.secrets import read_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from services.matching.facts import FactsOpener
from services.matching.gauges import Gauges
from services.matching.partition import PartitionWork
from services.matching.regions import Regions
from services.matching.relay import Relay
from services.matching.settings import MatchingSettings
from services.matching.snapshots import Snapshots
from services.matching.ticks import Ticks

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


@asynccontextmanager
async def build(
    settings: MatchingSettings, health: Health, clock: Clock | None = None
) -> AsyncIterator[list[Task]]:
    """The parts: the worker, the clock, snapshots, and the gauges."""
    clock, codec, bus = clock or SystemClock(), Codec.load(settings.write_schemas_up_to), settings.bus
    async with AsyncExitStack() as stack:
        engine = new_engine(settings.database_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        await migrate(engine, "sealing", "referral_bus.sealing.migrations")
        log = KafkaLog(settings.kafka_access())
        stack.push_async_callback(log.close)
        keys = KeyStore(
            engine, {"facts": read_key(settings.facts_key.get_secret_value(), "REFBUS_FACTS_KEY")}
        )
        await replay_destroyed(log, topics.ledger(bus), codec, engine)
        snapshots = Snapshots(settings.data_dir / "snapshots", bus)
        sealer = Sealer(codec)
        dead_letters = DeadLetters(bus, settings.service, settings.operations_public_key, codec, clock)

        def make(partition: Partition) -> PartitionWork:
            return PartitionWork(
                log=log,
                bus=bus,
                partition=partition.number,
                codec=codec,
                opener=FactsOpener(keys, sealer),
                dead_letters=dead_letters,
                clock=clock,
                snapshots=snapshots,
            )

        worker = Worker(
            log,
            make,
            health,
            topic=topics.inbox(bus),
            group=topics.group(bus, "matching"),
            transactional_id=lambda partition: f"{topics.group(bus, 'matching')}-{partition}",
            batch=settings.batch_records,
        )
        ticks = Ticks(await log.appender(), bus, codec, clock)
        regions = Regions(log, bus, codec)
        relay = Relay(log, await log.appender(), regions, codec, clock, health, bus=bus)
        yield [
            Task("worker", worker.run()),
            Task("ticks", ticks.run(worker.owned)),
            Task("regions", regions.run()),
            Task("relay", relay.run()),
            Task("snapshots", _keep_snapshots(worker.owned, snapshots, settings.snapshot_events)),
            Task("gauges", Gauges(clock).run(worker.owned)),
        ]


async def _keep_snapshots(
    owned: Mapping[Partition, PartitionWork],
    snapshots: Snapshots,
    events: int,
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    while True:
        await asyncio.sleep(look_seconds)
        for work in list(owned.values()):
            try:
                captured = work.captured()
                if captured is not None:
                    await snapshots.save(captured)
                elif work.events_since_snapshot >= events:
                    await work.capture()
            except (LogError, OSError) as error:
                logger.warning("partition %d gets no snapshot now: %s", work.partition, error)
