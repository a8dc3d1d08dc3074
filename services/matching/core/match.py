"""One match: which service a referral is offered to next, and the certificate that shows why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Certificate, Eliminated, Judged
from referral_bus.contracts.reference import Policy
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
from services.matching.core.ranking import Standing, hours_since, load, lottery, places_of
from services.matching.core.state import Region, Unit

ALREADY_OFFERED: Final = "already_offered"
"""Ruled out because this referral was offered to the service before."""
NOT_SCREENED: Final = "certainty"
"""Ruled out because something is unknown and the provider doesn't screen people itself."""


class Match(NamedTuple):
    """The outcome: service and unit to offer, or None, and the certificate."""

    profile: Profile | None
    unit: Unit | None
    certificate: Certificate


class Row(NamedTuple):
    """One judged service: ``verdicts`` a letter a criterion; ``ruled_out`` the first criterion that did, None for a candidate, which alone
    has a ``unit`` with a free place and a ``rank`` (the policy's parts, without the lottery)."""

    profile: Profile
    verdicts: str
    ruled_out: str | None
    rank: tuple[int, ...]
    unit: Unit | None


class Drawn(NamedTuple):
    """A candidate with its lot, in the order of ranking."""

    rank: tuple[int, ...]
    lot: int
    row: Row


def match(
    state: Region, policy: Policy, referral: str, facts: Facts, tried: frozenset[str], now: int
) -> Match:
    """Find the best service with a free place among those that were not tried. Reads only the state and what it is given."""
    rows = table(state, policy, person_of(facts), tried, now)
    candidates = best_of(rows, policy, referral)
    certificate = Certificate(
        policy=policy.policy,
        policy_version=policy.version,
        considered=len(state.catalogue),
        eliminated=_eliminated(state, rows, tried),
        best=[judged(drawn.row, drawn.lot) for drawn in candidates],
        misses=[judged(row) for row in _nearest_misses(rows, policy.misses)],
        digest=digest(rows),
    )
    best = candidates[0].row if candidates else None
    return Match(best.profile if best else None, best.unit if best else None, certificate)


def table(state: Region, policy: Policy, person: Person, tried: frozenset[str], now: int) -> list[Row]:
    """Every service that meets a need and was not tried, as it is judged, in the order of their ids."""
    units, places = state.units, places_of(policy)
    needs, area, age, languages = person
    rows: list[Row] = []
    for profile in state.catalogue.meeting(needs):
        if profile.service in tried:
            continue
        total = used = counted_at = 0
        freest: Unit | None = None
        most = 0
        for name in profile.units:
            unit = units[name]
            in_use = unit.taken + unit.held
            total += unit.total
            used += in_use
            counted_at = max(counted_at, unit.counted_at)
            if unit.total - in_use > most:
                freest, most = unit, unit.total - in_use
        verdicts = (
            "y"
            + judge_area(profile.areas, area)
            + judge_age(profile.ages, age)
            + judge_language(profile.languages, languages)
            + ("n" if freest is None else "y")
        )
        first_no = verdicts.find("n")
        if first_no >= 0:
            rows.append(Row(profile, verdicts, CRITERIA[first_no], (), None))
        elif not profile.screens and "u" in verdicts:
            rows.append(Row(profile, verdicts, NOT_SCREENED, (), None))
        else:
            unmet = 0 if len(needs) == 1 else sum(need not in profile.needs for need in needs)
            standing = Standing(verdicts.count("u"), unmet, load(used, total), hours_since(counted_at, now))
            rows.append(Row(profile, verdicts, None, tuple([standing[place] for place in places]), freest))
    return rows


def best_of(rows: Sequence[Row], policy: Policy, referral: str) -> list[Drawn]:
    """The policy's best candidates in order. Lots are drawn only for those whose ranks are good enough to be among them."""
    candidates = [row for row in rows if row.ruled_out is None]
    if len(candidates) > policy.best:
        last = sorted([row.rank for row in candidates])[policy.best - 1]
        candidates = [row for row in candidates if row.rank <= last]
    drawn = [Drawn(row.rank, lottery(policy.seed, referral, row.profile.service), row) for row in candidates]
    drawn.sort(key=lambda one: one[:2])
    return drawn[: policy.best]


def judged(row: Row, lot: int | None = None) -> Judged:
    """The row as a certificate shows it; the score ends with the lot where one was drawn."""
    score = list(row.rank) if lot is None else [*row.rank, lot]
    return Judged(
        service=row.profile.service, verdicts=[WORDS[letter] for letter in row.verdicts], score=score
    )


def digest(rows: Sequence[Row]) -> bytes:
    """SHA-256 over the whole table: a line a service with its id, verdicts and rank, in the order of the ids."""
    return hashlib.sha256(
        "".join([f"{row.profile.service} {row.verdicts} {row.rank}\n" for row in rows]).encode()
    ).digest()


def _nearest_misses(rows: Sequence[Row], most: int) -> list[Row]:
    """Those that the fewest criteria rule out, then those with the least unknown."""
    misses = [row for row in rows if row.ruled_out is not None]
    misses.sort(key=lambda row: (row.verdicts.count("n"), row.verdicts.count("u")))
    return misses[:most]


def _eliminated(state: Region, rows: Sequence[Row], tried: frozenset[str]) -> list[Eliminated]:
    """How many services each criterion ruled out, in the order the criteria are asked; they and the candidates add up to all."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.ruled_out is not None:
            counts[row.ruled_out] = counts.get(row.ruled_out, 0) + 1
    counts[ALREADY_OFFERED] = sum(state.catalogue.active(service) for service in tried)
    counts["need"] = len(state.catalogue) - len(rows) - counts[ALREADY_OFFERED]
    order = (ALREADY_OFFERED, *CRITERIA, NOT_SCREENED)
    return [Eliminated(criterion=name, services=counts[name]) for name in order if counts.get(name)]
