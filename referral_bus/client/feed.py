"""An organisation's feed, read from Kafka."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from referral_bus.contracts.feed import AdmissionRefused, Notice
from referral_bus.log.port import Log, Partition, Record
from referral_bus.log.topics import feed
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

_LIMIT = 500
_WAIT_SECONDS = 1.0


class Feed:
    """Reads the feed of one organisation from an offset on. Keep ``offset`` of the last message plus one to
    go on there later."""

    def __init__(self, log: Log, bus: str, organisation: str, codec: Codec) -> None:
        self._log = log
        self._partition = Partition(feed(bus, organisation), 0)
        self._codec = codec

    async def read(self, start: int = 0) -> AsyncGenerator[tuple[int, Notice | AdmissionRefused], None]:
        """Offsets and messages as they come, without end. Raises WireError for what is not a message of a
        feed."""
        reader = await self._log.reader(self._partition)
        try:
            while True:
                for record in await reader.read(start, _LIMIT, _WAIT_SECONDS):
                    yield record.offset, self._message(record)
                start = reader.position()
        finally:
            await reader.close()

    def _message(self, record: Record) -> Notice | AdmissionRefused:
        message = self._codec.decode(record.value)
        if isinstance(message, Notice | AdmissionRefused):
            return message
        raise WireError(f"offset {record.offset} of {record.topic} holds a {type(message).__name__}")
