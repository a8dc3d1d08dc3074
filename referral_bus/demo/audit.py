"""What really happened, computed from nothing but the topics: the inbox says what was asked, the ledger what was decided.

It shares no code with matching: capacity is counted here again from the events, so that a fault there can't hide here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    CapacityChanged,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServicePublished,
    SubmissionRefused,
    SubmissionRepeated,
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
    units: dict[str, _Unit] = {}
    placed: dict[str, str] = {}
    chains: dict[str, tuple[int, bytes]] = {}
    for record in ledger:
        entry = codec.decode_entry(record.value)
        _check_chain(chains, entry, record.value or b"", found)
        found.events[type(entry.event).__name__] += 1
        _count(entry.event, found)
        _places(entry.event, units, placed, found)
        submission = entry.meta.submission
        if submission is None or submission.type in _NOT_FROM_A_PARTY:
            continue
        answered[submission.partition, submission.offset] += 1
        if not isinstance(entry.event, SubmissionRepeated | SubmissionRefused):
            decided[submission.source, submission.id] += 1
        if isinstance(entry.event, ReferralOpened):
            found.latencies.append(record.timestamp - submission.append_time)
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


def _check_chain(chains: dict[str, tuple[int, bytes]], entry: Entry, value: bytes, found: Audit) -> None:
    sequence, previous = chains.get(entry.meta.region, (0, GENESIS_HASH))
    if entry.meta.sequence != sequence + 1 or entry.meta.prev_hash != previous:
        found.broken_chain += 1
    chains[entry.meta.region] = (entry.meta.sequence, sha256(value).digest())


def _count(event: Event, found: Audit) -> None:
    match event:
        case SubmissionRefused():
            found.refusals[event.reason] += 1
        case SubmissionRepeated():
            found.repeated += 1
        case ReferralClosed():
            found.closed[event.reason] += 1


def _places(event: Event, units: dict[str, _Unit], placed: dict[str, str], found: Audit) -> None:
    """Count held and taken places anew; ``placed`` remembers the unit of each task and the accepted task of each referral."""
    match event:
        case ServicePublished():
            for unit in event.definition.units:
                units.setdefault(unit.unit, _Unit(unit.total, unit.total - unit.available))
        case CapacityChanged():
            units[event.unit].total = event.total
            units[event.unit].taken = event.total - event.available
        case OfferMade():
            placed[event.task] = event.unit
            unit_ = units[event.unit]
            unit_.held += 1
            if unit_.held + unit_.taken > unit_.total:
                found.oversold += 1
        case OfferAccepted():
            placed[event.referral] = placed[event.task]
            units[placed[event.task]].held -= 1
            units[placed[event.task]].taken += 1
        case OfferDeclined() | OfferExpired():
            units[placed[event.task]].held -= 1
        case ReferralWithdrawn() if event.task is not None and event.referral not in placed:
            units[placed[event.task]].held -= 1
        case ReferralClosed() if event.referral in placed:
            unit_ = units[placed.pop(event.referral)]
            unit_.taken = max(0, unit_.taken - 1)
