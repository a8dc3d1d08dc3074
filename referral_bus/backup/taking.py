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
from referral_bus.log.port import Log, LogError, LogUnavailable, Partition, Reader

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
    replicas = await kafka.replicas(there)
    groups = await kafka.groups(f"refbus-{bus}-", there)
    await database.dump(FOLLOWS, folder.sql(FOLLOWS))
    spans = {topic: await spans_of(kafka.log, topic) for topic in there}
    for number, span in enumerate(spans[topics.ledger(bus)]):
        _must_have_its_beginning(Partition(topics.ledger(bus), number), span.start)
    for schema in FOLLOWED:
        await database.dump(schema, folder.sql(schema))
    copied = {}
    for topic in there:
        whole = topic == topics.ledger(bus)
        copied[topic] = await _copy(kafka.log, folder, topic, spans[topic], progress, whole=whole)
    folder.forget(await database.ask(_FORGOTTEN))
    rights = await database.rights()
    return folder.finish(
        Manifest(
            bus=bus,
            taken_at=taken_at,
            topics=copied,
            replicas=replicas,
            groups=groups,
            rights=rights,
            files={},
        )
    )


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


def _must_have_its_beginning(ledger: Partition, start: int) -> None:
    if start:
        raise BackupError(
            f"the ledger lacks its beginning: {ledger.topic}/{ledger.number} starts at offset {start}, and nothing can be made of what "
            "follows. Restore the last backup that is whole, and keep the ledger for ever (retention.ms=-1)"
        )


async def _copy(
    log: Log, folder: Folder, topic: str, spans: list[Copied], progress: Progress, *, whole: bool
) -> list[Copied]:
    copied, before, total = [], 0, sum(span.end - span.start for span in spans)
    for number, span in enumerate(spans):
        partition = Partition(topic, number)

        def told(at: int, before: int = before, span: Copied = span) -> None:
            progress(topic, before + max(span.start, at) - span.start, total)

        reader = await log.reader(partition)
        try:
            copied.append(await _copy_kept(reader, folder, partition, span.end, told, whole=whole))
        finally:
            await reader.close()
        before += span.end - span.start
    return copied


async def _copy_kept(
    reader: Reader,
    folder: Folder,
    partition: Partition,
    end: int,
    told: Callable[[int], None],
    *,
    whole: bool,
) -> Copied:
    """Copy what is kept of a partition up to ``end``; ``whole``: nothing of it may have expired."""
    while True:
        # Only now, since what comes before this partition may take so long that the beginning there was is gone.
        start = min(await reader.start(), end)
        if whole:
            _must_have_its_beginning(partition, start)
        try:
            return Copied(
                start=start, end=end, records=await _copy_from(reader, folder, partition, start, end, told)
            )
        except LogError:
            # Where its beginning expires while it is read, what was copied of that is expired too: it is written anew without.
            if await reader.start() <= reader.position():
                raise


async def _copy_from(
    reader: Reader, folder: Folder, partition: Partition, start: int, end: int, told: Callable[[int], None]
) -> int:
    file, at, heard = folder.writer(partition), start, time.monotonic()
    try:
        while at < end:
            for record in await reader.read(at, _AT_ONCE, _READ_SECONDS):
                if record.offset < end:
                    file.add(record)
            if reader.position() > at:
                at, heard = reader.position(), time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise LogUnavailable(
                    f"{partition.topic}/{partition.number}: nothing came from offset {at} on for {_SILENCE_SECONDS:.0f} s; "
                    "check that the broker runs"
                )
            told(min(at, end))
    finally:
        file.close()
    return file.count
