"""In which order eligible services are offered to: by the policy's parts, first to last, lower is better, then the lottery.

Every part is a whole number, so an order is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
    return min(_OLDEST_HOURS, max(0, now - counted_at) // _HOUR_MS)


def places_of(policy: Policy) -> tuple[int, ...]:
    """Which parts of (unknown verdicts, needs left unmet, load, hours since the count) the policy ranks by, in its order.

    What it names behind the lottery can't matter.
    """
    named = (
        policy.rank_by[: policy.rank_by.index("lottery")] if "lottery" in policy.rank_by else policy.rank_by
    )
    return tuple(_PARTS.index(by) for by in named)


def lottery(seed: str, referral: str) -> Callable[[str], int]:
    """The draw of a referral: the lot of each service, from SHA-256 over seed, referral and service. Anyone who has the published seed
    draws the same."""
    drawing = hashlib.sha256(f"{seed}\0{referral}\0".encode())

    def draw(service: str) -> int:
        drawn = drawing.copy()
        drawn.update(service.encode())
        return int.from_bytes(drawn.digest()[:_LOTTERY_BYTES], "big")

    return draw
