"""Whether a service takes a person: yes, no or unknown for each criterion. Unknown is never silently yes or no.

A criterion nobody stated on the service's side (``None``) is unknown for everybody; a fact that is unknown or not said makes a criterion
unknown unless the service takes all (:data:`~services.matching.core.catalogue.ALL`). A verdict is one letter, so that a service's verdicts
are one short text: thousands are made every second.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.vocabulary import Verdict
from services.matching.core.catalogue import ALL, need_key

CRITERIA: Final = ("need", "area", "age", "language", "capacity")
"""The order of the verdicts in a certificate. ``need`` is always yes there: the index brings no others."""

Letter = Literal["y", "n", "u"]
WORDS: Final[dict[str, Verdict]] = {"y": "yes", "n": "no", "u": "unknown"}


class Person(NamedTuple):
    """The facts, ready to judge by; None where a fact is not stated."""

    needs: tuple[str, ...]
    area: str | None
    age: int | None
    languages: tuple[str, ...] | None


def person_of(facts: Facts) -> Person:
    """What of the facts is judged by."""
    return Person(
        needs=tuple(dict.fromkeys(need_key(need) for need in facts.needs)),
        area=facts.area.value,
        age=facts.age.value,
        languages=tuple(language.lower() for language in facts.languages.values) or None,
    )


def judge_area(served: frozenset[str] | None, area: str | None) -> Letter:
    if served is ALL:
        return "y"
    if served is None or area is None:
        return "u"
    return "y" if area in served else "n"


def judge_age(served: tuple[int, int] | None, age: int | None) -> Letter:
    if served is None:
        return "u"
    youngest, oldest = served
    if age is None:
        return "y" if youngest == 0 and oldest >= 150 else "u"
    return "y" if youngest <= age <= oldest else "n"


def judge_language(served: frozenset[str] | None, spoken: tuple[str, ...] | None) -> Letter:
    """One language in common is enough. A language serves its varieties and the other way round (``es``, ``es-mx``; RFC 4647)."""
    if served is ALL:
        return "y"
    if served is None or spoken is None:
        return "u"
    for language in spoken:
        if language in served:
            return "y"
    for language in spoken:
        for other in served:
            if other.startswith(f"{language}-") or language.startswith(f"{other}-"):
                return "y"
    return "n"
