"""Regions that lend each other places. What one asks and answers another is an event of its own ledger, which the relay puts on the other's
inbox; nothing waits for it but the one task, and that only for so long.

The service's own region, its home, owns the place: who holds it until when, and whether it is taken. The referral's region owns which task
wins. The table of messages, and of what makes up for each that comes too late, is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.inbox import (
    AnswerCapacity,
    ListCapacity,
    ListService,
    RequestCapacity,
    ReturnCapacity,
    TakeCapacity,
)
from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityListed,
    CapacityOffered,
    CapacityReturned,
    CapacityTaken,
    Event,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWaitlisted,
    ReferralWithdrawn,
    RoomOf,
    ServiceListed,
    ServiceProposed,
    ServicePublished,
    TaskCancelled,
)
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import DenialReason
from services.matching.core.counting import counted
from services.matching.core.decide.answers import AllOpened, Asked, refused
from services.matching.core.decide.lines import lined_up
from services.matching.core.decide.offering import next_offers, won
from services.matching.core.state import Due, Referral, Region, Task, Unit
from services.matching.core.timing import ends

GRACE_MS: Final = 10 * 60_000
"""How much longer a place is held for another region than it asked: an acceptance in its last moment is still on its way then."""


_ENDINGS = (
    OfferDeclined | OfferExpired | TaskCancelled | ServiceProposed | OutcomeReported | ReferralWithdrawn
)


class _Ended(NamedTuple):
    referral: str
    task: str
    unit: str


# What the home of a service is asked


def lend(asked: Asked, body: RequestCapacity) -> list[Event]:
    """Hold a place for another region's task, or say that there is none."""
    state, now, borrower = asked.state, asked.now, region_of(body.task)
    if region_of(body.unit) != state.region or borrower == state.region:
        return refused("region_mismatch", body.task)
    if body.task in state.lent:
        return refused("id_reused", body.task)
    unit = state.units.get(body.unit)
    definition = state.catalogue.definitions.get(body.service)
    if (
        unit is None
        or definition is None
        or unit.service != body.service
        or not definition.active
        or borrower not in definition.regions
        or all(one.unit != body.unit for one in definition.units)
    ):
        return [CapacityDenied(task=body.task, unit=body.unit, reason="not_listed", total=0, room=0)]
    if body.until <= now:
        return [_denied(state, body.task, unit, "too_late")]
    if unit.free <= 0:
        return [_denied(state, body.task, unit, "no_place")]
    room = state.room(unit, borrower)
    until = body.until + GRACE_MS
    return [CapacityLent(task=body.task, unit=body.unit, until=until, total=unit.total, room=room)]


def take(asked: Asked, body: TakeCapacity) -> list[Event]:
    """The place is taken, if it is still held."""
    state = asked.state
    lent, unit = state.lent.get(body.task), state.units.get(body.unit)
    if unit is None or region_of(body.unit) != state.region:
        return refused("unknown_unit", body.unit)
    if lent is None or lent.unit != body.unit:
        return [_denied(state, body.task, unit, "lost")]
    if lent.taken:
        return refused("nothing_held", body.task)
    room = state.room(unit, region_of(body.task)) - 1
    return [CapacityTaken(task=body.task, unit=body.unit, total=unit.total, room=room)]


def give_back(asked: Asked, body: ReturnCapacity) -> list[Event]:
    """The place is free again."""
    state = asked.state
    lent = state.lent.get(body.task)
    if lent is None or lent.unit != body.unit:
        return refused("nothing_held", body.task)
    freed = _freed(state, body.task)
    if not lent.taken:
        return [freed]
    # What it was told meanwhile did not count that place in.
    unit = state.units[lent.unit]
    return [freed, _offered(unit, {region_of(body.task): freed.room}, unit.counted_at)]


def let_go(state: Region, due: Due) -> list[Event]:
    """The other region said nothing for too long: its place is free again."""
    return [_freed(state, due.about).model_copy(update={"because": "expired"})]


def _freed(state: Region, task: str) -> CapacityFreed:
    lent = state.lent[task]
    unit = state.units[lent.unit]
    room = state.room(unit, region_of(task)) + lent.taken
    return CapacityFreed(task=task, unit=lent.unit, because="returned", total=unit.total, room=room)


def _denied(state: Region, task: str, unit: Unit, reason: DenialReason) -> CapacityDenied:
    room = state.room(unit, region_of(task))
    return CapacityDenied(task=task, unit=unit.unit, reason=reason, total=unit.total, room=room)


# What the referral's region hears


def list_service(asked: Asked, body: ListService) -> list[Event]:
    """Offer another region's service to this region's referrals, or no longer. Whoever waits and would be taken by it lines up."""
    state, service = asked.state, body.definition.service
    if region_of(service) == state.region:
        return refused("region_mismatch", service)
    if body.home_sequence <= state.versions.get(("listed", service), 0):
        return refused("listing_outdated", service)
    return [
        ServiceListed(definition=body.definition, home_sequence=body.home_sequence),
        *lined_up(state, state.as_here(body.definition), asked.now, asked.facts),
    ]


def list_capacity(asked: Asked, body: ListCapacity) -> list[Event]:
    """Take what another region says of its places."""
    state, unit = asked.state, asked.state.units.get(body.unit)
    if unit is None or region_of(body.unit) == state.region:
        return refused("unknown_unit", body.unit)
    if body.home_sequence <= state.versions.get(("listed", body.unit), 0):
        return refused("listing_outdated", body.unit)
    return [
        CapacityListed(
            unit=body.unit,
            service=unit.service,
            total=body.total,
            room=body.room,
            true_at=body.true_at,
            home_sequence=body.home_sequence,
        )
    ]


def answer(asked: Asked, body: AnswerCapacity) -> list[Event]:
    """Go on with the task that waited for the answer. What the task no longer waits for was given back when it ended."""
    state, _, now, facts, _ = asked
    located = state.task(body.task)
    if located is None:
        return refused("no_longer_wanted", body.task)
    name, known, number = located
    task = known.attempt(number)
    waits = task.business if task.is_open else None
    match body.answer:
        case "held" if waits == "reserving":
            return [_offer(state, name, known, number, task, now), *_corrected(state, body)]
        case "taken" if waits == "accepting":
            return [*won(name, known, number, task.starts_at), *_corrected(state, body, taken=1)]
        case "denied" if waits == "reserving":
            return _without_place(asked, body, name, known, number)
        case "lost" if waits == "accepting":
            return _without_place(asked, body, name, known, number)
        case "expired" if task.is_open and not task.waits_for_region:
            ended = OfferExpired(referral=name, task=body.task, provider=task.provider)
            over = known.with_task(number, task._replace(status="cancelled", business="expired"))
            return [ended, *_corrected(state, body), *_next(state, name, over, now, facts)]
        case _:
            return refused("no_longer_wanted", body.task)


def give_up(state: Region, due: Due, now: int, facts: AllOpened) -> list[Event]:
    """The other region did not answer in time: its services are not asked again in this round."""
    name, known = due.about, state.referrals[due.about]
    task = known.attempt(due.number)
    ended = TaskCancelled(
        referral=name, task=task_id(name, due.number), provider=task.provider, reason="no_answer"
    )
    silent = known.with_task(due.number, task._replace(status="cancelled", business="no-answer"))
    return [ended, *_next(state, name, silent, now, facts)]


def _offer(state: Region, name: str, known: Referral, number: int, task: Task, now: int) -> OfferMade:
    """The provider has its time from now on, but no longer than the place was asked for."""
    limit = known.protocol.offer_limits.of(known.urgency)
    return OfferMade(
        referral=name,
        task=task_id(name, number),
        service=task.service,
        unit=task.unit,
        provider=task.provider,
        expires_at=min(task.expires_at, ends(state, known.protocol, task.provider, now, limit)),
        transfer=task.transfer,
    )


def _without_place(
    asked: Asked, body: AnswerCapacity, name: str, known: Referral, number: int
) -> list[Event]:
    state, task = asked.state, known.attempt(number)
    ended = TaskCancelled(referral=name, task=body.task, provider=task.provider, reason="no_place")
    without = known.with_task(number, task._replace(status="cancelled", business="no-place"))
    following = [
        # It would take the person if it had a place.
        event.model_copy(update={"services": sorted({*event.services, task.service})})
        if isinstance(event, ReferralWaitlisted)
        else event
        for event in _next(state, name, without, asked.now, asked.facts)
    ]
    return [ended, *_corrected(state, body), *following]


def _next(state: Region, name: str, known: Referral, now: int, facts: AllOpened) -> list[Event]:
    """Whom to ask after a task that came to nothing, unless somebody else was asked at the same time or keeps the person."""
    if known.offers or known.acceptance is not None:
        return []
    return next_offers(state, name, known, now, facts)


def _corrected(state: Region, body: AnswerCapacity, taken: int = 0) -> list[Event]:
    """What is known of the other region's places, where that is not what its answer says. ``taken`` of them by what is decided."""
    unit = state.units[body.unit]
    if (unit.total, unit.total + unit.overbook - unit.taken - taken) == (body.total, body.room):
        return []
    return [
        CapacityListed(
            unit=body.unit,
            service=unit.service,
            total=body.total,
            room=body.room,
            true_at=unit.counted_at,
            home_sequence=state.versions.get(("listed", body.unit), 0),
        )
    ]


# What follows of itself


def with_what_follows(state: Region, events: list[Event]) -> list[Event]:
    """The events, each that ends a task of another region's service followed by the return of its place; and, where places come free that
    other regions were told they could not have, that they can."""
    followed: list[Event] = []
    free: Counter[str] = Counter()
    for event in events:
        followed.append(event)
        ended = _ended(state, event)
        if ended is None:
            free.update(_moved(event))
        elif region_of(ended.unit) == state.region:
            free[ended.unit] += 1
        elif not (isinstance(event, TaskCancelled) and event.reason == "no_place"):
            followed.append(CapacityReturned(referral=ended.referral, task=ended.task, unit=ended.unit))
    for name in sorted(free.keys() & state.short.keys()):
        followed += _heard_by_the_short(state, name, free[name], events)
    return followed


def published(state: Region, definition: ServiceDefinition, now: int) -> list[Event]:
    """A service is published. The other regions that it is listed in, or was, are told, and of its places too."""
    former = state.catalogue.definitions.get(definition.service)
    others = set(definition.regions) - {state.region}
    told = others if former is None else others | (set(former.regions) - {state.region})
    events: list[Event] = [ServicePublished(definition=definition, told=sorted(told))]
    for described in {unit.unit: unit for unit in definition.units}.values():
        taken = described.total - described.available
        unit = state.units.get(described.unit) or Unit(
            described.unit, definition.service, described.total, taken, 0, now
        )
        events += _to_others(state, definition, replace(unit, overbook=described.overbook), unit.counted_at)
    return events


def offered_after_count(state: Region, unit: Unit, count: CapacityChanged) -> list[Event]:
    """What a count leaves to the other regions that the service is listed in."""
    after = replace(unit)
    counted(after, count.total, count.available, count.true_at)
    return _to_others(state, state.catalogue.definitions[unit.service], after, count.true_at)


def _to_others(state: Region, definition: ServiceDefinition, unit: Unit, true_at: int) -> list[Event]:
    others = set(definition.regions) - {state.region}
    if not definition.active or not others:
        return []
    return [_offered(unit, {other: state.room(unit, other) for other in others}, true_at)]


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
    return [_offered(unit, {region: state.room(after, region) for region in hearing}, unit.counted_at)]


def _offered(unit: Unit, rooms: Mapping[str, int], true_at: int) -> CapacityOffered:
    return CapacityOffered(
        unit=unit.unit,
        total=unit.total,
        rooms=[RoomOf(region=region, room=room) for region, room in sorted(rooms.items())],
        true_at=true_at,
    )


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
    return None if goes_on else _Ended(name, event.task, task.unit)


def _moved(event: Event) -> dict[str, int]:
    """How many more places of a unit are free by an event that ends no task of this region."""
    match event:
        case CapacityFreed():
            return {event.unit: 1}
        case CapacityLent() | OfferMade():
            return {event.unit: -1}
        case _:
            return {}
