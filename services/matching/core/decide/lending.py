"""What the home of a service is asked by other regions: to hold a place, to let it be taken, to have it back.

It owns the place: who holds it until when, and whether it is taken. What one region asks and answers another is an event of its own
ledger, which the relay puts on the other's inbox; what the other makes of it is in :mod:`borrowing`. The table of messages, and of what
makes up for each that comes too late, is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from typing import Final

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import (
    RequestCapacity,
    ReturnCapacity,
    TakeCapacity,
)
from referral_bus.contracts.ledger import (
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityTaken,
    Event,
)
from referral_bus.contracts.vocabulary import UNKEPT, DenialReason
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.capacity import doubted
from services.matching.core.decide.rooms import offered
from services.matching.core.state import Due, Region, Unit

GRACE_MS: Final = 10 * 60_000
"""How much longer a place is held for another region than it asked: an acceptance in its last moment is still on its way then."""


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
