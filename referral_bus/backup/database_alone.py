"""Bringing back the database alone, of a bus whose Kafka has lost nothing, while no service runs.

What the services kept in it is as old as the backup, and what came since is on the log. Whoever follows the ledger follows it again:
projections from its beginning, the notifier from where it stood at the backup, so its group is put back to there. Intake follows nothing;
what it admitted since is told to it here, from the inbox.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from psycopg import sql

from referral_bus.backup.cluster import Cluster
from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Folder, Manifest
from referral_bus.backup.restoring import load, must_be_empty
from referral_bus.backup.taking import FOLLOWS, Progress, spans_of
from referral_bus.contracts.inbox import SplitReferral, SubmitReferral
from referral_bus.log import topics
from referral_bus.log.port import Partition, Record
from referral_bus.log.reading import everything_in
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from referral_bus.wire.inbox import received

# Placed where it is: sent again it is answered as it was, and not as the id of a referral of long ago.
_ADMITTED: Final = sql.SQL("""
insert into intake.admissions as a (source, id, digest, region, referral, "partition", "offset", admitted_at)
values ({source}, {id}, decode({digest}, 'hex'), {region}, {referral}, {partition}, {offset}, to_timestamp({at} / 1000.0))
on conflict (source, id) do update
set "partition" = coalesce(a."partition", excluded."partition"), "offset" = coalesce(a."offset", excluded."offset")""")
_WHOSE: Final = sql.SQL(
    "insert into intake.referrals (referral, subject) values ({referral}, {subject}) on conflict do nothing"
)
_WHOSE_PART: Final = sql.SQL(
    "insert into intake.referrals (referral, subject) "
    "select {part}, subject from intake.referrals where referral = {whole} on conflict do nothing"
)


async def restore_database(
    kafka: Cluster,
    database: Database,
    folder: Folder,
    codec: Codec,
    progress: Progress,
    *,
    forgotten: Sequence[str] = (),
) -> Manifest:
    """Bring back what the services kept in the database; ``forgotten``: subjects whose keys are destroyed at once.

    Raises BackupError and LogError; before anything is changed where the backup is damaged, the database is not empty, or Kafka is not the
    one the backup was taken of.
    """
    backup = folder.checked()
    await must_be_empty(database)
    await _kafka_must_be_the_same(kafka, backup)
    since = [one async for one in _admitted_since(kafka, backup, codec, progress)]
    ledger, group = topics.ledger(backup.bus), topics.group(backup.bus, FOLLOWS)
    stood = backup.groups.get(group, {}).get(ledger, {})
    places = {Partition(ledger, number): stood.get(number, 0) for number in range(len(backup.topics[ledger]))}
    # First, since it is refused while a notifier is in the group.
    await kafka.place(group, places)
    await load(database, folder, forgotten, since)
    return backup


async def _kafka_must_be_the_same(kafka: Cluster, backup: Manifest) -> None:
    there = await kafka.topics()
    for topic in (topics.ledger(backup.bus), topics.inbox(backup.bus)):
        now = await spans_of(kafka.log, topic) if topic in there else []
        copied = backup.topics[topic]
        if len(now) != len(copied) or any(
            one.end < former.end for one, former in zip(now, copied, strict=True)
        ):
            raise BackupError(
                f"this Kafka has not all that the backup knows to have been on {topic}: it is another, or has lost something too. "
                "Bring both back, into an empty Kafka and an empty database"
            )


async def _admitted_since(
    kafka: Cluster, backup: Manifest, codec: Codec, progress: Progress
) -> AsyncIterator[str]:
    """Statements that tell intake of the referrals it admitted since, and whose they are."""
    inbox = topics.inbox(backup.bus)
    for number, copied in enumerate(backup.topics[inbox]):
        async for record in everything_in(kafka.log, Partition(inbox, number), copied.end):
            for statement in _of(record, codec):
                yield statement.as_string(None)
        progress("inbox", number + 1, len(backup.topics[inbox]))


def _of(record: Record, codec: Codec) -> list[sql.Composed]:
    try:
        region, said = received(record, codec)
    except WireError:
        return []  # matching has put it to the dead letters
    admitted = said.admitted
    match said.body:
        case SubmitReferral() as body:
            placed = _ADMITTED.format(
                source=admitted.source,
                id=admitted.id,
                digest=admitted.digest.hex(),
                region=region,
                referral=body.referral,
                partition=record.partition,
                offset=record.offset,
                at=record.timestamp,
            )
            return [placed, _WHOSE.format(referral=body.referral, subject=body.subject)]
        case SplitReferral() as body:
            return [_WHOSE_PART.format(part=part.referral, whole=body.referral) for part in body.parts]
    return []
