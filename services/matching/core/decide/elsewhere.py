"""Regions that lend each other places. What one asks and answers another is an event of its own ledger, which the relay puts on the other's
inbox; nothing waits for it but the one task, and that only for so long.

The service's own region, its home, owns the place: who holds it until when, and whether it is taken. The referral's region owns which task
wins. The table of messages, and of what makes up for each that comes too late, is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from typing import Final

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
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityListed,
    CapacityTaken,
    Event,
    OfferExpired,
    OfferMade,
    ServiceListed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import UNKEPT, DenialReason
from services.matching.core.decide.answers import AllOpened, Asked, refused
from services.matching.core.decide.capacity import doubted
from services.matching.core.decide.lines import lined_up
from services.matching.core.decide.offering import next_offers, won
from services.matching.core.decide.rooms import offered
from services.matching.core.referral import Referral, Task
from services.matching.core.state import Due, Region, Unit
from services.matching.core.timing import ends

GRACE_MS: Final = 10 * 60_000
"""How much longer a place is held for another region than it asked: an acceptance in its last moment is still on its way then."""


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
    unit, borrower = state.units[lent.unit], region_of(body.task)
    if body.because in UNKEPT:
        returning = None if lent.taken else borrower
        frees = 0 if lent.taken and unit.taken == 0 else 1
        doubt = doubted(state, unit, body.task, unit.free + frees, body.until, asked.now, returning)
        if doubt:
            return [freed, *doubt]
    if not lent.taken:
        return [freed]
    # What it was told meanwhile did not count that place in.
    return [freed, offered(unit, {borrower: freed.room}, unit.counted_at)]


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
            over = known.with_task(number, task.expired())
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
    return [ended, *_corrected(state, body), *_next(state, name, without, asked.now, asked.facts)]


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
