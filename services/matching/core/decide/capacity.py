"""What a provider says of its services and places."""

from __future__ import annotations

from dataclasses import replace

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import CLOCK_SKEW_MS, PublishService, ReportCapacity
from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityDoubted,
    CapacityTrusted,
    Event,
    ServicePublished,
)
from referral_bus.contracts.services import ServiceDefinition
from services.matching.core.counting import counted, counted_at, moved_since, overbooks
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.lines import lined_up
from services.matching.core.decide.rooms import offered, others, to_others
from services.matching.core.judging.criteria import unmeetable
from services.matching.core.state import COUNT_MS, Due, Region, Unit


def count(asked: Asked, body: ReportCapacity) -> list[Event]:
    """Take the count, as it was when it was made: who was accepted or left since is counted in."""
    state, now = asked.state, asked.now
    if region_of(body.unit) != state.region:
        return refused("region_mismatch", body.unit)
    unit = state.units[body.unit]
    if state.catalogue.definitions[unit.service].organisation != asked.admitted.source:
        return refused("not_your_service", body.unit)
    if body.available > body.total:
        return refused("capacity_above_total", body.unit)
    if body.true_at > now + CLOCK_SKEW_MS:
        return refused("time_in_future", body.unit)
    if body.true_at < max(unit.counted_at, now - COUNT_MS):
        return refused("capacity_outdated", body.unit)
    if body.available + unit.overbook - moved_since(unit, body.true_at) < unit.held:
        return refused("capacity_below_held", body.unit)
    event = CapacityChanged(
        unit=body.unit,
        service=unit.service,
        total=body.total,
        available=body.available,
        # By a clock that is ahead, and what is counted rightly before that comes would be older than it.
        true_at=min(body.true_at, now),
    )
    after = replace(unit)
    counted(after, event.total, event.available, event.true_at)
    definition = state.catalogue.definitions[unit.service]
    return [event, *to_others(state, definition, after, event.true_at)]


def publish(asked: Asked, body: PublishService) -> list[Event]:
    """Take a service as its provider describes it. Whoever waits and would be taken by it lines up."""
    state, definition = asked.state, body.definition
    if any(
        region_of(one) != state.region for one in (definition.service, *(u.unit for u in definition.units))
    ):
        return refused("region_mismatch", definition.service)
    former = state.catalogue.definitions.get(definition.service)
    owners = {definition.organisation} if former is None else {definition.organisation, former.organisation}
    if owners != {asked.admitted.source}:
        return refused("not_your_service", definition.service)
    for unit in definition.units:
        known = state.units.get(unit.unit)
        if known is not None and known.service != definition.service:
            return refused("not_your_service", unit.unit)
        if known is not None and known.held > max(0, known.total + unit.overbook - known.taken):
            return refused("capacity_below_held", unit.unit)
    if unmeetable(definition):
        return refused("criteria_unmeetable", definition.service)
    return [
        *_published(state, definition, asked.now),
        *lined_up(state, definition, asked.now, asked.facts),
    ]


def doubted(
    state: Region,
    unit: Unit,
    task: str,
    places: int,
    until: int | None,
    now: int,
    returning: str | None = None,
) -> list[Event]:
    """None of the ``places`` that seem to be free is offered until the provider counts again, or for as long as it says, or else the
    policy. Other regions may go on holding what is held for them, but for the one place that one of them is ``returning``."""
    policy = state.policy
    if until is None:
        until = now + (0 if policy is None else policy.full_ms)
    if unit.doubted:
        until = max(until, unit.doubted_until)
    if places <= 0 or until <= now:
        return []
    doubt = CapacityDoubted(unit=unit.unit, service=unit.service, task=task, places=places, until=until)
    definition = state.catalogue.definitions[unit.service]
    told = others(state, definition)
    if not definition.active or not told:
        return [doubt]
    rooms = {
        other: state.promised.get((unit.unit, other), 0) - (1 if other == returning else 0) for other in told
    }
    return [doubt, offered(unit, rooms, unit.counted_at)]


def trust_again(state: Region, due: Due) -> list[Event]:
    """The provider did not count again in all the time its places were doubted: they are offered again, to other regions too."""
    unit = state.units[due.about]
    trusted = CapacityTrusted(unit=unit.unit, service=unit.service)
    definition = state.catalogue.definitions[unit.service]
    return [trusted, *to_others(state, definition, replace(unit, doubted=0), unit.counted_at)]


def _published(state: Region, definition: ServiceDefinition, now: int) -> list[Event]:
    """A service is published. The other regions that it is listed in, or was, are told, and of its places too."""
    former = state.catalogue.definitions.get(definition.service)
    told = others(state, definition) | (set() if former is None else others(state, former))
    events: list[Event] = [ServicePublished(definition=definition, told=sorted(told))]
    for described in {unit.unit: unit for unit in definition.units}.values():
        taken = described.total - described.available
        known = state.units.get(described.unit) or Unit(
            described.unit, definition.service, described.total, taken, 0, counted_at(described, now)
        )
        after = replace(known)
        overbooks(after, described.overbook)
        events += to_others(state, definition, after, after.counted_at)
    return events
