"""How far it is from a person to a service, and whether that is within reach. Whole numbers only: the same on every machine.

A distance is that of the haversine formula on a sphere of the earth's mean radius. A place becomes a point on a sphere whose radius is
2^29 units (one is 12 mm); the square of the straight line between two such points is the formula's ``4 sin^2(d / 2R)``, exactly in whole
numbers, and the arc above the line follows from it by a series. Sines come from a series in whole numbers as well: a machine's own
floating-point functions may differ in the last digit, and a metre more or less would decide otherwise at a limit. The earth is no
sphere: the figure is within 0.6 % of the way along an ellipsoid, and both are shorter than any road.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import isqrt
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.places import Place, ReachLimit, Travel
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import Urgency

EARTH_RADIUS_M: Final = 6_371_009
"""The mean radius of the earth (IUGG), in metres."""

_UNIT_BITS: Final = 29
"""So few that a coordinate is one digit of a whole number of Python's, and the work with it half of what it is with two."""
_UNIT: Final = 1 << _UNIT_BITS
_BITS: Final = 96
"""Binary places that angles and their sines are reckoned with."""
_ONE: Final = 1 << _BITS
_PI: Final = 0x3243F6A8885A308D313198A2E0370734 >> (124 - _BITS)
"""Pi with that many binary places."""
_HALF_TURN: Final = 180_000_000


FARTHEST_M: Final = 10_000_000
"""Who goes as far as this, nearly a quarter of the way round the world, goes anywhere. Up to there the arc above a straight line rises as
the line does, whole number by whole number: lines are compared in the place of distances."""


class Point(NamedTuple):
    """A place on the sphere of 2^29 units."""

    x: int
    y: int
    z: int


class Travelling(NamedTuple):
    """Where a person is and how they get about; None where that is not stated."""

    point: Point | None
    travel: Travel | None


class Reaching(NamedTuple):
    """How a service is reached: where it is, how far it comes to people, and whether it is given from afar."""

    points: tuple[Point, ...]
    comes: int | None
    remote: bool


def point(latitude: int, longitude: int) -> Point:
    """The point of a place in micro-degrees."""
    sin_north, sin_east = _sine(latitude), _sine(longitude)
    cos_north, cos_east = _other_side(sin_north), _other_side(sin_east)
    if (longitude + _HALF_TURN // 2) % (2 * _HALF_TURN) > _HALF_TURN:
        cos_east = -cos_east
    shift = 2 * _BITS - _UNIT_BITS
    return Point(
        _rounded(cos_north * cos_east, shift),
        _rounded(cos_north * sin_east, shift),
        _rounded(sin_north, _BITS - _UNIT_BITS),
    )


def metres(a: Point, b: Point) -> int:
    """The distance in whole metres, rounded to the nearest."""
    line = straight(a, b)
    if line <= 2 * _UNIT * _UNIT:
        return _arc(line)
    # More than a quarter of the way round: the rest of half the way is the way to the point opposite, and better told by it.
    x, y, z = a.x + b.x, a.y + b.y, a.z + b.z
    return _HALF_WAY_ROUND - _arc(x * x + y * y + z * z)


def straight(a: Point, b: Point) -> int:
    """The square of the straight line between two points: the farther they are from each other, the larger."""
    x, y, z = a.x - b.x, a.y - b.y, a.z - b.z
    return x * x + y * y + z * z


@lru_cache(maxsize=4096)
def straight_of(distance: int) -> int:
    """The square of the longest straight line that is no farther than so many metres, up to :data:`FARTHEST_M`."""
    # No line is longer than its arc, and up to a quarter of the way round none much shorter.
    longest = (distance + 1) ** 2 * _UNIT * _UNIT // (EARTH_RADIUS_M * EARTH_RADIUS_M) + 1
    low, beyond = distance * distance * _UNIT * _UNIT // (EARTH_RADIUS_M * EARTH_RADIUS_M) * 3 // 4, longest
    while beyond - low > 1:
        middle = (low + beyond) // 2
        if _arc(middle) <= distance:
            low = middle
        else:
            beyond = middle
    return low


def travelling(facts: Facts) -> Travelling:
    """What of the facts reach is judged by."""
    place = facts.place
    known = place.latitude is not None and place.longitude is not None
    at = point(place.latitude, place.longitude) if known else None  # type: ignore[arg-type]
    return Travelling(at, facts.travel.value)


def reaching(definition: ServiceDefinition) -> Reaching:
    """What of a definition reach is judged by."""
    points = tuple(dict.fromkeys(_point_of(place) for place in definition.places))
    return Reaching(points, definition.reach_m, definition.remote)


def distance(person: Travelling, service: Reaching) -> int | None:
    """Metres to the nearest of the service's places; 0 for one that is given from afar, None where either place is not stated."""
    if service.remote:
        return 0
    at = person.point
    if at is None or not service.points:
        return None
    return min(metres(at, there) for there in service.points)


def limits(reach: Iterable[ReachLimit], urgency: Urgency) -> dict[Travel, int]:
    """How far one goes in this urgency by each way of travelling that has a limit."""
    return {
        limit.travel: limit.metres
        for limit in reach
        if limit.urgency == urgency and limit.metres < FARTHEST_M
    }


WAYS: Final[Sequence[Travel]] = ("walk", "transit", "car")
"""All there are of travelling."""


@lru_cache(maxsize=4096)
def _point_at(latitude: int, longitude: int) -> Point:
    return point(latitude, longitude)


def _point_of(place: Place) -> Point:
    return _point_at(place.latitude, place.longitude)


def _sine(angle: int) -> int:
    """The sine of an angle in micro-degrees, with _BITS binary places."""
    angle = (angle + _HALF_TURN) % (2 * _HALF_TURN) - _HALF_TURN
    if angle > _HALF_TURN // 2:
        angle = _HALF_TURN - angle
    elif angle < -_HALF_TURN // 2:
        angle = -_HALF_TURN - angle
    x = angle * _PI // _HALF_TURN
    square = x * x >> _BITS
    term = total = x
    n = 1
    while term not in (0, -1):
        n += 2
        term = -(term * square >> _BITS) // ((n - 1) * n)
        total += term
    return total


def _other_side(sine: int) -> int:
    """The cosine's size, by Pythagoras: a root is a quarter of the work of a series."""
    return isqrt(max(0, _ONE * _ONE - sine * sine))


def _rounded(value: int, shift: int) -> int:
    """The value without its last ``shift`` binary places, rounded to the nearest, away from zero at the middle: so that what lies
    opposite each other stays so."""
    half = 1 << (shift - 1)
    return (value + half) >> shift if value >= 0 else -((-value + half) >> shift)


def _arc(straight: int) -> int:
    """The arc in metres above a straight line, given by its square; for arcs up to a quarter of the way round."""
    # The half angle's sine, with 64 binary places: half the line's length, of a radius of 2^29 units.
    sine = isqrt(straight << 2 * (63 - _UNIT_BITS))
    square = sine * sine >> 64
    # asin(s) = s + s^3/6 + 3 s^5/40 + ...: each term is the one before times s^2 (2k-1)^2 / (2k (2k+1)).
    term = total = sine
    k = 0
    while term:
        k += 1
        term = (term * square >> 64) * (2 * k - 1) ** 2 // (2 * k * (2 * k + 1))
        total += term
    return (total * EARTH_RADIUS_M + (1 << 62)) >> 63


_HALF_WAY_ROUND: Final = (_PI * EARTH_RADIUS_M + (_ONE >> 1)) >> _BITS
