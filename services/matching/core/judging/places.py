"""How full every service is, of all services at once, and how far that can be trusted.

Whoever changes a place says so, and the numbers are made anew before they are looked at. By service, in the order of slots: whether a place
is free; load; when the places that would be offered were counted; how reliably it answers. The same lines make the digest, in blocks, so
that a change costs no more than its block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from referral_bus.contracts.reference import TrustStep
from services.matching.core.judging.bitmaps import Column, at_most, planes_of
from services.matching.core.judging.catalogue import Catalogue

HOUR_MS: Final = 3_600_000
_LATEST_HOUR: Final = (1 << 21) - 1
"""Hours since 1970 that a count can have: until the year 2209."""
_BLOCK: Final = 64


class Reliability(NamedTuple):
    """How a service answered what was offered to it with a place it said it had."""

    kept: int = 0
    broken: int = 0


class Counted(Protocol):
    """A unit's places (:class:`~services.matching.core.state.Unit`)."""

    total: int
    counted_at: int

    @property
    def used(self) -> int: ...

    @property
    def free(self) -> int: ...


def load(used: int, total: int) -> int:
    """Places in use, held or doubted, per thousand of all."""
    return 1000 * used // total if total else 1000


def unreliability(one: Reliability) -> int:
    """How often a place was not there that the service had said it had, per thousand. Who was never asked is taken to be as reliable as
    not, and each answer moves that the less, the more there were."""
    return (one.broken + 1) * 1000 // (one.kept + one.broken + 2)


def number_counted(at: int) -> int:
    """The number of a count of places that was made then: hours of the clock from it to a moment in the far future, so that the newest
    is the least."""
    return max(0, _LATEST_HOUR - at // HOUR_MS)


class Places:
    """The numbers. ``free`` is the set of services with a free place."""

    __slots__ = (
        "_blocks",
        "_changed",
        "_distrust",
        "_lines",
        "_stale",
        "counted",
        "free",
        "load",
        "unreliability",
    )

    def __init__(self) -> None:
        self.free = 0
        self.load = Column()
        self.counted = Column()
        """The count of each service's unit that has the most free places, which is the one that is offered; the latest of all where none is
        free (:func:`number_counted`)."""
        self.unreliability = Column()
        self._changed: set[str] = set()
        self._lines: list[bytes] = []
        self._blocks: list[bytes] = []
        self._stale: set[int] = set()
        self._distrust: tuple[object, list[int]] = (None, [])

    def change(self, service: str) -> None:
        """Something that is told here of the service has changed, or may have."""
        self._changed.add(service)

    def refresh(
        self, catalogue: Catalogue, units: Mapping[str, Counted], reliability: Mapping[str, Reliability]
    ) -> None:
        """Take in what has changed."""
        for service in self._changed | catalogue.renewed:
            slot = catalogue.slot(service)
            if not catalogue.is_active(service):
                self._say(slot, b"")
                continue
            own = [units[unit] for unit in catalogue.profile(slot).units]
            self._put(slot, service, own, reliability.get(service, _NEVER_ASKED))
        self._changed.clear()
        catalogue.renewed.clear()

    def _put(self, slot: int, service: str, units: Sequence[Counted], answered: Reliability) -> None:
        total = used = latest = offered = most = 0
        for unit in units:
            total += unit.total
            used += unit.used
            latest = max(latest, unit.counted_at)
            if unit.free > most:
                most, offered = unit.free, unit.counted_at
        free = most > 0
        if free is not bool(self.free >> slot & 1):
            self.free ^= 1 << slot
        full, counted = load(used, total), number_counted(offered if free else latest)
        self.load.put(slot, full)
        self.counted.put(slot, counted)
        unreliable = unreliability(answered)
        self.unreliability.put(slot, unreliable)
        self._say(slot, f"{service} {free:d} {full} {counted} {unreliable}\n".encode())

    def _say(self, slot: int, line: bytes) -> None:
        while len(self._lines) <= slot:
            self._stale.add(len(self._lines) // _BLOCK)
            self._lines.append(b"")
        if line != self._lines[slot]:
            self._lines[slot] = line
            self._stale.add(slot // _BLOCK)

    def distrust(self, trust: Sequence[TrustStep], now: int) -> list[int]:
        """How little each count of places is believed, by its age, in thousandths, as planes."""
        steps = tuple([(step.hours, step.thousandths) for step in trust])
        key = (steps, now // HOUR_MS, self.counted.changes, len(self.counted.numbers))
        if self._distrust[0] != key:
            self._distrust = key, planes_of(self._by_distrust(steps, now))
        return self._distrust[1]

    def _by_distrust(self, steps: Sequence[tuple[int, int]], now: int) -> Iterator[tuple[int, int]]:
        left = (1 << len(self.counted.numbers)) - 1
        for hours, thousandths in reversed(steps):
            younger = at_most(self.counted.planes, left, number_counted(now) + hours - 1)
            yield left ^ younger, 1000 - thousandths
            left = younger

    def digest(self) -> bytes:
        """SHA-256 over the SHA-256 of each block of 64 lines; the line of a service that is not active is empty."""
        for block in self._stale:
            while len(self._blocks) <= block:
                self._blocks.append(b"")
            lines = self._lines[block * _BLOCK : (block + 1) * _BLOCK]
            self._blocks[block] = sha256(b"".join(lines)).digest()
        self._stale.clear()
        return sha256(b"".join(self._blocks)).digest()


_NEVER_ASKED: Final = Reliability()
