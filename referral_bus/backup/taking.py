"""Taking a backup while the bus runs.

The order is what makes it whole. Of two parts of which one follows the other, the follower is taken first, so that in the backup it lags
behind and never is ahead: the groups' offsets and what the notifier told before the ledger, the ledger before the inbox it answers, the
inbox before the reference data and the keys its records need. Whatever lags catches up after a restore as it does after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from referral_bus.backup.cluster import Cluster
from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Copied, Folder, Manifest
from referral_bus.log import topics
from referral_bus.log.port import Log, LogUnavailable, Partition

FOLLOWS: Final = "notifier"
"""The schema that follows the ledger, and may not be ahead of it. What projections keep is made anew from the ledger."""
FOLLOWED: Final = ("intake", "sealing")
"""The schemas that must hold all that the inbox and the ledger need."""
SCHEMAS: Final = (FOLLOWS, *FOLLOWED)

_AT_ONCE: Final = 2000
_READ_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 60.0
_FORGOTTEN: Final = (
    "select distinct subject from sealing.subject_keys where destroyed_at is not null order by 1"
)

Progress = Callable[[str, int, int], None]
"""Told what is done, and how many of how many offsets of it."""


async def take(kafka: Cluster, database: Database, folder: Folder, bus: str, progress: Progress) -> Manifest:
    """Copy topics and database, as of now, into an empty folder. Raises BackupError and LogError."""
    taken_at = time.time_ns() // 1_000_000
    folder.begin()
    there = names(await kafka.topics(), bus)
    groups = await kafka.groups(f"refbus-{bus}-", there)
    await database.dump(FOLLOWS, folder.sql(FOLLOWS))
    spans = {topic: await spans_of(kafka.log, topic) for topic in there}
    for schema in FOLLOWED:
        await database.dump(schema, folder.sql(schema))
    copied = {topic: await _copy(kafka.log, folder, topic, spans[topic], progress) for topic in there}
    folder.forget(await database.ask(_FORGOTTEN))
    return folder.finish(Manifest(bus=bus, taken_at=taken_at, topics=copied, groups=groups, files={}))


def names(there: set[str], bus: str) -> list[str]:
    """The topics of a bus, followers first. Raises BackupError where it has none."""
    feeds = topics.feed(bus, "")
    own = {one for one in there if one.startswith(feeds.removesuffix("feed."))}
    # Outboxes don't bear the name of the bus: they are those of the organisations that have a feed of it.
    outboxes = {topics.outbox(one.removeprefix(feeds)) for one in own if one.startswith(feeds)} & there
    last = [topics.ledger(bus), topics.deadletter(bus), topics.inbox(bus), topics.reference(bus)]
    if not own.issuperset(last):
        raise BackupError(f"there are no topics of the bus {bus}: is this its Kafka?")
    return [*sorted((own | outboxes) - set(last)), *last]


async def spans_of(log: Log, topic: str) -> list[Copied]:
    """What is on a topic now."""
    found = []
    for number in range(await log.partitions(topic)):
        reader = await log.reader(Partition(topic, number))
        try:
            found.append(Copied(start=await reader.start(), end=await reader.end()))
        finally:
            await reader.close()
    return found


async def _copy(
    log: Log, folder: Folder, topic: str, spans: list[Copied], progress: Progress
) -> list[Copied]:
    copied, before, total = [], 0, sum(span.end - span.start for span in spans)
    for number, span in enumerate(spans):
        reader, file = await log.reader(Partition(topic, number)), folder.writer(Partition(topic, number))
        at, heard = span.start, time.monotonic()
        try:
            while at < span.end:
                for record in await reader.read(at, _AT_ONCE, _READ_SECONDS):
                    if record.offset < span.end:
                        file.add(record)
                if reader.position() > at:
                    at, heard = reader.position(), time.monotonic()
                elif time.monotonic() - heard > _SILENCE_SECONDS:
                    raise LogUnavailable(
                        f"{topic}/{number}: nothing came from offset {at} on for {_SILENCE_SECONDS:.0f} s; check that the broker runs"
                    )
                progress(topic, before + min(at, span.end) - span.start, total)
        finally:
            file.close()
            await reader.close()
        before += span.end - span.start
        copied.append(span.model_copy(update={"records": file.count}))
    return copied
