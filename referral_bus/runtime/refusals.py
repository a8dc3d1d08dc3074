"""Whose submissions are refused most, without a metric for each organisation: numbers for the alerts, a line in the log for the name.

Two numbers, since organisations differ in size: one that sends by the minute has many refused in ten minutes, and of one that sends a few a
day nobody would hear by that, though none of them is taken.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from referral_bus.runtime import metrics

logger = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 600.0
TOLD_FROM: Final = 50
"""So many refusals in a window are told in the log, once a window and organisation."""
TOLD_IN_A_ROW: Final = 10
"""So many refusals one after the other are told in the log, once a row."""
ROW_SECONDS: Final = 2 * 86_400.0
"""A row to which nothing was added for so long is forgotten: its organisation sends no more, or to another process."""
_PARTS: Final = 10


class _Row(NamedTuple):
    refused: int
    last: float


class MostRefused:
    """Counts refusals by organisation: in the last ten minutes, to a minute, and one after the other, with nothing taken between.
    ``where`` they are refused: border or ledger."""

    def __init__(self, where: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._where = where
        self._total: Counter[str] = Counter()
        self._parts: deque[tuple[int, Counter[str]]] = deque()
        self._told: dict[str, int] = {}
        self._rows: dict[str, _Row] = {}
        metrics.REFUSED_BY_ONE.labels(where=where).set_function(self.most)
        metrics.REFUSED_IN_A_ROW.labels(where=where).set_function(self.longest)

    def add(self, organisation: str, reason: str) -> None:
        """One more refusal."""
        part = self._let_go()
        if not self._parts or self._parts[-1][0] != part:
            self._parts.append((part, Counter()))
        self._parts[-1][1][organisation] += 1
        self._total[organisation] += 1
        if self._total[organisation] >= TOLD_FROM and organisation not in self._told:
            self._told[organisation] = part
            self._tell(organisation, self._total[organisation], "in ten minutes", reason)
        row = self._rows.get(organisation)
        refused = 1 if row is None else row.refused + 1
        self._rows[organisation] = _Row(refused, self._monotonic())
        if refused == TOLD_IN_A_ROW:
            self._tell(organisation, refused, "one after the other", reason)

    def taken(self, organisation: str) -> None:
        """A submission of it was not refused."""
        self._rows.pop(organisation, None)

    def most(self) -> int:
        """The refusals in ten minutes of the organisation that has the most."""
        self._let_go()
        return max(self._total.values(), default=0)

    def longest(self) -> int:
        """The refusals one after the other of the organisation that has the most."""
        since = self._monotonic() - ROW_SECONDS
        self._rows = {name: row for name, row in self._rows.items() if row.last > since}
        return max((row.refused for row in self._rows.values()), default=0)

    def _tell(self, organisation: str, refused: int, how: str, reason: str) -> None:
        logger.warning(
            "%s had %d submissions refused %s (%s), the last as %s",
            organisation,
            refused,
            how,
            self._where,
            reason,
        )

    def _let_go(self) -> int:
        """Forget what is older than the window; returns the part of it that is now."""
        now = int(self._monotonic() // (WINDOW_SECONDS / _PARTS))
        while self._parts and self._parts[0][0] <= now - _PARTS:
            self._total -= self._parts.popleft()[1]
        self._told = {name: part for name, part in self._told.items() if part > now - _PARTS}
        return now
