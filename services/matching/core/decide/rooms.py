"""What other regions are told of a unit's places: how many each may hold at once."""

from __future__ import annotations

from collections.abc import Mapping

from referral_bus.contracts.ledger import CapacityOffered, Event, RoomOf
from referral_bus.contracts.services import ServiceDefinition
from services.matching.core.state import Region, Unit


def others(state: Region, definition: ServiceDefinition) -> set[str]:
    """The regions that a service of this one is listed in besides."""
    return set(definition.regions) - {state.region}


def to_others(state: Region, definition: ServiceDefinition, unit: Unit, true_at: int) -> list[Event]:
    """All that the service is listed in hear what this leaves to each of them."""
    told = others(state, definition)
    if not definition.active or not told:
        return []
    return [offered(unit, {other: state.room(unit, other) for other in told}, true_at)]


def offered(unit: Unit, rooms: Mapping[str, int], true_at: int) -> CapacityOffered:
    """These regions hear how many places of the unit each may hold."""
    return CapacityOffered(
        unit=unit.unit,
        total=unit.total,
        rooms=[RoomOf(region=region, room=room) for region, room in sorted(rooms.items())],
        true_at=true_at,
    )
