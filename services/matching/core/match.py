"""One match: which service a referral is offered to next, and the certificate that shows why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Certificate, Eliminated, Judged
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabulary import Verdict
from services.matching.core.catalogue import Profile
from services.matching.core.eligibility import (
    CRITERIA,
    WORDS,
    Person,
    judge_age,
    judge_area,
    judge_language,
    person_of,
)
from services.matching.core.ranking import hours_since, load, lottery, picking, places_of
from services.matching.core.state import Region, Unit

ALREADY_OFFERED: Final = "already_offered"
"""Ruled out because this referral was offered to the service before."""
NOT_NAMED: Final = "not_named"
"""Ruled out because the agency named another service, or because the one it named meets none of the needs."""
NOT_SCREENED: Final = "certainty"
"""Ruled out because something is unknown and the provider doesn't screen people itself."""

MOST_ALIKE: Final = 500_000
"""References to judgements remembered at once: facts are what anyone writes, and must not fill the memory."""

_REMEMBERED: Final = 20_000
"""What certificates say over and over is made once: so many of each kind of it, a few MB."""


class Found(NamedTuple):
    """A service to offer to, and the unit that has a place."""

    profile: Profile
    unit: str


class Match(NamedTuple):
    """The outcome: the best services to offer to, first to last; those that would be among them if they had a place; the certificate."""

    best: list[Found]
    full: list[str]
    certificate: Certificate


class Row(NamedTuple):
    """One judged service: ``verdicts`` a letter a criterion; ``ruled_out`` the first criterion that did, None for a candidate, which alone
    has a ``unit`` with a free place and a ``rank`` (the policy's parts, without the lottery)."""

    profile: Profile
    verdicts: str
    ruled_out: str | None
    rank: tuple[int, ...]
    unit: Unit | None


class Judgement(NamedTuple):
    """A service as it is judged but for its places: the row it makes with none free, and the one it makes with a free one. The latter is
    None for a candidate, whose row has the verdicts ``letters``, and a rank to which ``unknowns`` and ``unmet`` needs belong."""

    profile: Profile
    units: tuple[Unit, ...]
    full: Row
    free: Row | None
    letters: str
    unknowns: int
    unmet: int


class Drawn(NamedTuple):
    """A candidate with its lot, in the order of ranking."""

    rank: tuple[int, ...]
    lot: int
    row: Row


def match(
    state: Region,
    policy: Policy,
    referral: str,
    facts: Facts,
    tried: frozenset[str],
    now: int,
    only: str | None = None,
) -> Match:
    """Find the best services with a free place among those that were not tried, or ``only`` the one that is named. Reads only the state
    and what it is given."""
    rows = table(state, policy, person_of(facts), tried, now, only)
    candidates = best_of(rows, policy, referral)
    certificate = Certificate(
        policy=policy.policy,
        policy_version=policy.version,
        considered=len(state.catalogue),
        eliminated=_eliminated(state, rows, tried, only),
        best=[judged(drawn.row, drawn.lot) for drawn in candidates],
        misses=[judged(row) for row in _nearest_misses(rows, policy.misses)],
        digest=digest(rows),
    )
    best = [Found(row.profile, row.unit.unit) for _, _, row in candidates if row.unit is not None]
    full = [] if best else [row.profile.service for row in rows if row.ruled_out == "capacity"]
    return Match(best, full, certificate)


def table(
    state: Region,
    policy: Policy,
    person: Person,
    tried: frozenset[str],
    now: int,
    only: str | None = None,
) -> list[Row]:
    """Every service that meets a need and was not tried, or ``only`` the one that is named, as it is judged, in the order of ids."""
    places = places_of(policy)
    rows: list[Row] = []
    for profile, units, letters, unknowns, unmet, ruled_out in _judged_without_capacity(state, person):
        if profile.service in tried or (only is not None and profile.service != only):
            continue
        total = used = counted_at = most = 0
        freest: Unit | None = None
        for unit in units:
            in_use = unit.taken + unit.held
            total += unit.total
            used += in_use
            if unit.counted_at > counted_at:
                counted_at = unit.counted_at
            if unit.total - in_use > most:
                freest, most = unit, unit.total - in_use
        if ruled_out is not None:
            rows.append(Row(profile, letters + ("n" if freest is None else "y"), ruled_out, (), None))
        elif unknowns and not profile.screens:
            rows.append(Row(profile, letters + ("n" if freest is None else "y"), NOT_SCREENED, (), None))
        elif freest is None:
            rows.append(Row(profile, letters + "n", "capacity", (), None))
        else:
            rank = ranked((unknowns, unmet, load(used, total), hours_since(counted_at, now)))
            rows.append(Row(profile, letters, None, rank, freest))
    return rows


def _judged_but_for_places(state: Region, person: Person) -> list[Judgement]:
    """What of a judgement stays as long as the catalogue does; people who are alike to every service share it."""
    catalogue = state.catalogue
    needs, area, age, languages = person
    alike = (needs, catalogue.area_class(area), catalogue.age_class(age), languages)
    known: list[Judgement] | None = catalogue.alike.get(alike)
    if known is None:
        known = [_judge(state, profile, person) for profile in catalogue.meeting(needs)]
        if catalogue.alike_size + len(known) > MOST_ALIKE:
            catalogue.forget_alike()
        catalogue.alike[alike] = known
        catalogue.alike_size += len(known) + 1
    return known


def _judge(state: Region, profile: Profile, person: Person) -> Judgement:
    needs, area, age, languages = person
    letters = (
        judge_area(profile.areas, area)
        + judge_age(profile.ages, age)
        + judge_language(profile.languages, languages)
    )
    unmet = sum([need not in profile.needs for need in needs]) if len(needs) > 1 else 0
    # People differ more than what comes of it: a service gives a few judgements, over and over.
    key = (profile.service, letters, unmet)
    known: Judgement | None = state.catalogue.judgements.get(key)
    if known is None:
        known = state.catalogue.judgements[key] = _judgement(state, profile, "y" + letters, unmet)
    return known


def _judgement(state: Region, profile: Profile, letters: str, unmet: int) -> Judgement:
    first_no, unknowns = letters.find("n"), letters.count("u")
    ruled_out = CRITERIA[first_no] if first_no >= 0 else None
    though_free = ruled_out or (NOT_SCREENED if unknowns and not profile.screens else None)
    return Judgement(
        profile,
        tuple(state.units[unit] for unit in profile.units),
        full=Row(profile, letters + "n", ruled_out or "capacity", (), None),
        free=None if though_free is None else Row(profile, letters + "y", though_free, (), None),
        letters=letters + "y",
        unknowns=unknowns,
        unmet=unmet,
    )


def best_of(rows: Sequence[Row], policy: Policy, referral: str) -> list[Drawn]:
    """The policy's best candidates in order. Lots are drawn only for those whose ranks are good enough to be among them."""
    candidates = [row for row in rows if row.ruled_out is None]
    if len(candidates) > policy.best:
        last = sorted([row.rank for row in candidates])[policy.best - 1]
        candidates = [row for row in candidates if row.rank <= last]
    draw = lottery(policy.seed, referral)
    drawn = [Drawn(row.rank, draw(row.profile.service), row) for row in candidates]
    drawn.sort(key=lambda one: one[:2])
    return drawn[: policy.best]


def judged(row: Row, lot: int | None = None) -> Judged:
    """The row as a certificate shows it; the score ends with the lot where one was drawn."""
    if lot is None:
        return _judged_without_lot(row.profile.service, row.verdicts, row.rank)
    return Judged(service=row.profile.service, verdicts=_words(row.verdicts), score=[*row.rank, lot])


@lru_cache(maxsize=_REMEMBERED)
def _judged_without_lot(service: str, letters: str, rank: tuple[int, ...]) -> Judged:
    return Judged(service=service, verdicts=_words(letters), score=list(rank))


@cache
def _words(letters: str) -> list[Verdict]:
    return [WORDS[letter] for letter in letters]


def digest(rows: Sequence[Row]) -> bytes:
    """SHA-256 over the whole table: a line a service with its id, verdicts and rank, in the order of the ids."""
    return hashlib.sha256(
        "".join([_line(row.profile.service, row.verdicts, row.rank) for row in rows]).encode()
    ).digest()


@lru_cache(maxsize=_REMEMBERED)
def _line(service: str, letters: str, rank: tuple[int, ...]) -> str:
    return f"{service} {letters} {rank}\n"


def _nearest_misses(rows: Sequence[Row], most: int) -> list[Row]:
    """Those that the fewest criteria rule out, then those with the least unknown."""
    misses = [row for row in rows if row.ruled_out is not None]
    misses.sort(key=lambda row: (row.verdicts.count("n"), row.verdicts.count("u")))
    return misses[:most]


def _eliminated(
    state: Region, rows: Sequence[Row], tried: frozenset[str], only: str | None
) -> list[Eliminated]:
    """How many services each criterion ruled out, in the order the criteria are asked; they and the candidates add up to all."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.ruled_out is not None:
            counts[row.ruled_out] = counts.get(row.ruled_out, 0) + 1
    counts[ALREADY_OFFERED] = sum(state.catalogue.active(service) for service in tried)
    left = len(state.catalogue) - len(rows) - counts[ALREADY_OFFERED]
    counts["need" if only is None else NOT_NAMED] = left
    order = (ALREADY_OFFERED, NOT_NAMED, *CRITERIA, NOT_SCREENED)
    return [Eliminated(criterion=name, services=counts[name]) for name in order if counts.get(name)]
