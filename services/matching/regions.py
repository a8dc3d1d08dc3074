"""Where each region is decided: the region table, as the reference topic has it. The one with the highest version counts."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from referral_bus.contracts.reference import RegionTable
from referral_bus.log import topics
from referral_bus.log.port import Log, LogError, Partition, Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 500
_WAIT_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_TYPE: Final = ("ce_type", RegionTable.event_type().encode())


class Regions:
    """The region table of a bus, followed from the beginning of the reference topic on."""

    def __init__(self, log: Log, bus: str, codec: Codec) -> None:
        self._log = log
        self._partition = Partition(topics.reference(bus), 0)
        self._codec = codec
        self._table: RegionTable | None = None
        self._read = asyncio.Event()

    async def partition_of(self, region: str) -> int | None:
        """The inbox partition that decides a region; None where there is no such region. Waits until the table was read."""
        await self._read.wait()
        return None if self._table is None else self._table.partitions.get(region)

    async def run(self) -> None:
        """Follow the topic until cancelled; outages of the log are waited out."""
        while True:
            try:
                await self._follow()
            except LogError as error:
                logger.warning("the region table can't be read, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        reader = await self._log.reader(self._partition)
        try:
            end = await reader.end()
            while True:
                for record in await reader.read(reader.position(), _AT_ONCE, _WAIT_SECONDS):
                    self._take(record)
                if reader.position() >= end:
                    self._read.set()
        finally:
            await reader.close()

    def _take(self, record: Record) -> None:
        if _TYPE not in record.headers:
            return
        try:
            table = self._codec.decode(record.value)
        except WireError as error:
            logger.error("offset %d of %s is skipped: %s", record.offset, record.topic, error)
            return
        if isinstance(table, RegionTable) and (self._table is None or table.version > self._table.version):
            self._table = table
