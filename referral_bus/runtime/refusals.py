"""Whose submissions are refused most, without a metric for each organisation: a number for the alert, a line in the log for the name."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from referral_bus.runtime import metrics

logger = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 600.0
TOLD_FROM: Final = 50
"""So many refusals in a window are told in the log, once a window and organisation."""
_PARTS: Final = 10


class MostRefused:
    """Counts refusals by organisation in the last ten minutes, to a minute. ``where`` they are refused: border or ledger."""

    def __init__(self, where: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._where = where
        self._total: Counter[str] = Counter()
        self._parts: deque[tuple[int, Counter[str]]] = deque()
        self._told: dict[str, int] = {}
        metrics.REFUSED_BY_ONE.labels(where=where).set_function(self.most)

    def add(self, organisation: str, reason: str) -> None:
        """One more refusal."""
        part = self._let_go()
        if not self._parts or self._parts[-1][0] != part:
            self._parts.append((part, Counter()))
        self._parts[-1][1][organisation] += 1
        self._total[organisation] += 1
        if self._total[organisation] >= TOLD_FROM and organisation not in self._told:
            self._told[organisation] = part
            logger.warning(
                "%s had %d submissions refused in ten minutes (%s), the last as %s",
                organisation,
                self._total[organisation],
                self._where,
                reason,
            )

    def most(self) -> int:
        """The refusals of the organisation that has the most."""
        self._let_go()
        return max(self._total.values(), default=0)

    def _let_go(self) -> int:
        """Forget what is older than the window; returns the part of it that is now."""
        now = int(self._monotonic() // (WINDOW_SECONDS / _PARTS))
        while self._parts and self._parts[0][0] <= now - _PARTS:
            self._total -= self._parts.popleft()[1]
        self._told = {name: part for name, part in self._told.items() if part > now - _PARTS}
        return now
