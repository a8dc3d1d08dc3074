"""Reach and hours judged service by service, in words: what the sets that matching judges by are held against."""

from __future__ import annotations

from referral_bus.contracts.places import Travel
from services.matching.core.judging.letters import Letter
from services.matching.core.judging.opening import Opening, opens_at
from services.matching.core.judging.reach import FARTHEST_M, WAYS


def judge_reach(
    away: int | None, travel: Travel | None, comes: int | None, furthest: dict[Travel, int]
) -> Letter:
    """Whether a distance is within reach, if the person goes or the provider comes.

    Who travels how nobody knows reaches what a person on any way reaches, and may reach what a person on some way does. A way without a
    limit goes any distance.
    """
    if away is None:
        return "y" if travel is not None and travel not in furthest else "u"
    if comes is not None and (away <= comes or comes >= FARTHEST_M):
        return "y"
    if travel is not None:
        return "y" if away <= furthest.get(travel, away) else "n"
    ways = [away <= furthest.get(way, away) for way in WAYS]
    return "y" if all(ways) else "u" if any(ways) else "n"


def judge_hours(service: Opening | None, at: int, until: int) -> Letter:
    """Whether the service is open at some time from ``at`` to ``until``; unknown where it doesn't say."""
    if service is None:
        return "u"
    opens = opens_at(service, at)
    return "y" if opens is not None and opens <= until else "n"
