"""In which order eligible services are offered to: by the policy's parts, first to last, lower is better, then the lottery.

Every part is a whole number, so an order is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Final

from referral_bus.contracts.reference import Policy, RankBy

_HOUR_MS: Final = 3_600_000
_OLDEST_HOURS: Final = 24 * 90
_LOTTERY_BYTES: Final = 6

_PARTS: Final[tuple[RankBy, ...]] = ("certainty", "needs_covered", "load", "freshness")


def load(used: int, total: int) -> int:
    """Places in use or held, per thousand of all."""
    return 1000 * used // total if total else 1000


def hours_since(counted_at: int, now: int) -> int:
    """Whole hours since the places were counted, 90 days at most."""
    hours = (now - counted_at) // _HOUR_MS
    # Not min and max: it is asked for every candidate.
    return 0 if hours < 0 else hours if hours < _OLDEST_HOURS else _OLDEST_HOURS


def places_of(policy: Policy) -> tuple[int, ...]:
    """Which parts of (unknown verdicts, needs left unmet, load, hours since the count) the policy ranks by, in its order.

    What it names behind the lottery can't matter.
    """
    return _places(tuple(policy.rank_by))


@lru_cache(maxsize=256)
def _places(rank_by: tuple[RankBy, ...]) -> tuple[int, ...]:
    named = rank_by[: rank_by.index("lottery")] if "lottery" in rank_by else rank_by
    return tuple(_PARTS.index(by) for by in named)


def picking(places: tuple[int, ...]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """What takes a rank out of these parts: the fastest there is, since it is done for every candidate."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda parts: tuple([parts[place] for place in places])


def lottery(seed: str, referral: str) -> Callable[[str], int]:
    """The draw of a referral: the lot of each service, from SHA-256 over seed, referral and service. Anyone who has the published seed
    draws the same."""
    drawing = hashlib.sha256(f"{seed}\0{referral}\0".encode())

    def draw(service: str) -> int:
        drawn = drawing.copy()
        drawn.update(service.encode())
        return int.from_bytes(drawn.digest()[:_LOTTERY_BYTES], "big")

    return draw
