"""Sets of services as whole numbers: bit ``n`` is the service in slot ``n``. What is asked of thousands is asked of all at once.

A number of each service is a column of such sets, its planes: plane ``n`` has the services whose number has bit ``n``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

Planes: TypeAlias = Sequence[int]

_FEW: Final = 16
"""So many members are found sooner one by one."""


def members(of: int) -> list[int]:
    """The slots of a set, ascending."""
    if of.bit_count() <= _FEW:
        slots = []
        while of:
            lowest = of & -of
            slots.append(lowest.bit_length() - 1)
            of ^= lowest
        return slots
    # Whoever is between two members is passed over at once: so many zeros before each one.
    between = map(len, bin(of)[:1:-1].split("1")[:-1])
    return [before + zeros for before, zeros in enumerate(accumulate(between))]


def made_of(slots: Sequence[int]) -> int:
    """The set of these slots. (Not bit by bit: of thousands of services each would make a new whole number.)"""
    if not slots:
        return 0
    bits = bytearray((max(slots) >> 3) + 1)
    for slot in slots:
        bits[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(bits, "little")


def without(of: int, others: int) -> int:
    """The members of a set that are not among the others. (Not ``of & ~others``: below zero, whole numbers are slow.)"""
    return of ^ (of & others)


def tally(sets: Iterable[int]) -> list[int]:
    """In how many of the sets each service is, as planes."""
    planes: list[int] = []
    for carry in sets:
        for place, plane in enumerate(planes):
            if not carry:
                break
            planes[place] = plane ^ carry
            carry &= plane
        if carry:
            planes.append(carry)
    return planes


def planes_of(numbers: Iterable[tuple[int, int]]) -> list[int]:
    """The planes of each set's number; the sets have no member in common."""
    planes: list[int] = []
    for members_, number in numbers:
        if not members_:
            continue
        while len(planes) < number.bit_length():
            planes.append(0)
        for place in _ones_of(number):
            planes[place] |= members_
    return planes


@lru_cache(maxsize=4096)
def _ones_of(number: int) -> Sequence[int]:
    """The places of its bits."""
    return members(number)


class Least(NamedTuple):
    """Who has the least numbers: those that are among them for sure, and those of which some are, all having the same numbers."""

    sure: int
    tied: int


class Numbers(NamedTuple):
    """A number of each service where nearly everyone's is another, so that planes would be dearer than they are worth: of ``each`` by its
    slot, and ``other`` of the rest. Where there are ``starts`` of bands, only the bands are compared."""

    each: Mapping[int, int]
    other: int
    starts: Sequence[int] = ()

    def of(self, slot: int) -> int:
        """The number of the one in a slot."""
        return self.each.get(slot, self.other)

    def in_bands(self, starts: Sequence[int]) -> Numbers:
        """The same, compared by how many of the ``starts`` are no larger."""
        return Numbers(self.each, self.other, starts)

    def least(self, among: int, most: int) -> Least:
        """The ``most`` members with the least numbers, or in the least bands, of more than so many."""
        if not self.each:
            return Least(0, among)
        slots, each, other, starts = members(among), self.each, self.other, self.starts
        numbers = [each.get(slot, other) for slot in slots]
        if starts:
            numbers = [bisect_right(starts, number) for number in numbers]
        bound = sorted(numbers)[most - 1]
        return Least(
            made_of([slot for slot, number in zip(slots, numbers, strict=True) if number < bound]),
            made_of([slot for slot, number in zip(slots, numbers, strict=True) if number == bound]),
        )


def numbering(planes: Planes) -> Callable[[int], int]:
    """What tells a service's number by its slot."""
    if not planes:
        return lambda _: 0
    if len(planes) == 1:
        [plane] = planes
        return lambda slot: plane >> slot & 1
    if len(planes) == 2:
        low, high = planes
        return lambda slot: (low >> slot & 1) + 2 * (high >> slot & 1)
    return lambda slot: sum([(plane >> slot & 1) << place for place, plane in enumerate(planes)])


def least(columns: Iterable[Planes | Numbers], among: int, most: int) -> Least:
    """The ``most`` (at least one) members with the least numbers, the first column deciding before the second and so on."""
    sure, tied, left, open_ = 0, among, most, among.bit_count()
    for column in columns:
        if open_ <= left:
            return Least(sure | tied, 0)
        if isinstance(column, Numbers):
            nearer, tied = column.least(tied, left)
            sure, left, open_ = sure | nearer, left - nearer.bit_count(), tied.bit_count()
            continue
        for plane in reversed(column):
            high = tied & plane
            if not high:
                continue
            low = tied ^ high
            count = low.bit_count()
            if count > left:
                tied, open_ = low, count
            elif count == left:
                return Least(sure | low, 0)
            elif count:
                sure, tied, left, open_ = sure | low, high, left - count, open_ - count
    return Least(sure | tied, 0) if open_ <= left else Least(sure, tied)


def at_most(planes: Planes, among: int, bound: int) -> int:
    """The members whose number is no larger than the bound."""
    if bound < 0:
        return 0
    if bound.bit_length() > len(planes):
        return among
    below, equal = 0, among
    for place in range(len(planes) - 1, -1, -1):
        has = equal & planes[place]
        if bound >> place & 1:
            below |= equal ^ has
            equal = has
        else:
            equal ^= has
    return below | equal


class Column:
    """A number of each service, no less than 0, that changes now and then."""

    __slots__ = ("_bands", "_starts", "changes", "numbers", "planes")

    def __init__(self) -> None:
        self.planes: list[int] = []
        self.numbers = array("q")
        self.changes = 0
        """How often a number was changed: as long as this is the same, so is the column."""
        self._starts: Sequence[int] = ()
        self._bands: Column | None = None
        """Each number's band, once somebody has asked for it, and where the bands begin."""

    def put(self, slot: int, number: int) -> None:
        """Change a service's number."""
        while len(self.numbers) <= slot:
            self.numbers.append(0)
        changed = self.numbers[slot] ^ number
        if not changed:
            return
        self.numbers[slot] = number
        self.changes += 1
        if self._bands is not None:
            self._bands.put(slot, bisect_right(self._starts, number))
        while len(self.planes) < changed.bit_length():
            self.planes.append(0)
        bit = 1 << slot
        for place in members(changed):
            self.planes[place] ^= bit

    def in_bands(self, starts: Sequence[int]) -> Planes:
        """Each number's band: how many of the ``starts`` are no larger. They change as the numbers do."""
        if self._bands is None or self._starts != starts:
            self._starts, self._bands = starts, Column()
            for slot, number in enumerate(self.numbers):
                self._bands.put(slot, bisect_right(starts, number))
        return self._bands.planes
