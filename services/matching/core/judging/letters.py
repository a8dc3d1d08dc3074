"""A verdict as one letter, so that a service's verdicts are one short text: yes, no or unknown. Unknown is never silently yes or no."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from referral_bus.contracts.vocabulary import Verdict

Letter = Literal["y", "n", "u"]
WORDS: Final[dict[str, Verdict]] = {"y": "yes", "n": "no", "u": "unknown"}


def is_variety(one: str, other: str) -> bool:
    """Whether one of two languages is a variety of the other (``es``, ``es-mx``; RFC 4647)."""
    return one.startswith(f"{other}-") or other.startswith(f"{one}-")


def judge_language(served: Collection[str], spoken: tuple[str, ...] | None) -> Letter:
    """One language in common is enough. A language serves its varieties and the other way round."""
    if spoken is None:
        return "u"
    if any(language in served for language in spoken):
        return "y"
    return "y" if any(is_variety(language, other) for language in spoken for other in served) else "n"
