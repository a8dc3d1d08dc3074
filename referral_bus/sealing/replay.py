"""Destroying again what the ledger says was destroyed: a key store restored from a backup must not bring anybody back."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.ledger import KeyDestroyed
from referral_bus.log.port import Log, Partition, Reader
from referral_bus.sealing.keys import DESTROY
from referral_bus.sealing.tables import replayed
from referral_bus.wire.codec import Codec

logger = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 2000
_READ_SECONDS: Final = 2.0
_TYPE: Final = KeyDestroyed.event_type().encode()


async def replay_destroyed(log: Log, topic: str, codec: Codec, engine: AsyncEngine) -> int:
    """Destroy the keys of every subject the ledger ``topic`` forgot since it was last replayed here; returns how many.

    Called before anything is opened. The position is kept beside the keys, so a restored database goes on from where it was then; one
    beyond the ledger's end is another ledger's. Safe when several processes do it at once. Raises LogError and WireError.
    """
    count = 0
    for number in range(await log.partitions(topic)):
        reader = await log.reader(Partition(topic, number))
        try:
            count += await _replay(reader, topic, number, codec, engine)
        finally:
            await reader.close()
    if count:
        logger.info("%d subjects the ledger had forgotten were forgotten here again", count)
    return count


async def _replay(reader: Reader, topic: str, number: int, codec: Codec, engine: AsyncEngine) -> int:
    end = await reader.end()
    key = (replayed.c.topic == topic) & (replayed.c.partition == number)
    async with engine.connect() as connection:
        stored = await connection.scalar(select(replayed.c.next_offset).where(key)) or 0
    at, gone = (stored if stored <= end else 0), set[str]()
    while at < end:
        for record in await reader.read(at, _READ_AT_ONCE, _READ_SECONDS):
            if ("ce_type", _TYPE) in record.headers:
                event = codec.decode_entry(record.value).event
                if isinstance(event, KeyDestroyed):
                    gone.add(event.subject)
        at = reader.position()
    if at == stored:
        return 0
    move = insert(replayed).values(topic=topic, partition=number, next_offset=at)
    async with engine.begin() as connection:
        if gone:
            await connection.execute(DESTROY, {"subjects": sorted(gone)})
        await connection.execute(
            move.on_conflict_do_update(index_elements=["topic", "partition"], set_={"next_offset": at})
        )
    return len(gone)
