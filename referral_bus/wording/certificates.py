"""A match in sentences for a caseworker: what was considered, what ruled services out, who came first and why, and what was near.

Everything said here stands in the certificate; the facts themselves are not needed and not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from referral_bus.contracts.certificates import (
    ALREADY_OFFERED,
    CRITERIA,
    JUDGED,
    NOT_IN_SIGHT,
    NOT_NAMED,
    NOT_SCREENED,
    SCREENED,
    UNKNOWN,
)
from referral_bus.contracts.ledger import Certificate, Judged
from referral_bus.contracts.reference import RankBy

_RULED_OUT: Final = {
    ALREADY_OFFERED: "had been asked before",
    NOT_NAMED: "are not the one that was named",
    "need": "don't offer what is needed",
    "area": "don't serve the area",
    "age": "don't serve the age",
    "language": "don't serve the language",
    "criteria": "are for others",
    "reach": "are out of reach",
    "hours": "don't open in time",
    "capacity": "had no free place",
    NOT_SCREENED: "take nobody about whom something is unknown",
}
_MISSING: Final = {
    "area": "it doesn't serve the area",
    "age": "it doesn't serve the age",
    "language": "it doesn't serve the language",
    "criteria": "it is for others",
    "reach": "it is out of reach",
    "hours": "it doesn't open in time",
    "capacity": "it had no free place",
}
_WANTED: Final = {
    "area": "it served the area",
    "age": "it served the person's age",
    "language": "it served a language of the person's",
    "reach": "it were within reach",
    "hours": "it opened sooner",
    "capacity": "it had a free place",
}
_KINDS: Final = {
    "age": "the age",
    "area": "the area",
    "language": "the language",
    "household_size": "the size of the household",
    "children": "the number of children",
    "income": "the household's income",
    "trait": "the person's situation",
    "document": "the papers the person has",
    "cost": "what the person can pay",
}


class Scoring(NamedTuple):
    """What a policy says of the parts of a score: what each is, in order, and whether it trusts a count of places by its age."""

    rank_by: Sequence[RankBy]
    trusts: bool


def match_in_words(
    certificate: Certificate, service: str | None, scoring: Scoring | None, name: Callable[[str], str]
) -> list[str]:
    """A match, a line a sentence. ``service``: the one that was found, if any was. ``scoring``: its policy's, where that is known. ``name``
    gives a service's name."""
    lines = [_considered(certificate)]
    if service is None:
        lines.append("No service could take it.")
        if _none_is_coded(certificate):
            lines.append(
                "No service here is coded with what is needed, nor with what stands for it in another vocabulary: "
                "look whether the need has the right code."
            )
    elif certificate.in_window:
        lines.append(
            f"It was decided together with the others of its window, which left {name(service)} to it."
        )
    for rank, judged in enumerate(certificate.best, 1):
        # What a window left may come anywhere behind the best, and then stands last.
        anywhere = certificate.in_window and judged.service == service and rank == len(certificate.best) > 1
        place = "Left by the window:" if anywhere else f"{rank}."
        lines.append(f"{place} {name(judged.service)}: {_why(judged, scoring)}")
    return lines + [f"Near miss: {name(judged.service)}: {_why_not(judged)}" for judged in certificate.misses]


def own_in_words(
    certificate: Certificate,
    scoring: Scoring | None,
    name: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> list[str]:
    """What a match says of a reader's own services, and nothing of how many others there were or how they stood."""
    best = [f"{name(one.service)}: {_why(one, scoring)}" for one in certificate.best if is_own(one.service)]
    return best + [
        f"Near miss: {name(one.service)}: {_why_not(one)}"
        for one in certificate.misses
        if is_own(one.service)
    ]


def _none_is_coded(certificate: Certificate) -> bool:
    """Whether the needs alone ruled everybody out, so that there is no near miss either."""
    return (
        0
        < certificate.considered
        == sum(one.services for one in certificate.eliminated if one.criterion == "need")
    )


def _considered(certificate: Certificate) -> str:
    ruled_out = [
        f"{one.services} {_RULED_OUT.get(one.criterion, one.criterion)}" for one in certificate.eliminated
    ]
    left = certificate.considered - sum(one.services for one in certificate.eliminated)
    parts = "; ".join(ruled_out)
    return (
        f"of {certificate.considered} services, {parts + '; ' if parts else ''}{left} could take it "
        f"(policy {certificate.policy} {certificate.policy_version})."
    )


def _why(judged: Judged, scoring: Scoring | None) -> str:
    """The score in the policy's own order: why this place and no other."""
    unknown = _with(judged, "unknown")
    said = [_unknown_is(judged, unknown) if unknown else "nothing is unknown"]
    if judged.mapping is not None:
        said.append(f"found by {judged.mapping}, {_percent(judged.confidence)} sure")
    rank_by, trusts = scoring or ((), False)
    for by, part in zip(rank_by, judged.score, strict=False):
        words = _part(by, part, trusts)
        if words is not None:
            said.append(words)
    return ", ".join(said) + "."


def _part(by: RankBy, part: int, trusted: bool) -> str | None:
    """A part of a score in words; None for what is said otherwise, or means nothing."""
    match by:
        case "needs_covered" if part:
            return f"{part} of the needs not met there"
        case "wait":
            return _wait(part)
        case "reach":
            return "unknown how far away" if part == UNKNOWN else f"{part / 10:.1f} km away"
        case "language" if part == 1:
            return "no language of the person's is named there, but served"
        case "load":
            return f"{_percent(part)} of its places in use, held or in doubt"
        case "freshness" if trusted:
            return f"its count of places is believed {_percent(1000 - part)}"
        case "freshness":
            return f"places counted {part} h before" if part > 0 else "places counted within the hour"
        case "reliability":
            return f"{_percent(1000 - part)} reliable"
        case "lottery":
            return f"lot {part}"
    return None


def _wait(minutes: int) -> str:
    if minutes == UNKNOWN:
        return "unknown when it opens"
    if minutes == NOT_IN_SIGHT:
        return "not open in the next months"
    return f"opens in {minutes} min" if minutes else "open"


def _why_not(judged: Judged) -> str:
    """What would have to be otherwise: the one thing, where it is one."""
    no, unknown = _with(judged, "no"), _with(judged, "unknown")
    uncertain = [name for name in unknown if name in JUDGED[:SCREENED]]
    if not no:
        return (
            f"{_unknown_is(judged, uncertain)}, and it doesn't screen people itself. "
            f"It would take the person if that were known, and as it asks."
        )
    if len(no) > 1:
        return " and ".join(_MISSING.get(name, name) for name in no) + "."
    wanted = _wanted(judged, no[0])
    if uncertain:
        return f"it might take the person if {wanted}; {_unknown_is(judged, uncertain)}."
    return f"it would take the person if {wanted}."


def _wanted(judged: Judged, criterion: str) -> str:
    if criterion != "criteria":
        return _WANTED.get(criterion, criterion)
    kinds = [_KINDS.get(kind, kind) for kind in judged.because]
    if len(kinds) > 1:
        # Whether one of them would do is in the service's criteria, not in the certificate.
        return f"it were otherwise with {', '.join(kinds[:-1])} or {kinds[-1]}, as it asks"
    return f"{kinds[0] if kinds else 'the person'} met what it asks"


def _unknown_is(judged: Judged, unknown: Sequence[str]) -> str:
    words: list[str] = []
    for name in unknown:
        words += judged.because if name == "criteria" and judged.because else [name]
    said = [_KINDS.get(word, f"the {word}") for word in dict.fromkeys(words)]
    return f"unknown is {' and '.join(said)}"


def _with(judged: Judged, verdict: str) -> list[str]:
    return [name for name, one in zip(CRITERIA, judged.verdicts, strict=False) if one == verdict]


def _percent(thousandths: int) -> str:
    return f"{thousandths / 10:.0f} %"
