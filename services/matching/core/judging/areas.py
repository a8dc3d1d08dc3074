"""Whether a place lies within the borders a service serves. Whole numbers only, so that a border is the same line on every machine.

Borders are straight lines on the map of latitude and longitude, as GeoJSON has them (RFC 7946). What is on a border is within.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final, NamedTuple

from referral_bus.contracts.places import MICRO, Polygon
from services.matching.core.judging.letters import Letter

_WORLD: Final = 360 * MICRO

Corners = tuple[tuple[int, int], ...]
"""Latitude and longitude of each."""


class Border(NamedTuple):
    """A polygon made ready: its rings, and between which latitudes and longitudes they lie."""

    south: int
    north: int
    west: int
    east: int
    rings: tuple[Corners, ...]


def borders(polygons: Iterable[Polygon]) -> tuple[Border, ...]:
    """Polygons made ready."""
    return tuple(_border(polygon) for polygon in polygons)


def judge_borders(served: Iterable[Border], latitude: int | None, longitude: int | None) -> Letter:
    """Whether a place is within one of the borders; unknown where it is not stated."""
    if latitude is None or longitude is None:
        return "u"
    return "y" if any(within(border, latitude, longitude) for border in served) else "n"


def either(first: Letter, second: Letter) -> Letter:
    """Yes if one is, no if both are: a service serves its named areas and those within its borders."""
    if "y" in (first, second):
        return "y"
    return "n" if first == second == "n" else "u"


def within(border: Border, latitude: int, longitude: int) -> bool:
    """Whether a place in micro-degrees is within a border. A border beyond the date line is met from either side of the map."""
    if not border.south <= latitude <= border.north:
        return False
    return any(
        border.west <= east <= border.east and _within_rings(border.rings, latitude, east)
        for east in (longitude, longitude - _WORLD, longitude + _WORLD)
    )


def _border(polygon: Polygon) -> Border:
    rings = tuple(tuple(zip(ring.points[::2], ring.points[1::2], strict=True)) for ring in polygon.rings)
    outer = rings[0]
    north = [corner[0] for corner in outer]
    east = [corner[1] for corner in outer]
    # A hole may be written on the other side of the date line than what it is a hole of.
    moved = (rings[0], *(_beside(ring, min(east), max(east)) for ring in rings[1:]))
    return Border(min(north), max(north), min(east), max(east), moved)


def _beside(ring: Corners, west: int, east: int) -> Corners:
    first = min(corner[1] for corner in ring)
    for turn in (0, _WORLD, -_WORLD):
        if west <= first + turn <= east:
            return tuple((north, at + turn) for north, at in ring)
    return ring


def _within_rings(rings: tuple[Corners, ...], north: int, east: int) -> bool:
    """By the even-odd rule: a line from the place to the north crosses the rings an odd number of times."""
    inside = False
    for ring in rings:
        for (a_north, a_east), (b_north, b_east) in zip(ring, chain(ring[1:], ring[:1]), strict=True):
            # On which side of the line from a to b the place lies: positive on its left, zero on it.
            side = (b_east - a_east) * (north - a_north) - (b_north - a_north) * (east - a_east)
            if side == 0 and _between(a_north, north, b_north) and _between(a_east, east, b_east):
                return True
            if (a_east > east) != (b_east > east) and (side < 0) == (b_east > a_east):
                inside = not inside
    return inside


def _between(one: int, value: int, other: int) -> bool:
    return one <= value <= other or other <= value <= one
