"""What really happened, computed from nothing but the topics: the inbox says what was asked, the ledger what was decided.

It shares no code with matching: capacity is counted here again from the events, so that a fault there can't hide here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    CapacityChanged,
    CapacityFreed,
    CapacityLent,
    CapacityTaken,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServiceProposed,
    ServicePublished,
    SubmissionRefused,
    SubmissionRepeated,
    TaskCancelled,
)
from referral_bus.log.port import Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from referral_bus.wire.inbox import received

_NOT_FROM_A_PARTY = (Tick.event_type(), AdoptReference.event_type())


@dataclass(slots=True)
class _Unit:
    total: int
    taken: int
    held: int = 0
    overbook: int = 0
    moves: list[tuple[int, int]] = field(default_factory=list)

    def moved(self, at: int, places: int) -> None:
        self.taken = max(0, self.taken + places)
        self.moves.append((at, places))

    def counted(self, total: int, available: int, true_at: int) -> None:
        """A count was true some time ago: who came or went since is counted in."""
        since = sum(places for at, places in self.moves if at > true_at)
        self.total, self.taken = total, max(0, total - available + since)


@dataclass(slots=True)
class _Places:
    """The units of a region, and of which each task holds or has taken a place. What is of another region's unit that region's own
    ledger says, and it is counted there."""

    region: str
    units: dict[str, _Unit] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)

    def hold(self, task: str, unit: str, found: Audit) -> None:
        if region_of(unit) != self.region:
            return
        self.held[task] = unit
        known = self.units[unit]
        known.held += 1
        if known.held + known.taken > known.total + known.overbook:
            found.oversold += 1

    def take(self, task: str, now: int) -> None:
        unit = self.held.pop(task, None)
        if unit is not None:
            self.taken[task] = unit
            self.units[unit].held -= 1
            self.units[unit].moved(now, 1)

    def leave(self, task: str, now: int) -> None:
        held, taken = self.held.pop(task, None), self.taken.pop(task, None)
        if held is not None:
            self.units[held].held -= 1
        elif taken is not None:
            self.units[taken].moved(now, -1)


@dataclass(slots=True)
class Audit:
    """Counts over one inbox and ledger. ``latencies`` are milliseconds from a referral's append on the inbox to the append of
    what was decided of it on the ledger, by the broker's clock."""

    submitted: int = 0
    decided: int = 0
    repeated: int = 0
    lost: int = 0
    duplicated: int = 0
    oversold: int = 0
    broken_chain: int = 0
    undecodable: int = 0
    events: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    latencies: list[int] = field(default_factory=list)
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Of each unit, in the end: how many places it has, how many of them are taken, and how many held."""
    ends: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Of each region: the sequence of its last event, and that event's hash."""

    def percentile(self, share: float) -> float:
        """The latency below which ``share`` (0 to 1) of the decisions lie; 0.0 where there are none."""
        ordered = sorted(self.latencies)
        return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0.0


def audit(inbox: Iterable[Record], ledger: Iterable[Record], codec: Codec) -> Audit:
    """Hold the ledger against the inbox. Records must be complete, committed, and in order within each partition."""
    found = Audit()
    asked = _asked(inbox, codec, found)
    answered: Counter[tuple[int, int]] = Counter()
    decided: Counter[tuple[str, str]] = Counter()
    regions: dict[str, _Places] = {}
    for record in ledger:
        entry = codec.decode_entry(record.value)
        _check_chain(entry, record.value or b"", found)
        found.events[type(entry.event).__name__] += 1
        _count(entry.event, found)
        region = entry.meta.region
        _places(entry, regions.setdefault(region, _Places(region)), found)
        submission = entry.meta.submission
        if submission is None or submission.type in _NOT_FROM_A_PARTY:
            continue
        answered[submission.partition, submission.offset] += 1
        if not isinstance(entry.event, SubmissionRepeated | SubmissionRefused):
            decided[submission.source, submission.id] += 1
        if isinstance(entry.event, ReferralOpened):
            found.latencies.append(record.timestamp - submission.append_time)
    found.places = {
        name: (unit.total, unit.taken, unit.held)
        for region in regions.values()
        for name, unit in region.units.items()
    }
    found.submitted = len(asked)
    found.decided = sum(1 for position in asked if answered[position])
    found.lost = found.submitted - found.decided
    found.duplicated = sum(n - 1 for n in answered.values() if n > 1) + sum(
        n - 1 for n in decided.values() if n > 1
    )
    return found


def _asked(inbox: Iterable[Record], codec: Codec, found: Audit) -> set[tuple[int, int]]:
    asked: set[tuple[int, int]] = set()
    for record in inbox:
        try:
            _, submission = received(record, codec)
        except WireError:
            found.undecodable += 1
            continue
        if submission.admitted.type not in _NOT_FROM_A_PARTY:
            asked.add((record.partition, record.offset))
    return asked


def _check_chain(entry: Entry, value: bytes, found: Audit) -> None:
    sequence, previous = found.ends.get(entry.meta.region, (0, GENESIS_HASH))
    if entry.meta.sequence != sequence + 1 or entry.meta.prev_hash != previous:
        found.broken_chain += 1
    found.ends[entry.meta.region] = (entry.meta.sequence, sha256(value).digest())


def _count(event: Event, found: Audit) -> None:
    match event:
        case SubmissionRefused():
            found.refusals[event.reason] += 1
        case SubmissionRepeated():
            found.repeated += 1
        case ReferralClosed():
            found.closed[event.reason] += 1


def _places(entry: Entry, places: _Places, found: Audit) -> None:
    """Count held and taken places anew."""
    event, now = entry.event, entry.meta.now
    match event:
        case ServicePublished():
            for unit in event.definition.units:
                known = places.units.setdefault(unit.unit, _Unit(unit.total, unit.total - unit.available))
                known.overbook = unit.overbook
        case CapacityChanged():
            places.units[event.unit].counted(event.total, event.available, event.true_at)
        case OfferMade():
            places.hold(event.task, event.unit, found)
        case CapacityLent():
            places.hold(event.task, event.unit, found)
        case OfferAccepted() | CapacityTaken():
            places.take(event.task, now)
        case OfferDeclined() | OfferExpired() | TaskCancelled() | CapacityFreed():
            places.leave(event.task, now)
        case ReferralWithdrawn() if event.task is not None:
            places.leave(event.task, now)
        case OutcomeReported() if event.corrects is None:
            places.leave(event.task, now)
        case ServiceProposed() if event.task in places.held:
            places.leave(event.task, now)
