"""What a provider says of its services and places."""

from __future__ import annotations

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import PublishService, ReportCapacity
from referral_bus.contracts.ledger import CapacityChanged, Event
from services.matching.core.counting import moved_since
from services.matching.core.decide.answers import CLOCK_SKEW_MS, Asked, refused
from services.matching.core.decide.elsewhere import offered_after_count, published
from services.matching.core.decide.lines import lined_up
from services.matching.core.judging.criteria import unmeetable
from services.matching.core.state import COUNT_MS


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
    counted = CapacityChanged(
        unit=body.unit,
        service=unit.service,
        total=body.total,
        available=body.available,
        true_at=body.true_at,
    )
    return [counted, *offered_after_count(state, unit, counted)]


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
        *published(state, definition, asked.now),
        *lined_up(state, definition, asked.now, asked.facts),
    ]
