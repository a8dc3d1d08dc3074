"""Places on the earth and areas of it, in whole micro-degrees (WGS 84), so that what is decided by them is the same on every machine."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import FailFast, Field, model_validator

from referral_bus.contracts.message import Part
from referral_bus.contracts.vocabulary import Urgency

MICRO: Final = 1_000_000
"""Micro-degrees in a degree. One is 11 cm on the ground at most."""

Travel = Literal["walk", "transit", "car"]
"""How a person gets about."""

Latitude = Annotated[int, Field(ge=-90 * MICRO, le=90 * MICRO)]
Longitude = Annotated[int, Field(ge=-180 * MICRO, le=180 * MICRO)]
Metres = Annotated[int, Field(ge=0, le=20_100_000)]
"""Whole metres; no two places of the earth are farther apart."""

_WORLD: Final = 360 * MICRO
MOST_POINTS: Final = 5000
"""Points all polygons of one service may have."""


class Place(Part):
    """A point, in micro-degrees north and east."""

    latitude: Latitude
    longitude: Longitude


class Ring(Part):
    """A closed line: latitude and longitude of its first point, of its second, and so on; the last joins the first.

    A ring that crosses the date line goes on beyond 180 degrees instead of jumping to the other side of the map, so that a step from one
    point to the next is never longer than half the world.
    """

    points: Annotated[
        list[Annotated[int, Field(ge=-540 * MICRO, le=540 * MICRO)]],
        # Polygons are many lists in one another: without this, one body could be found wrong a million times.
        FailFast(),
        Field(min_length=6, max_length=2 * MOST_POINTS),
    ]

    @model_validator(mode="after")
    def _is_a_ring(self) -> Self:
        if len(self.points) % 2:
            raise ValueError("a ring has an odd count of numbers: each point is a latitude and a longitude")
        if any(not -90 * MICRO <= latitude <= 90 * MICRO for latitude in self.points[::2]):
            raise ValueError("a latitude is off the earth: -90 to 90 degrees, in micro-degrees")
        east = self.points[1::2]
        if any(
            abs(after - before) > _WORLD // 2
            for before, after in zip(east, [*east[1:], east[0]], strict=True)
        ):
            raise ValueError(
                "a ring jumps over more than half the world: let it go on beyond 180 degrees instead"
            )
        return self


class Polygon(Part):
    """What lies within the outer ring, which is the first, and not within the others, which are holes. Borders belong to it."""

    rings: Annotated[list[Ring], FailFast(), Field(min_length=1, max_length=100)]


class ReachLimit(Part):
    """How far a person in this urgency who travels this way is sent at most."""

    urgency: Urgency
    travel: Travel
    metres: Metres
