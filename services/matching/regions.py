"""Where each region is decided: the region table, as the reference topic has it. The one with the highest version counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from referral_bus.contracts.reference import RegionTable
from referral_bus.log import topics
from referral_bus.log.port import Log, LogError, LogUnavailable, Partition, Reader, Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 500
_WAIT_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 30.0
"""For the rest of the topic to be read, once a region is asked for that the table does not name."""
_TYPE: Final = ("ce_type", RegionTable.event_type().encode())


class Regions:
    """The region table of a bus, followed from the beginning of the reference topic on."""

    def __init__(self, log: Log, bus: str, codec: Codec) -> None:
        self._log = log
        self._partition = Partition(topics.reference(bus), 0)
        self._codec = codec
        self._table: RegionTable | None = None
        self._position = 0
        self._read = asyncio.Event()

    async def partitions_of(self, regions: Collection[str]) -> dict[str, int]:
        """The inbox partitions that decide these regions, without those that there are not. Waits until the table was read. Raises
        LogError where the table does not name one and can't be read up to the end that the topic has now: it may name it there."""
        await self._read.wait()
        if len(self._named(regions)) < len(regions):
            await self._catch_up()
        return self._named(regions)

    def _named(self, regions: Collection[str]) -> dict[str, int]:
        partitions = {} if self._table is None else self._table.partitions
        return {region: partitions[region] for region in regions if region in partitions}

    async def _catch_up(self) -> None:
        """Read to the end that there is now, beside who follows the topic: that one may be resting after an outage."""
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                reader = await self._log.reader(self._partition)
                try:
                    end = await reader.end()
                    while self._position < end:
                        await self._read_on(reader)
                finally:
                    await reader.close()
        except TimeoutError:
            raise LogUnavailable(
                f"{self._partition.topic} can't be read beyond offset {self._position}; check that its partition has a leader"
            ) from None

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
                await self._read_on(reader)
                if self._position >= end:
                    self._read.set()
        finally:
            await reader.close()

    async def _read_on(self, reader: Reader) -> None:
        for record in await reader.read(self._position, _AT_ONCE, _WAIT_SECONDS):
            self._take(record)
        self._position = max(self._position, reader.position())

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
