"""Services and their places."""

from __future__ import annotations

from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityDoubted,
    CapacityTrusted,
    Meta,
    ServicePublished,
)
from services.matching.core.counting import counted, counted_at, overbooks
from services.matching.core.fold.submissions import wake
from services.matching.core.state import Due, Region, Unit


def changed(state: Region, _: Meta, event: CapacityChanged) -> None:
    unit = state.units[event.unit]
    counted(unit, event.total, event.available, event.true_at)
    freed(state, unit)


def doubted(state: Region, meta: Meta, event: CapacityDoubted) -> None:
    unit = state.units[event.unit]
    unit.doubted += event.places
    unit.doubted_at, unit.doubted_until = meta.now, event.until
    state.expects(Due(event.until, "doubt", event.unit))
    state.places.change(event.service)


def trusted(state: Region, _: Meta, event: CapacityTrusted) -> None:
    unit = state.units[event.unit]
    unit.doubted = 0
    freed(state, unit)


def published(state: Region, meta: Meta, event: ServicePublished) -> None:
    definition = event.definition
    for described in definition.units:
        unit = state.units.get(described.unit)
        if unit is None:
            taken = described.total - described.available
            unit = Unit(
                described.unit, definition.service, described.total, taken, 0, counted_at(described, meta.now)
            )
            state.units[described.unit] = unit
        overbooks(unit, described.overbook)
    state.catalogue.put(definition)
    for name in dict.fromkeys(unit.unit for unit in definition.units):
        wake(state, name)
        freed(state, state.units[name])


def freed(state: Region, unit: Unit, refused: bool = False) -> None:
    """The unit may have places again: whoever waits for one is to be called. Where it is one that was just ``refused`` for want of a place,
    or not answered about, that says nothing to those who were passed over for it."""
    state.places.change(unit.service)
    if not refused:
        state.passed_over.pop(unit.service, None)
    if unit.service in state.waitlist and unit.service not in state.freed:
        state.freed.append(unit.service)
