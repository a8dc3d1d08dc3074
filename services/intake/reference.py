"""The reference data as published: a fold of the reference topic, and the follower that keeps it current.

A version counts if it is higher than the one before it on the topic. So all who read the topic agree on what was published, however
many processes published at once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.message import Message
from referral_bus.contracts.published import KIND_OF, Published, PublishedKind
from referral_bus.contracts.reference import Organisation, Protocol, RegionTable, Rules
from referral_bus.log.port import Log, LogError, Partition, Record
from referral_bus.runtime.health import Health
from referral_bus.wire import Codec, Envelope, WireError
from referral_bus.wire.envelope import organisation_of

logger = logging.getLogger(__name__)

LONGEST_ID = 64
"""Characters of a reference id: it becomes part of a submission id."""

PART = "reference"
"""The view's name in the health report."""

_LIMIT = 500
_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 1.0


def identity(message: Published) -> tuple[PublishedKind, str]:
    """Kind and id of a piece of reference data."""
    kind = KIND_OF[type(message)]
    return kind, getattr(message, kind, kind)


def adoption(message: Published) -> AdoptReference | None:
    """How the message is put to a region; None for the region table, which is intake's own."""
    if isinstance(message, RegionTable):
        return None
    kind, reference = identity(message)
    content = {} if isinstance(message, Rules) else {kind: message}
    return AdoptReference.model_validate(
        {"kind": kind, "reference": reference, "version": message.version, **content}
    )


NAMED: Final = (Calendar, Organisation)
"""What other reference data may name, of which kinds :func:`needed` is: each names only what is before it."""


def needed(message: Published) -> dict[str, tuple[str, str]]:
    """What a region must have adopted before it adopts this: kind and id, by the field that names it."""
    if not isinstance(message, Organisation | Protocol):
        return {}
    named = {"calendar": ("calendar", message.calendar)}
    if isinstance(message, Protocol):
        named["escalate_to"] = ("organisation", message.escalate_to)
        for number, step in enumerate(message.steps):
            named[f"steps.{number}.escalate_to"] = ("organisation", step.escalate_to)
    return {field: (kind, id) for field, (kind, id) in named.items() if id is not None}


@dataclass(frozen=True, slots=True)
class Publication:
    """A version of reference data, the organisation that published it, and its offset on the reference topic."""

    publisher: str
    message: Published
    offset: int


@dataclass(slots=True)
class Reference:
    """What is in force, in the order it was first published. Filled by :meth:`apply` only."""

    current: dict[tuple[str, str], Publication] = field(default_factory=dict)
    organisations: dict[str, Organisation] = field(default_factory=dict)
    table: RegionTable | None = None

    def apply(self, publication: Publication) -> bool:
        """Take the next publication on the topic; False where its version is not higher, and it changes nothing."""
        message = publication.message
        key = identity(message)
        former = self.current.get(key)
        if former is not None and former.message.version >= message.version:
            return False
        self.current[key] = publication
        if isinstance(message, Organisation):
            self.organisations[message.organisation] = message
        elif isinstance(message, RegionTable):
            self.table = message
        return True

    def partition_of(self, region: str) -> int | None:
        """The inbox partition that decides a region; None where there is no such region."""
        return None if self.table is None else self.table.partitions.get(region)

    @property
    def regions(self) -> dict[str, int]:
        """Regions and their partitions."""
        return {} if self.table is None else self.table.partitions


def publication_of(record: Record, codec: Codec) -> Publication:
    """The publication in a record of the reference topic. Raises WireError where it is none."""
    message: Message = codec.decode(record.value)
    if not isinstance(message, Published):
        raise WireError(f"{type(message).__name__} is no reference data")
    publisher = organisation_of(Envelope.from_headers(record.headers).source)
    return Publication(publisher, message, record.offset)


class ReferenceView:
    """The reference data this process goes by. Follows the topic from its beginning; ``ready`` once it has reached the end.

    A record that can't be read is skipped and logged with its offset: the others still count.
    """

    def __init__(self, log: Log, topic: str, codec: Codec, health: Health) -> None:
        self.reference = Reference()
        self.ready = False
        self._log = log
        self._partition = Partition(topic, 0)
        self._codec = codec
        self._health = health
        self._next = 0
        self._advanced = asyncio.Condition()

    @property
    def next(self) -> int:
        """The offset after the last one that is in the view."""
        return self._next

    async def run(self) -> None:
        """Follow the topic until cancelled; outages of the log are waited out."""
        self._health.starting(PART, "reads the reference data")
        while True:
            try:
                await self._follow()
            except LogError as error:
                logger.warning("the reference topic can't be read, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def reached(self, offset: int) -> None:
        """Wait until the record at ``offset`` is in the view."""
        async with self._advanced:
            await self._advanced.wait_for(lambda: self._next > offset)

    async def caught_up(self) -> None:
        """Wait until the view has reached the end of the topic for the first time."""
        async with self._advanced:
            await self._advanced.wait_for(lambda: self.ready)

    async def beyond(self, offset: int, seconds: float) -> bool:
        """Whether something came behind ``offset``, the next one when it was asked, within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.reached(offset)
        except TimeoutError:
            return False
        return True

    async def _follow(self) -> None:
        reader = await self._log.reader(self._partition)
        try:
            end = await reader.end()
            while True:
                async with self._advanced:
                    self._next = max(self._next, reader.position())
                    if not self.ready and self._next >= end:
                        self.ready = True
                        self._health.ready(PART)
                    self._advanced.notify_all()
                records = await reader.read(self._next, _LIMIT, _WAIT_SECONDS)
                for record in records:
                    self._take(record)
                if records:
                    self._next = records[-1].offset + 1
        finally:
            await reader.close()

    def _take(self, record: Record) -> None:
        try:
            publication = publication_of(record, self._codec)
        except WireError as error:
            logger.error("offset %d of %s is skipped: %s", record.offset, record.topic, error)
            return
        self.reference.apply(publication)
