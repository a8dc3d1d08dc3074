"""Places that regions lend each other, by what each region's ledger says of them: the two must agree. None of it uses code of a service.

Each check returns what is wrong, in sentences; an empty list is good. All that is asked of a place is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityOffered,
    CapacityRequested,
    CapacityReturned,
    CapacityTaken,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ServicePublished,
    TaskCancelled,
)
from referral_bus.log.port import Record
from tests.support.checking import Seen, header

_RELAY: Final = "/organisations/relay"
_ENDS = OfferDeclined | OfferExpired | TaskCancelled | ReferralWithdrawn | OutcomeReported


@dataclass(slots=True)
class _Lent:
    """What is said of the place of one task, in the order of each ledger."""

    borrower: list[Event] = field(default_factory=list)
    home: list[Event] = field(default_factory=list)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in (*self.borrower, *self.home))

    def has(self, kind: type[Event]) -> bool:
        return self.count(kind) > 0

    @property
    def unit_at_home(self) -> set[str]:
        return {event.unit for event in self.home if isinstance(event, CapacityLent)}

    @property
    def is_over(self) -> bool:
        """Whether the borrower's task has come to an end."""
        return any(isinstance(event, _ENDS | CapacityReturned) for event in self.borrower)

    @property
    def was_lost(self) -> bool:
        """Whether the home said that what was to be taken is held no more."""
        return any(isinstance(event, CapacityDenied) and event.reason == "lost" for event in self.home)


def lent_twice(entries: Iterable[Entry]) -> list[str]:
    """A place is lent to a task once, taken once and freed once."""
    return [
        f"{task}: {kind.__name__} {one.count(kind)} times"
        for task, one in _lent(entries).items()
        for kind in (CapacityLent, CapacityTaken, CapacityFreed)
        if one.count(kind) > 1
    ]


def given_and_not_lent(entries: Iterable[Entry]) -> list[str]:
    """A region gives nobody a place of another that does not hold it for them; and the home, which alone counts its places, takes
    none for free that is still given."""
    return list(_given(_lent(entries)))


def _given(lent: dict[str, _Lent]) -> Iterator[str]:
    for task, one in lent.items():
        for event in one.borrower:
            if isinstance(event, OfferMade) and event.unit not in one.unit_at_home:
                yield f"{task} was offered a place of {event.unit} that was not lent"
        if one.has(OfferAccepted) and not one.has(CapacityTaken):
            yield f"{task} was given a place that its region did not let it take"
        for event in one.home:
            if isinstance(event, CapacityFreed):
                if event.because == "returned" and not one.has(CapacityReturned):
                    yield f"{task} has a place that is free by its region, and did not return it"
                elif event.because == "expired" and one.has(CapacityTaken):
                    yield f"{task} had taken the place that its region let go"


def never_given_back(entries: Iterable[Entry]) -> list[str]:
    """In the end each question of one region to another has an answer, each task an end, and each place that was lent is in use or free."""
    return list(_left(_lent(entries)))


def _left(lent: dict[str, _Lent]) -> Iterator[str]:
    for task, one in lent.items():
        if one.has(CapacityRequested):
            if not one.has(CapacityLent) and not one.has(CapacityDenied):
                yield f"{task} asked for a place and had no answer"
            if not one.has(OfferMade) and not one.is_over:
                yield f"{task} asked for a place and came to no end"
        if one.has(AcceptanceClaimed) and not one.has(CapacityTaken) and not one.was_lost:
            yield f"{task} was to take its place and had no answer"
        in_use = one.has(CapacityRequested) and not one.is_over
        if one.has(CapacityLent) and not one.has(CapacityFreed) and not in_use:
            yield f"{task} has a place that nobody uses and that was never given back"


def not_passed_on(seen: Seen) -> list[str]:
    """What a region has to say to another is on the other's inbox."""
    put = {(region, header(record, "ce_id")) for region, record in _relayed(seen)}
    return [
        f"{region} {entry.meta.sequence} was not passed on to {target}"
        for entry in seen.entries
        for region in [entry.meta.region]
        for target in _concerned(entry.event)
        if target != region and (target, f"{region}.{entry.meta.sequence}.{target}") not in put
    ]


def passed_on_out_of_order(seen: Seen) -> list[str]:
    """What a region says to another comes in the order in which it was said, at the first time each."""
    last: Counter[tuple[str, str]] = Counter()
    there: set[str] = set()
    wrong: list[str] = []
    for target, record in _relayed(seen):
        id = header(record, "ce_id")
        region, sequence, _ = id.split(".")
        if id in there:
            continue
        there.add(id)
        if int(sequence) < last[region, target]:
            wrong.append(f"{id} was passed on behind {last[region, target]}")
        last[region, target] = max(last[region, target], int(sequence))
    return wrong


def _relayed(seen: Seen) -> Iterator[tuple[str, Record]]:
    for record in seen.inbox:
        if header(record, "ce_source") == _RELAY:
            yield header(record, "ce_id").rpartition(".")[2], record


def _concerned(event: Event) -> list[str]:
    """The regions that an event is for besides its own."""
    match event:
        case ServicePublished():
            return list(event.told)
        case CapacityOffered():
            return [room.region for room in event.rooms]
        case CapacityRequested() | AcceptanceClaimed() | CapacityReturned():
            return [region_of(event.unit)]
        case CapacityLent() | CapacityDenied() | CapacityTaken():
            return [region_of(event.task)]
        case CapacityFreed() if event.because == "expired":
            return [region_of(event.task)]
        case _:
            return []


def _lent(entries: Iterable[Entry]) -> dict[str, _Lent]:
    """All tasks that have to do with another region's place."""
    found: defaultdict[str, _Lent] = defaultdict(_Lent)
    for entry in entries:
        event = entry.event
        match event:
            case CapacityLent() | CapacityDenied() | CapacityTaken() | CapacityFreed():
                found[event.task].home.append(event)
            case CapacityRequested() | AcceptanceClaimed() | CapacityReturned():
                found[event.task].borrower.append(event)
            case OfferMade() if region_of(event.unit) != entry.meta.region:
                found[event.task].borrower.append(event)
            case OutcomeReported() if event.corrects is not None:
                pass
            case OfferAccepted() | OfferDeclined() | OfferExpired() | TaskCancelled() | OutcomeReported():
                if event.task in found:
                    found[event.task].borrower.append(event)
            case ReferralWithdrawn() if event.task in found:
                found[event.task].borrower.append(event)
    return found
