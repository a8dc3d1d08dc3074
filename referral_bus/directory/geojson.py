"""Borders of service areas in GeoJSON (RFC 7946), as polygons of the bus in whole micro-degrees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from referral_bus.contracts.places import MICRO, MOST_POINTS, Polygon, Ring
from referral_bus.directory.values import Unusable, shown

_WORLD: Final = 360 * MICRO
_DEEPEST: Final = 6


def polygons(text: str) -> list[Polygon]:
    """The polygons of a geometry, a feature or a collection of them. Raises Unusable for what is no area on the earth."""
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Unusable(f"the extent {shown(text)} is not GeoJSON") from None
    found = [_polygon(rings) for rings in _areas(document, 0)]
    if not found:
        raise Unusable("the extent holds no Polygon or MultiPolygon, so it is no area")
    points = sum(len(ring.points) for polygon in found for ring in polygon.rings) // 2
    if points > MOST_POINTS:
        raise Unusable(f"the extent has {points} points; simplify it to {MOST_POINTS} at most")
    return found


def micro_degrees(value: object) -> int:
    """Decimal degrees in micro-degrees. Raises Unusable for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Unusable("a coordinate of the extent is not a number")
    if not -540 <= value <= 540:
        raise Unusable(f"the coordinate {value:.6g} is off the earth")
    return round(value * MICRO)


def _areas(document: Any, depth: int) -> Iterator[list[Any]]:
    """The rings of each polygon within."""
    if not isinstance(document, dict) or depth > _DEEPEST:
        raise Unusable("the extent is not GeoJSON: expected an object with a type")
    kind = document.get("type")
    if kind == "Polygon":
        yield _list(document.get("coordinates"))
    elif kind == "MultiPolygon":
        yield from map(_list, _list(document.get("coordinates")))
    elif kind == "Feature":
        yield from _areas(document.get("geometry"), depth + 1)
    elif kind in ("FeatureCollection", "GeometryCollection"):
        for one in _list(document.get("features" if kind == "FeatureCollection" else "geometries")):
            yield from _areas(one, depth + 1)
    else:
        raise Unusable(f"the extent has the GeoJSON type {shown(str(kind))}, which is no area")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Unusable("the extent is not GeoJSON: expected a list of coordinates")
    return value


def _polygon(rings: list[Any]) -> Polygon:
    try:
        return Polygon(rings=[Ring(points=_points(_list(ring))) for ring in rings])
    except ValidationError as error:
        raise Unusable(f"the extent can't be used: {error.errors()[0]['msg']}") from None


def _points(ring: list[Any]) -> list[int]:
    """Latitude and longitude of each point in turn, without the repeated last one. A step over the date line goes on beyond it."""
    places = [(micro_degrees(one[1]), micro_degrees(one[0])) for one in map(_list, ring) if len(one) >= 2]
    if len(places) < len(ring):
        raise Unusable("a position of the extent has fewer than two coordinates")
    if not places or places[0] != places[-1]:
        raise Unusable("a ring of the extent is not closed: its last position is not its first")
    points: list[int] = []
    turn = 0
    for before, (latitude, longitude) in zip([places[0], *places], places, strict=False):
        step = longitude - before[1]
        turn += _WORLD if step < -_WORLD // 2 else -_WORLD if step > _WORLD // 2 else 0
        points += (latitude, longitude + turn)
    if turn:
        raise Unusable("a ring of the extent goes round a pole, which no map of latitude and longitude shows")
    return points[:-2]


def _no_number(text: str) -> object:
    raise ValueError(text)
