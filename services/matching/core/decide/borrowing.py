"""What a referral's region hears of services whose home is another (:mod:`lending`), and whom it asks next.

It owns which task wins. Nothing waits for an answer but the one task, and that only for so long. The table of messages, and of what makes
up for each that comes too late, is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.inbox import (
    AnswerCapacity,
    ListCapacity,
    ListService,
)
from referral_bus.contracts.ledger import (
    CapacityListed,
    Event,
    OfferExpired,
    OfferMade,
    ServiceListed,
    TaskCancelled,
)
from services.matching.core.decide.answers import AllOpened, Asked, refused
from services.matching.core.decide.lines import lined_up
from services.matching.core.decide.offering import next_offers, won
from services.matching.core.referral import Referral, Task
from services.matching.core.state import Due, Region, Unit
from services.matching.core.timing import offer_ends


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
    return [_listed(unit, body, body.true_at, body.home_sequence)]


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
    return OfferMade(
        referral=name,
        task=task_id(name, number),
        service=task.service,
        unit=task.unit,
        provider=task.provider,
        expires_at=min(task.expires_at, offer_ends(state, known, task.provider, now)),
        transfer=task.transfer,
    )


def _without_place(
    asked: Asked, body: AnswerCapacity, name: str, known: Referral, number: int
) -> list[Event]:
    state, task = asked.state, known.attempt(number)
    ended = TaskCancelled(referral=name, task=body.task, provider=task.provider, reason="no_place")
    without = known.with_task(number, task._replace(status="cancelled", business="no-place"))
    return [ended, *_corrected(state, body), *_next(state, name, without, asked.now, asked.facts)]


def _next(state: Region, name: str, over: Referral, now: int, facts: AllOpened) -> list[Event]:
    """Whom to ask after a task that came to nothing, unless somebody else was asked at the same time or keeps the person."""
    if over.offers or over.acceptance is not None:
        return []
    over.goes_unaccepted(now)
    return next_offers(state, name, over, now, facts)


def _corrected(state: Region, body: AnswerCapacity, taken: int = 0) -> list[Event]:
    """What is known of the other region's places, where that is not what its answer says. ``taken`` of them by what is decided."""
    unit = state.units[body.unit]
    if (unit.total, unit.total + unit.overbook - unit.taken - taken) == (body.total, body.room):
        return []
    return [_listed(unit, body, unit.counted_at, state.versions.get(("listed", body.unit), 0))]


def _listed(
    unit: Unit, said: ListCapacity | AnswerCapacity, true_at: int, home_sequence: int
) -> CapacityListed:
    """What the home says of its unit's places, which was true then and at that sequence of its ledger."""
    return CapacityListed(
        unit=unit.unit,
        service=unit.service,
        total=said.total,
        room=said.room,
        true_at=true_at,
        home_sequence=home_sequence,
    )
