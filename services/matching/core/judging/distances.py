"""How far it is from a person to services: the straight lines to all of them at once.

Where services are that are asked for together is kept as long whole numbers with a number of 64 bits for each of them. The square of the
line from a place ``p`` to another ``a`` is ``a.a + p.p - 2 a.p``: one long number has what is known of it without ``p``, three have what
each coordinate of ``p`` is multiplied with, and their sum has the lines to all of them. None of its numbers is below zero or longer than
its 64 bits, so that it can be taken apart again.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from services.matching.core.judging.bitmaps import made_of, members, without
from services.matching.core.judging.reach import (
    Point,
    Reaching,
    Travelling,
    distance,
    straight,
    travelling,
)

_LANE: Final = 8
"""Bytes for each service."""
_MORE: Final = 1 << 61
"""What each number is larger by, so that none is below zero: twice the square of a radius of 2^29, and to spare."""
_REMEMBERED: Final = 256
"""Sets of services whose long numbers are kept."""


class Lanes(NamedTuple):
    """The first places of the services in these slots as long numbers."""

    slots: Sequence[int]
    without: int
    x: int
    y: int
    z: int


class Whereabouts:
    """Where services are, by slot."""

    __slots__ = ("_lanes", "coming", "placed", "reached", "remote", "several")

    def __init__(self) -> None:
        self.reached: dict[int, Reaching] = {}
        """How the service in each slot is reached."""
        self.remote = self.placed = self.several = self.coming = 0
        """Those that are given from afar; of the others those of which it is known where they are; of these those that have several
        places, and those that say how far they come."""
        self._lanes: dict[int, Lanes] = {}

    def put(self, slot: int, reaching: Reaching | None) -> None:
        """Take in how a service is reached from now on; None for one that is active no longer."""
        former = self.reached.pop(slot, None)
        if former is not None:
            self._turn(slot, former)
        if reaching is not None:
            self.reached[slot] = reaching
            self._turn(slot, reaching)
        for services in [services for services in self._lanes if services >> slot & 1]:
            del self._lanes[services]

    def _turn(self, slot: int, reaching: Reaching) -> None:
        bit = 1 << slot
        if reaching.remote:
            self.remote ^= bit
        elif reaching.points:
            self.placed ^= bit
            self.several ^= bit if len(reaching.points) > 1 else 0
            self.coming ^= bit if reaching.comes is not None else 0

    def lines_from(self, person: Point, services: int) -> Iterable[tuple[int, int]]:
        """The slots of services that are placed, and the square of the straight line to the nearest place of each."""
        lanes = self._lanes.get(services)
        if lanes is None:
            if len(self._lanes) >= _REMEMBERED:
                self._lanes.clear()
            lanes = self._lanes[services] = self._made_of(members(services))
        x, y, z = person
        long = lanes.without + lanes.x * x + lanes.y * y + lanes.z * z
        each = array("Q", long.to_bytes(_LANE * len(lanes.slots), "little"))
        if sys.byteorder == "big":
            each.byteswap()
        more = x * x + y * y + z * z - _MORE
        lines = [line + more for line in each]
        if services & self.several:
            for place, slot in enumerate(lanes.slots):
                if self.several >> slot & 1:
                    lines[place] = min([straight(person, there) for there in self.reached[slot].points])
        return zip(lanes.slots, lines, strict=True)

    def _made_of(self, slots: Sequence[int]) -> Lanes:
        points = [self.reached[slot].points[0] for slot in slots]
        return Lanes(
            slots,
            _long([x * x + y * y + z * z + _MORE for x, y, z in points]),
            *[-2 * _long(numbers) for numbers in zip(*points, strict=True)],
        )


class Distances:
    """How far it is from the person to services. Reckoned once, when it is asked for, and then of all that were asked for ``together``."""

    __slots__ = ("_facts", "_lines", "_person", "_reckoned", "_together", "_whereabouts")

    def __init__(self, whereabouts: Whereabouts, facts: Facts, together: Iterable[int] = ()) -> None:
        self._whereabouts = whereabouts
        self._facts = facts
        self._together = together
        self._person: Travelling | None = None
        self._lines: dict[int, int] = {}
        self._reckoned = 0
        """Those whose lines are known."""

    @property
    def person(self) -> Travelling:
        if self._person is None:
            self._person = travelling(self._facts)
        return self._person

    def known(self, among: int) -> int:
        """Those of which it is known how far away they are."""
        remote = among & self._whereabouts.remote
        return remote if self.person.point is None else remote | among & self._whereabouts.placed

    def lines(self, among: int) -> tuple[list[int], list[int]]:
        """The slots of those that have places, ascending, and the square of the straight line to the nearest place of each; none where the
        person's is not known."""
        lines = self._lines_to(among)
        if not lines:
            return [], []
        slots = members(among)
        return slots, [lines[slot] for slot in slots]

    def beyond(self, among: int, line: int) -> int:
        """Those of them to whose nearest place the straight line is longer than one with this square."""
        return among & made_of([slot for slot, own in self._lines_to(among).items() if own > line])

    def _lines_to(self, among: int) -> dict[int, int]:
        """The lines to at least these."""
        at = self.person.point
        if at is not None and without(among, self._reckoned):
            for services in (*self._together, among):
                placed = services & self._whereabouts.placed
                if without(placed, self._reckoned):
                    self._lines.update(self._whereabouts.lines_from(at, placed))
                    self._reckoned |= placed
        return self._lines

    def to(self, slot: int) -> int | None:
        """Metres; None where that is not known."""
        return distance(self.person, self._whereabouts.reached[slot])


def _long(numbers: Sequence[int]) -> int:
    return _joined([max(0, one) for one in numbers]) - _joined([max(0, -one) for one in numbers])


def _joined(numbers: Iterable[int]) -> int:
    return int.from_bytes(b"".join([number.to_bytes(_LANE, "little") for number in numbers]), "little")
