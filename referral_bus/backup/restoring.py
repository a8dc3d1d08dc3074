"""Bringing a backup back, into an empty cluster and an empty database, while no service runs.

The inbox gets its records at the offsets they had: the ledger's events, which are hashed, and the tokens parties hold name them. All other
offsets are locators only, and what stores one is told the new one, or begins anew.

The database comes first, in one transaction that also destroys the keys of whom somebody forgot since: there is no moment at which a
restored key could open anything of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy.dialects.postgresql.base import PGDialect

from referral_bus.backup.cluster import Cluster, at_their_offsets
from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Folder, Manifest
from referral_bus.backup.taking import SCHEMAS, Progress
from referral_bus.contracts.deadletter import LetterHandled
from referral_bus.log import topics
from referral_bus.log.port import Partition, Record, TopicSpec
from referral_bus.sealing.keys import DESTROY
from referral_bus.wire.codec import Codec

MADE_ANEW: Final = "projections"
"""The schema that projections make from the ledger."""
_FURTHER: Final = "update notifier.streams set last_number = last_number + 1000000"
"""The numbers of notices leap: readers of event streams have heard numbers that the backup does not know of, and go on behind them."""

_HANDLED: Final = ("ce_type", LetterHandled.event_type().encode())


async def restore(
    kafka: Cluster,
    database: Database,
    folder: Folder,
    codec: Codec,
    progress: Progress,
    *,
    replication: int | None = None,
    forgotten: Sequence[str] = (),
) -> Manifest:
    """Bring a backup back; ``forgotten``: subjects whose keys are destroyed whatever the backup says; ``replication``: copies of each topic
    where it is not to have as many as it had.

    Raises BackupError and LogError; before anything is changed where the backup is damaged, the cluster or the database is not empty, or
    there are fewer brokers than copies.
    """
    backup = folder.checked()
    specs = _specs(backup, replication)
    await _kafka_must_be_empty(kafka, backup)
    await _brokers_must_do(kafka, specs)
    await must_be_empty(database)
    await load(database, folder, forgotten, _elsewhere(backup))
    await kafka.make(specs)
    total = sum(partition.records for partitions in backup.topics.values() for partition in partitions)
    done = 0
    for topic, partitions in backup.topics.items():
        for number, copied in enumerate(partitions):
            partition = Partition(topic, number)
            records: Iterable[Record] = folder.records(partition)
            if topic == topics.inbox(backup.bus):
                records = at_their_offsets(records, copied.end, backup.taken_at)
            elif topic == topics.deadletter(backup.bus):
                records = _renumbered(records, codec)
            await kafka.write(partition, records)
            if topic == topics.inbox(backup.bus) and copied.start:
                await kafka.expire(partition, copied.start)
            done += copied.records
            progress("records", done, total)
    await kafka.settle(specs)
    await _place(kafka, folder, backup)
    return backup


def _specs(backup: Manifest, replication: int | None) -> list[TopicSpec]:
    feeds = topics.feed(backup.bus, "")
    organisations = [one.removeprefix(feeds) for one in backup.topics if one.startswith(feeds)]
    partitions = len(backup.topics[topics.inbox(backup.bus)])
    usual = replication or backup.replicas.get(topics.ledger(backup.bus), 1)
    specs = topics.topics(backup.bus, partitions, usual, organisations)
    if replication is None:
        specs = [replace(spec, replication=backup.replicas.get(spec.name, usual)) for spec in specs]
    return specs


async def _brokers_must_do(kafka: Cluster, specs: Sequence[TopicSpec]) -> None:
    copies, brokers = max(spec.replication for spec in specs), await kafka.brokers()
    if brokers < copies:
        raise BackupError(
            f"there are to be {copies} copies of a topic, and this Kafka has {brokers} broker{'s' * (brokers > 1)}: start more, or say by "
            "--replication how many copies there shall be"
        )


async def _kafka_must_be_empty(kafka: Cluster, backup: Manifest) -> None:
    there = sorted(await kafka.topics() & backup.topics.keys())
    if there:
        raise BackupError(
            f"this Kafka has topics of the bus already ({', '.join(there[:3])}): a restore goes into an empty one"
        )


async def must_be_empty(database: Database) -> None:
    """Raises BackupError where the database has a schema of the bus."""
    known = "', '".join([*SCHEMAS, MADE_ANEW])
    schemas = await database.ask(f"select nspname from pg_namespace where nspname in ('{known}') order by 1")  # noqa: S608 - ours
    if schemas:
        raise BackupError(
            f"this database has schemas of the bus already ({', '.join(schemas)}): a restore goes into an empty one"
        )


async def load(
    database: Database, folder: Folder, forgotten: Sequence[str], statements: Iterable[str]
) -> None:
    """Bring back what services keep in the database, destroy the keys of the forgotten, and make the statements, in one transaction. Raises
    BackupError."""
    after_it = [*_forgetting(forgotten), *statements, _FURTHER]
    try:
        scratch = tempfile.TemporaryDirectory()
    except OSError as error:
        raise BackupError(
            "there is no folder for a file that is gone afterwards: mount one at /tmp, or name one in TMPDIR"
        ) from error
    with scratch as place:
        after = Path(place) / "after.sql"
        after.write_text("".join(f"{one};\n" for one in after_it), encoding="utf-8")
        await database.load([*map(folder.sql, SCHEMAS), after])


def _forgetting(subjects: Sequence[str]) -> Iterator[str]:
    """The statement that destroys the keys of these."""
    if subjects:
        dialect = PGDialect()  # type: ignore[no-untyped-call]
        bound = DESTROY.bindparams(subjects=list(subjects))
        yield str(bound.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _elsewhere(backup: Manifest) -> Iterator[str]:
    """What the rows of the services must say otherwise in another cluster."""
    # Replayed from the ledger's beginning: its offsets are others.
    yield "delete from sealing.replayed"
    # What was admitted and is not on the restored inbox is reserved only: who sends it again has it appended, under the id it was given.
    for number, copied in enumerate(backup.topics[topics.inbox(backup.bus)]):
        yield (
            'update intake.admissions set "partition" = null, "offset" = null '  # noqa: S608 - numbers of ours
            f'where "partition" = {number:d} and "offset" >= {copied.end:d}'
        )
    # Regions are put all reference data once more: what was relayed last may not be on the restored inbox. They know repeats.
    yield "delete from intake.relayed"
    yield "update notifier.regions set next_offset = 0"


def _renumbered(records: Iterable[Record], codec: Codec) -> Iterator[Record]:
    """The notes on dead letters name the letters by the offsets they have now."""
    moved: dict[int, int] = {}
    for at, record in enumerate(records):
        moved[record.offset] = at
        note = codec.decode(record.value) if _HANDLED in record.headers else None
        if isinstance(note, LetterHandled):
            # A note on a letter that is kept no longer names itself, which is no letter.
            note = note.model_copy(update={"offset": moved.get(note.offset, at)})
            yield replace(record, value=codec.encode(note))
        else:
            yield record


async def _place(kafka: Cluster, folder: Folder, backup: Manifest) -> None:
    for group, stored in backup.groups.items():
        offsets: dict[Partition, int] = {}
        for topic, numbers in stored.items():
            for number, offset in numbers.items():
                partition = Partition(topic, number)
                if topic != topics.inbox(backup.bus):
                    offset = sum(record.offset < offset for record in folder.records(partition))
                offsets[partition] = offset
        await kafka.place(group, offsets)
