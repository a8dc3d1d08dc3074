"""How far it is from a person to services: the straight lines to all of them at once.

Where services are is kept as long whole numbers with a number of 64 bits for each slot. The square of the line from a place ``p`` to
another ``a`` is ``a.a + p.p - 2 a.p``: one long number has what is known of it without ``p``, three have what each coordinate of ``p`` is
multiplied with, and their sum has the lines to all services. None of its numbers is below zero or longer than its 64 bits, so that it
can be taken apart again.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Final

from referral_bus.contracts.facts import Facts
from services.matching.core.judging.bitmaps import members
from services.matching.core.judging.reach import (
    Point,
    Reaching,
    Travelling,
    distance,
    straight,
    travelling,
)

_LANE: Final = 64
"""Bits for each slot."""
_MORE: Final = 1 << 61
"""What each number is larger by, so that none is below zero: twice the square of a radius of 2^29, and to spare."""


class Whereabouts:
    """Where services are, by slot."""

    __slots__ = ("_lanes", "_without", "_x", "_y", "_z", "placed", "reached", "remote", "several")

    def __init__(self) -> None:
        self.reached: dict[int, Reaching] = {}
        """How the service in each slot is reached."""
        self.remote = self.placed = self.several = 0
        """Those that are given from afar; of the others those of which it is known where they are; of these those that have several
        places."""
        self._without = self._x = self._y = self._z = 0
        self._lanes = 0

    def put(self, slot: int, reaching: Reaching | None) -> None:
        """Take in how a service is reached from now on; None for one that is active no longer."""
        former = self.reached.pop(slot, None)
        if former is not None:
            self._turn(slot, former, -1)
        if reaching is not None:
            self.reached[slot] = reaching
            self._turn(slot, reaching, 1)

    def _turn(self, slot: int, reaching: Reaching, sign: int) -> None:
        bit = 1 << slot
        if reaching.remote:
            self.remote ^= bit
            return
        if not reaching.points:
            return
        self.placed ^= bit
        if len(reaching.points) > 1:
            self.several ^= bit
        self._lanes = max(self._lanes, slot + 1)
        x, y, z = reaching.points[0]
        at = _LANE * slot
        self._without += sign * (x * x + y * y + z * z + _MORE) << at
        self._x -= sign * 2 * x << at
        self._y -= sign * 2 * y << at
        self._z -= sign * 2 * z << at

    def lines_from(self, person: Point) -> tuple[Sequence[int], int]:
        """The square of the straight line to the first place of the service in each slot, of those that are placed: the number of each,
        and what is to be added to it."""
        x, y, z = person
        lines = self._without + self._x * x + self._y * y + self._z * z
        each = array("Q", lines.to_bytes(_LANE // 8 * self._lanes, "little"))
        if sys.byteorder == "big":
            each.byteswap()
        return each, x * x + y * y + z * z - _MORE


class Distances:
    """How far it is from the person to services. Reckoned once, when it is asked for."""

    __slots__ = ("_facts", "_lines", "_person", "_whereabouts")

    def __init__(self, whereabouts: Whereabouts, facts: Facts) -> None:
        self._whereabouts = whereabouts
        self._facts = facts
        self._person: Travelling | None = None
        self._lines: tuple[Sequence[int], int] | None = None

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
        at = self.person.point
        if at is None or not among:
            return [], []
        if self._lines is None:
            self._lines = self._whereabouts.lines_from(at)
        first, more = self._lines
        slots = members(among)
        lines = [first[slot] + more for slot in slots]
        if among & self._whereabouts.several:
            for place, slot in enumerate(slots):
                points = self._whereabouts.reached[slot].points
                lines[place] = min([lines[place], *[straight(at, other) for other in points[1:]]])
        return slots, lines

    def to(self, slot: int) -> int | None:
        """Metres; None where that is not known."""
        return distance(self.person, self._whereabouts.reached[slot])
