"""When a failed delivery is tried again. Pure, but for the random number that is given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile


def pause(attempts: int, first_ms: int, longest_ms: int, chance: float) -> int:
    """Milliseconds to wait after the ``attempts``-th failure: doubling from ``first_ms`` up to ``longest_ms``, of which the
    upper half is left to ``chance`` (0 up to 1), so that those who failed together don't come back together."""
    whole = min(longest_ms, first_ms << min(attempts - 1, 40))
    return round(whole / 2 + whole / 2 * chance)


def retry(
    now: int,
    enqueued_at: Sequence[int],
    attempts: int,
    *,
    first_ms: int,
    longest_ms: int,
    give_up_ms: int,
    chance: float,
) -> tuple[int, int]:
    """How many of these, which are in order, are given up from the first on, and when the others are tried again, in epoch milliseconds.
    One is given up where its time for trying is over by then."""
    due = now + pause(attempts, first_ms, longest_ms, chance)
    return sum(1 for _ in takewhile(lambda at: at + give_up_ms < due, enqueued_at)), due
