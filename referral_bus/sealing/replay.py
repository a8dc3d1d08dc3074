"""Destroying again what the ledger says was destroyed: a key store restored from a backup must not bring anybody back."""

from __future__ import annotations

import logging
import time
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.ledger import KeyDestroyed
from referral_bus.log.port import Log, LogUnavailable, Partition, Reader, Record
from referral_bus.sealing.keys import DESTROY, told
from referral_bus.sealing.tables import replayed
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

logger = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 30.0
"""How long the ledger may bring nothing of what it said it holds."""

_READ_AT_ONCE: Final = 2000
_READ_SECONDS: Final = 2.0
_DESTROYED: Final = f"{KeyDestroyed.schema_name()}.".encode()
_FRAME: Final = 5
"""Bytes of a value that name its schema."""


async def replay_destroyed(
    log: Log, topic: str, codec: Codec, engine: AsyncEngine, silence: float = SILENCE_SECONDS
) -> int:
    """Destroy the keys of every subject the ledger ``topic`` forgot since it was last replayed here; returns how many.

    Called before anything is opened. The position is kept beside the keys, so a restored database goes on from where it was then; one
    beyond the ledger's end is another ledger's, and that is replayed from its beginning. Safe when several processes do it at once.

    An event of a kind this version doesn't know is left to the folds, which stop at it; the position stays before it, so a version
    that knows it replays it. Raises KeyStoreError; LogError, and LogUnavailable where nothing comes for ``silence`` seconds; and
    UnreadableDestruction where an event that says it destroyed somebody can't be read.
    """
    count = 0
    forgotten = _Forgotten(codec)
    for number in range(await log.partitions(topic)):
        reader = await log.reader(Partition(topic, number))
        try:
            count += await _replay(reader, Partition(topic, number), forgotten, engine, silence)
        finally:
            await reader.close()
    if count:
        logger.info("%d subjects the ledger had forgotten were forgotten here again", count)
    return count


async def _replay(
    reader: Reader, partition: Partition, forgotten: _Forgotten, engine: AsyncEngine, silence: float
) -> int:
    topic, number = partition
    doing = f"replaying destroyed keys of {topic}/{number}"
    key = (replayed.c.topic == topic) & (replayed.c.partition == number)
    with told(doing):
        async with engine.connect() as connection:
            stored = await connection.scalar(select(replayed.c.next_offset).where(key)) or 0
    # The end after the position: a position another process has just stored is not taken for another ledger's.
    end = await reader.end()
    at, gone = (stored if stored <= end else 0), set[str]()
    unread: int | None = None
    heard = time.monotonic()
    while at < end:
        records = await reader.read(at, _READ_AT_ONCE, min(_READ_SECONDS, silence))
        for record in records:
            try:
                subject = forgotten.subject(record)
            except WireError as error:
                if unread is None:
                    unread = record.offset
                    logger.warning(
                        "%s/%d/%d is replayed by a version that can read it: %s", *partition, unread, error
                    )
            else:
                if subject is not None:
                    gone.add(subject)
        if reader.position() > at:
            at, heard = reader.position(), time.monotonic()
        elif time.monotonic() - heard >= silence:
            raise LogUnavailable(
                f"{doing}: nothing came from offset {at} on for {silence:.0f} s, though the ledger ends at {end}; check that the "
                "broker runs and is reachable"
            )
    reached = at if unread is None else unread
    if reached == stored and not gone:
        return 0
    move = insert(replayed).values(topic=topic, partition=number, next_offset=reached)
    with told(doing):
        async with engine.begin() as connection:
            if gone:
                await connection.execute(DESTROY, {"subjects": sorted(gone)})
            await connection.execute(
                move.on_conflict_do_update(
                    index_elements=["topic", "partition"], set_={"next_offset": reached}
                )
            )
    return len(gone)


class UnreadableDestruction(Exception):
    """An event that says it destroyed somebody's keys can't be read, so nobody knows whose: nothing may be opened."""


class _Forgotten:
    """Finds whom a ledger's records forget. Of each schema one event is read, of the others of its kind only those that forget."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._passed: set[bytes] = set()

    def subject(self, record: Record) -> str | None:
        """Whose keys the event destroyed. Raises WireError where it can't be read, and UnreadableDestruction where it says it
        destroyed somebody besides."""
        value = record.value or b""
        if value[:_FRAME] in self._passed:
            return None
        try:
            event = self._codec.decode_entry(value).event
        except WireError as error:
            if any(name == "ce_type" and kind.startswith(_DESTROYED) for name, kind in record.headers):
                raise UnreadableDestruction(
                    f"{record.topic}/{record.partition}/{record.offset} says that a key was destroyed, and can't be read: {error}. "
                    "Start a version that can read this ledger"
                ) from error
            raise
        if isinstance(event, KeyDestroyed):
            return event.subject
        self._passed.add(value[:_FRAME])
        return None
