"""What the ledger and the feeds say so far, kept up to date while the demo runs: for its display, and to know
when all is settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferenceAdopted,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    SubmissionParked,
    SubmissionRefused,
    SubmissionResumed,
)
from referral_bus.log.port import Log, Partition, Record
from referral_bus.log.topics import feed, ledger
from referral_bus.wire.codec import Codec

_LIMIT = 500
_WAIT_SECONDS = 1.0

Submitted = tuple[str, str]
"""An organisation and the id it gave its submission."""


class NotSettled(Exception):
    """Something did not happen though there was time enough for it. The message says what is missing."""


@dataclass(slots=True)
class Seen:
    """The ledger and the watched feeds, as far as they were read."""

    events: Counter[str] = field(default_factory=Counter)
    opened: dict[str, str] = field(default_factory=dict)
    """The agency of each referral."""
    closed: dict[str, str] = field(default_factory=dict)
    """Why each referral was closed."""
    offers: dict[str, str] = field(default_factory=dict)
    """The referral of each task."""
    waiting: set[str] = field(default_factory=set)
    """The offers that wait for an answer."""
    expired: set[str] = field(default_factory=set)
    refused: dict[Submitted, str] = field(default_factory=dict)
    """Why each refused submission was refused, by the region or at the Kafka door."""
    unread: Counter[str] = field(default_factory=Counter)
    """What was refused on an outbox without being readable: how many, by reason."""
    adopted: set[tuple[str, str, str, int]] = field(default_factory=set)
    """Region, kind, id and version of reference data."""
    parked: dict[tuple[str, int], Admitted] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """The next event of a region."""
        event, meta = entry.event, entry.meta
        self.events[type(event).__name__] += 1
        match event:
            case ReferralOpened():
                self.opened[event.referral] = event.agency
            case ReferralClosed():
                self.closed[event.referral] = event.reason
            case OfferMade():
                self.offers[event.task] = event.referral
                self.waiting.add(event.task)
            case OfferAccepted() | OfferDeclined():
                self.waiting.discard(event.task)
            case OfferExpired():
                self.waiting.discard(event.task)
                self.expired.add(event.task)
            case ReferralWithdrawn() if event.task is not None:
                self.waiting.discard(event.task)
            case ReferenceAdopted():
                self.adopted.add((meta.region, event.kind, event.reference, event.version))
            case SubmissionParked() if meta.submission is not None:
                self.parked[meta.region, meta.sequence] = meta.submission
            case SubmissionResumed():
                self.parked.pop((meta.region, event.parked), None)
            case SubmissionRefused():
                parked = None if event.parked is None else self.parked.pop((meta.region, event.parked), None)
                submission = parked or meta.submission
                if submission is not None:
                    self.refused[submission.source, submission.id] = event.reason

    def take_refusal(self, refusal: AdmissionRefused) -> None:
        """The next refusal on a feed."""
        if refusal.submission is None:
            self.unread[refusal.reason] += 1
        else:
            self.refused[refusal.organisation, refusal.submission] = refusal.reason


class Watch:
    """Follows the ledger and the feeds of ``organisations`` in :meth:`run`, and wakes those that wait in
    :meth:`until`."""

    def __init__(self, log: Log, bus: str, codec: Codec, organisations: Iterable[str] = ()) -> None:
        self.seen = Seen()
        self._log = log
        self._bus = bus
        self._codec = codec
        self._feeds = [feed(bus, organisation) for organisation in organisations]
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Follow until cancelled."""
        topic = ledger(self._bus)
        followers: list[Coroutine[None, None, None]] = [
            self._follow(Partition(topic, number), self._take)
            for number in range(await self._log.partitions(topic))
        ]
        followers += [self._follow(Partition(name, 0), self._take_refusal) for name in self._feeds]
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower)

    async def until(
        self, reached: Callable[[Seen], bool], missing: Callable[[Seen], str], quiet: float
    ) -> None:
        """Wait until ``reached``. Raises NotSettled with what is ``missing`` once nothing at all has happened
        for ``quiet`` seconds."""
        async with self._changed:
            while not reached(self.seen):
                try:
                    # Not wait_for(): in Python 3.11 that drops a cancellation which comes together with what it waits for.
                    async with asyncio.timeout(quiet):
                        await self._changed.wait()
                except TimeoutError:
                    raise NotSettled(
                        f"{missing(self.seen)}; nothing has happened for {quiet:.0f} s"
                    ) from None

    async def _follow(self, partition: Partition, take: Callable[[Record], None]) -> None:
        reader = await self._log.reader(partition)
        try:
            while True:
                records = await reader.read(reader.position(), _LIMIT, _WAIT_SECONDS)
                for record in records:
                    take(record)
                if records:
                    async with self._changed:
                        self._changed.notify_all()
        finally:
            await reader.close()

    def _take(self, record: Record) -> None:
        self.seen.take(self._codec.decode_entry(record.value))

    def _take_refusal(self, record: Record) -> None:
        message = self._codec.decode(record.value)
        if isinstance(message, AdmissionRefused):
            self.seen.take_refusal(message)
