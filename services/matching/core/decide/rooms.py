"""What other regions are told of a unit's places: how many each may hold at once."""

from __future__ import annotations

from collections.abc import Mapping

from referral_bus.contracts.ledger import CapacityOffered, Event, RoomOf
from referral_bus.contracts.services import ServiceDefinition
from services.matching.core.state import Region, Unit


def to_others(state: Region, definition: ServiceDefinition, unit: Unit, true_at: int) -> list[Event]:
    """All that the service is listed in hear what this leaves to each of them."""
    others = set(definition.regions) - {state.region}
    if not definition.active or not others:
        return []
    return [offered(unit, {other: state.room(unit, other) for other in others}, true_at)]


def offered(unit: Unit, rooms: Mapping[str, int], true_at: int) -> CapacityOffered:
    """These regions hear how many places of the unit each may hold."""
    return CapacityOffered(
        unit=unit.unit,
        total=unit.total,
        rooms=[RoomOf(region=region, room=room) for region, room in sorted(rooms.items())],
        true_at=true_at,
    )
