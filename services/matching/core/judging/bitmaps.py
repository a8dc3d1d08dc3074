"""Sets of services as whole numbers: bit ``n`` is the service in slot ``n``. What is asked of thousands is asked of all at once.

A number of each service is a column of such sets, its planes: plane ``n`` has the services whose number has bit ``n``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple


def members(of: int) -> Iterator[int]:
    """The slots of a set, ascending."""
    bits = bin(of)[:1:-1]
    at = bits.find("1")
    while at >= 0:
        yield at
        at = bits.find("1", at + 1)


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
        while len(planes) < number.bit_length():
            planes.append(0)
        while number:
            lowest = number & -number
            planes[lowest.bit_length() - 1] |= members_
            number ^= lowest
    return planes


class Numbers(NamedTuple):
    """A number of each service of a set: of ``sets`` that have the same one, and of ``each`` other by its slot. Of the rest it is 0."""

    sets: Sequence[tuple[int, int]]
    each: Mapping[int, int]

    def of(self, slot: int) -> int:
        """The number of the one in a slot."""
        number = self.each.get(slot)
        if number is None:
            number = next((number for services, number in self.sets if services >> slot & 1), 0)
        return number

    def planes(self) -> list[int]:
        planes = planes_of(self.sets)
        if not self.each:
            return planes
        having: list[list[int]] = [[] for _ in range(max(self.each.values()).bit_length())]
        for slot, number in self.each.items():
            for place in _ones(number):
                having[place].append(slot)
        planes += [0] * (len(having) - len(planes))
        for place, slots in enumerate(having):
            planes[place] |= made_of(slots)
        return planes

    def in_bands(self, starts: Sequence[int]) -> Numbers:
        """Each number's band: how many of the ``starts`` are no larger."""
        return Numbers(
            [(services, bisect_right(starts, number)) for services, number in self.sets],
            {slot: bisect_right(starts, number) for slot, number in self.each.items()},
        )


@lru_cache(maxsize=2048)
def _ones(number: int) -> tuple[int, ...]:
    return tuple(members(number))


def numbering(planes: Sequence[int]) -> Callable[[int], int]:
    """What tells a service's number by its slot."""
    if not planes:
        return lambda _: 0
    if len(planes) == 1:
        [plane] = planes
        return lambda slot: plane >> slot & 1
    return lambda slot: sum([(plane >> slot & 1) << place for place, plane in enumerate(planes)])


class Least(NamedTuple):
    """Who has the least numbers: those that are among them for sure, and those of which some are, all having the same numbers."""

    sure: int
    tied: int


def least(columns: Iterable[Sequence[int]], among: int, most: int) -> Least:
    """The ``most`` (at least one) members with the least numbers, the first column deciding before the second and so on."""
    sure, tied, left, open_ = 0, among, most, among.bit_count()
    for planes in columns:
        for plane in reversed(planes):
            if open_ <= left:
                return Least(sure | tied, 0)
            low = tied ^ (tied & plane)
            count = low.bit_count()
            if count >= left:
                tied, open_ = low, count
            elif count:
                sure, tied, left, open_ = sure | low, tied ^ low, left - count, open_ - count
    return Least(sure | tied, 0) if open_ <= left else Least(sure, tied)


def at_most(planes: Sequence[int], among: int, bound: int) -> int:
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

    __slots__ = ("changes", "numbers", "planes")

    def __init__(self) -> None:
        self.planes: list[int] = []
        self.numbers = array("q")
        self.changes = 0
        """How often a number was changed: as long as this is the same, so is the column."""

    def put(self, slot: int, number: int) -> None:
        """Change a service's number."""
        while len(self.numbers) <= slot:
            self.numbers.append(0)
        changed = self.numbers[slot] ^ number
        if not changed:
            return
        self.numbers[slot] = number
        self.changes += 1
        while len(self.planes) < changed.bit_length():
            self.planes.append(0)
        bit = 1 << slot
        for place in members(changed):
            self.planes[place] ^= bit
