"""What follows of itself from what was decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    CapacityFreed,
    CapacityLent,
    CapacityOffered,
    CapacityReturned,
    Event,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ServiceProposed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import UNKEPT, DeclineReason
from services.matching.core.decide.capacity import doubted
from services.matching.core.decide.rooms import offered
from services.matching.core.state import Region

_ENDINGS = (
    OfferDeclined | OfferExpired | TaskCancelled | ServiceProposed | OutcomeReported | ReferralWithdrawn
)


class _Ended(NamedTuple):
    referral: str
    task: str
    unit: str
    frees: int
    """How many places: none, where the last count did not know of the one that was taken."""


class _Said(NamedTuple):
    because: DeclineReason
    until: int | None


def with_what_follows(state: Region, events: list[Event], now: int) -> list[Event]:
    """The events, each that ends a task of another region's service followed by the return of its place; each by which a provider says that
    it has no place, by what becomes of those it had counted; and, where places come free that other regions were told they could not have,
    that they can."""
    followed: list[Event] = []
    free: Counter[str] = Counter()
    for event in events:
        followed.append(event)
        ended = _ended(state, event)
        if ended is None:
            free.update(_moved(event))
            continue
        said = _said_of_places(event)
        if region_of(ended.unit) == state.region:
            free[ended.unit] += ended.frees
            if said is not None:
                unit = state.units[ended.unit]
                places = unit.free + free[ended.unit]
                doubt = doubted(state, unit, ended.task, places, said.until, now)
                free[ended.unit] -= places if doubt else 0
                followed += doubt
        elif not (isinstance(event, TaskCancelled) and event.reason == "no_place"):
            returned = CapacityReturned(referral=ended.referral, task=ended.task, unit=ended.unit)
            followed.append(returned if said is None else returned.model_copy(update=said._asdict()))
    for name in sorted(free.keys() & state.short.keys()):
        followed += _heard_by_the_short(state, name, free[name], events)
    return followed


def _heard_by_the_short(state: Region, name: str, places: int, events: list[Event]) -> list[Event]:
    """Who was told that no place is free hears of those that are once the events have happened, ``places`` more than now."""
    unit = state.units[name]
    definition = state.catalogue.definitions[unit.service]
    # Whose own place comes free knows it, or is told otherwise.
    knowing = {region_of(event.task) for event in events if isinstance(event, CapacityFreed)}
    told = {room.region for event in events if isinstance(event, CapacityOffered) for room in event.rooms}
    hearing = (state.short[name] & frozenset(definition.regions)) - knowing - told
    if not hearing or not definition.active or unit.free + places <= 0:
        return []
    after = replace(unit, held=unit.held - places)
    return [offered(unit, {region: state.room(after, region) for region in hearing}, unit.counted_at)]


def _said_of_places(event: Event) -> _Said | None:
    """What a provider says of its places as it ends an attempt: that there is none."""
    match event:
        case OfferDeclined() if event.reason in UNKEPT:
            return _Said(event.reason, event.until)
        case TaskCancelled() if event.because in UNKEPT:
            return _Said(event.because, event.until)
        case _:
            return None


def _ended(state: Region, event: Event) -> _Ended | None:
    """The task that the event ends, with the place it held or took."""
    if not isinstance(event, _ENDINGS) or event.task is None:
        return None
    located = state.task(event.task)
    if located is None:
        return None
    name, known, number = located
    task = known.attempt(number)
    goes_on = isinstance(event, ServiceProposed) and not task.is_open
    frees = 1 if task.is_open or state.units[task.unit].taken > 0 else 0
    return None if goes_on else _Ended(name, event.task, task.unit, frees)


def _moved(event: Event) -> dict[str, int]:
    """How many more places of a unit are free by an event that ends no task of this region."""
    match event:
        case CapacityFreed():
            return {event.unit: 1}
        case CapacityLent() | OfferMade():
            return {event.unit: -1}
        case _:
            return {}
