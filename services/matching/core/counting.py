"""Counts of places: what a provider reports was true some time ago, and has to be carried to now."""

from __future__ import annotations

from referral_bus.contracts import services
from referral_bus.contracts.inbox import CLOCK_SKEW_MS
from services.matching.core.state import COUNT_MS, Unit


def counted_at(described: services.Unit, now: int) -> int:
    """When the places of a unit that is published for the first time were counted: as it says, but not in the future."""
    return now if described.counted_at is None else min(described.counted_at, now)


def moved(unit: Unit, at: int, places: int) -> None:
    """Places were taken (positive) or became free (negative) at a moment."""
    unit.taken = max(0, unit.taken + places)
    unit.moved = (*(one for one in unit.moved if one[0] > at - COUNT_MS), (at, places))


def moved_since(unit: Unit, moment: int) -> int:
    """How many more places are taken than were at the moment."""
    return sum(places for at, places in unit.moved if at > moment)


def overbooks(unit: Unit, places: int) -> None:
    """Take it that the provider lets so many more places be promised than there are."""
    unit.overbook = places
    # What is not there by any count can't be in doubt.
    unit.doubted = max(0, unit.doubted + min(0, unit.free))


def counted(unit: Unit, total: int, available: int, true_at: int) -> None:
    """Take a count that was true at ``true_at``."""
    unit.taken = max(0, total - available + moved_since(unit, true_at))
    unit.total, unit.counted_at = total, true_at
    doubted, unit.doubted = unit.doubted, 0
    if doubted and true_at < unit.doubted_at - CLOCK_SKEW_MS:
        # It counted these places before it said that there are none.
        unit.doubted = max(0, unit.free)
