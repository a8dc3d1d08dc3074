"""A bounded memory of data keys that honours destruction.

A key is remembered for a short time only: destruction by another process is noticed when that time is over at the latest, and at once
where the process reads the ledger and calls ``forget`` on each ``KeyDestroyed``. A tombstone is final, so it does not age.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from referral_bus.sealing.port import DESTROYED, Destroyed, Section


class KeyCache:
    """Least recently used first out. ``seconds`` is the longest a key is believed without asking the store."""

    def __init__(self, size: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._size = size
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries: OrderedDict[tuple[str, Section], tuple[float, bytes | Destroyed]] = OrderedDict()
        self.forgotten = 0
        """Counts destructions, so that an answer that was under way meanwhile is not remembered."""

    def get(self, subject: str, section: Section) -> bytes | Destroyed | None:
        entry = self._entries.get((subject, section))
        if entry is None:
            return None
        until, key = entry
        if key is not DESTROYED and until <= self._monotonic():
            del self._entries[subject, section]
            return None
        self._entries.move_to_end((subject, section))
        return key

    def put(self, subject: str, section: Section, key: bytes | Destroyed) -> None:
        self._entries[subject, section] = (self._monotonic() + self._seconds, key)
        self._entries.move_to_end((subject, section))
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def forget(self, subject: str) -> None:
        self.forgotten += 1
        for section in ("facts", "identity"):
            self._entries.pop((subject, section), None)
