"""One match: which service a referral is offered to next, and the certificate that shows why.

No service is looked at by itself but for those that the certificate shows: what is asked of all is asked of sets (decision 0020).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, lru_cache
from itertools import chain, islice
from operator import itemgetter
from struct import pack
from typing import Final, NamedTuple

from referral_bus.contracts.certificates import (
    ALREADY_OFFERED,
    CRITERIA,
    JUDGED,
    NOT_NAMED,
    NOT_SCREENED,
    SCREENED,
)
from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Certificate, Eliminated, Judged
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabularies import SURE
from referral_bus.contracts.vocabulary import Urgency, Verdict
from services.matching.core.judging.bitmaps import Numbers, least, members, tally, without
from services.matching.core.judging.catalogue import Profile
from services.matching.core.judging.criteria import circumstances_of
from services.matching.core.judging.eligibility import Person, judge, person_of
from services.matching.core.judging.letters import WORDS
from services.matching.core.judging.ranking import Part, Ranked, lottery, parts
from services.matching.core.state import Region, Unit

MOST_WAITED_FOR: Final = 1000
"""Services one referral waits for at once."""

MOST_SHOWN: Final = 20
"""Services a certificate shows as the best."""

_CRITERIA_AT: Final = JUDGED.index("criteria")
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
    has a ``unit`` with a free place, a ``score`` (the policy's parts, without the lottery) and a ``rank`` (the same as it is compared: by
    its band where the policy has bands)."""

    profile: Profile
    verdicts: str
    ruled_out: str | None
    score: tuple[int, ...]
    rank: tuple[int, ...]
    unit: Unit | None
    mapping: str | None = None
    confidence: int = SURE
    because: tuple[str, ...] = ()


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
    *,
    urgency: Urgency,
    most: int = 1,
    assigned: str | None = None,
) -> Match:
    """Find the best services with a free place among those that were not tried, or ``only`` the one that is named: ``most`` of them, or as
    many as the certificate shows if that is more; or the one that the referral was ``assigned`` in its window, if that could take it still.
    Reads only the state and what it is given."""
    state.look_at_places()
    judged_ones = Table(state, policy, person_of(facts, urgency), tried, now, only)
    draw = lottery(policy.seed, state.last_hash, referral)
    candidates = judged_ones.best(draw, most)
    shown, assignment = candidates[: policy.best], judged_ones.candidate(assigned, draw)
    if assignment is not None:
        if assignment not in shown:
            shown = [*shown[: MOST_SHOWN - 1], assignment]
        candidates = [assignment]
    certificate = Certificate(
        policy=policy.policy,
        policy_version=policy.version,
        considered=len(state.catalogue),
        eliminated=[_eliminated_by(name, services) for name, services in judged_ones.eliminated()],
        best=[judged(drawn.row, drawn.lot) for drawn in shown],
        misses=[judged(row) for row in judged_ones.nearest_misses()],
        digest=judged_ones.digest(),
        drawn_after=state.last_hash if candidates else None,
        in_window=assignment is not None,
    )
    best = [Found(row.profile, row.unit.unit) for _, _, row in candidates if row.unit is not None]
    return Match(best, [] if best else judged_ones.full(), certificate)


def table(
    state: Region,
    policy: Policy,
    person: Person,
    tried: frozenset[str],
    now: int,
    only: str | None = None,
) -> list[Row]:
    """All rows of the table, in the order in which the services were first published."""
    state.look_at_places()
    return Table(state, policy, person, tried, now, only).rows()


class Table:
    """Every service that meets a need and was not tried, or ``only`` the one that is named, as it is judged; as sets, so that a row is made
    where it is shown. The places are those that were last looked at (:meth:`Region.look_at_places`)."""

    def __init__(
        self,
        state: Region,
        policy: Policy,
        person: Person,
        tried: frozenset[str],
        now: int,
        only: str | None = None,
    ) -> None:
        self._state = state
        self._policy = policy
        self._person = person
        self._now = now
        self._only = only
        catalogue = state.catalogue
        self._tried = catalogue.set_of(tried)
        among = without(catalogue.active, self._tried)
        if only is not None:
            among &= catalogue.set_of([only])
        self._judgement = judge(catalogue, state.vocabularies, policy, person, now, among)
        answers = self._judgement.answers
        self._said = [
            (place, answer.no, answer.unknown)
            for place, answer in enumerate(answers, 1)
            if answer.no or answer.unknown
        ]
        self._ruled_out: list[tuple[str, int]] = []
        self._candidates = self._sieve()

    def _sieve(self) -> int:
        """Whom no criterion rules out. Of the others, each is ruled out by the first that does."""
        state, judgement, ruled_out = self._state, self._judgement, self._ruled_out
        left = judgement.met
        for name, answer in zip(JUDGED, judgement.answers, strict=True):
            if answer.no:
                ruled_out.append((name, left & answer.no))
                left = without(left, answer.no)
        unknown = 0
        for answer in judgement.answers[:SCREENED]:
            unknown |= answer.unknown
        uncertain = without(left & unknown, state.catalogue.screening)
        free = left & state.places.free
        ruled_out += [("capacity", without(left ^ free, uncertain)), (NOT_SCREENED, uncertain)]
        return without(free, uncertain)

    def best(self, draw: Callable[[str], int], most: int = 1) -> list[Drawn]:
        """The policy's best candidates in order, or ``most`` if that is more. Lots are drawn only for those whose ranks are good enough to
        be among them."""
        most = max(most, self._policy.best)
        if not self._candidates:
            return []
        sure, tied = least([part.compared for part in self._parts], self._candidates, most)
        services = self._state.catalogue.services
        drawn = [self._drawn(slot, draw(services[slot])) for slot in members(sure)]
        if tied:
            lots = sorted([(draw(services[slot]), slot) for slot in members(tied)])
            drawn += [self._drawn(slot, lot) for lot, slot in lots[: most - len(drawn)]]
        drawn.sort(key=itemgetter(0, 1))
        return drawn

    def candidate(self, service: str | None, draw: Callable[[str], int]) -> Drawn | None:
        """The service with its lot, if it could take the person."""
        if service is None:
            return None
        found = self._candidates & self._state.catalogue.set_of([service])
        return self._drawn(found.bit_length() - 1, draw(service)) if found else None

    def nearest_misses(self) -> list[Row]:
        """Those that the fewest criteria rule out, then those with the least unknown, then those published first."""
        judgement, most = self._judgement, self._policy.misses
        misses = judgement.met ^ self._candidates
        if not most or not misses:
            return []
        noes = [answer.no for answer in judgement.answers]
        noes.append(without(judgement.met, self._state.places.free))
        sure, tied = least((tally(noes), judgement.unknowns), misses, most)
        near = [self._row(slot) for slot in members(sure)]
        near.sort(key=lambda row: (row.verdicts.count("n"), row.verdicts.count("u")))
        return near + [self._row(slot) for slot in islice(members(tied), most - len(near))]

    def eliminated(self) -> Iterator[tuple[str, int]]:
        """How many services each criterion ruled out, in the order the criteria are asked; they and the candidates add up to all."""
        tried, met = self._tried.bit_count(), self._judgement.met.bit_count()
        first = "need" if self._only is None else NOT_NAMED
        left = len(self._state.catalogue) - tried - met
        for name, services in ((ALREADY_OFFERED, tried), (first, left)):
            if services:
                yield name, services
        for name, ruled_out in self._ruled_out:
            if ruled_out:
                yield name, ruled_out.bit_count()

    def full(self) -> list[str]:
        """The services that only lack a place, so many as a referral can wait for."""
        services = self._state.catalogue.services
        ruled_out = dict(self._ruled_out)["capacity"]
        return [services[slot] for slot in islice(members(ruled_out), MOST_WAITED_FOR)]

    def rows(self) -> list[Row]:
        """All of it, in the order in which the services were first published."""
        return [self._row(slot) for slot in members(self._judgement.met)]

    def digest(self) -> bytes:
        """SHA-256 over the whole table: who is judged, what each criterion says of whom, by which mappings needs are met, how far away the
        candidates are and how soon they open where they are ranked by that, and the digest of all places (decision 0020)."""
        catalogue, judgement = self._state.catalogue, self._judgement
        width = len(catalogue.services) // 8 + 1
        said = [self._state.places.digest(), judgement.met.to_bytes(width, "little")]

        for place, no, unknown in self._said:
            if no:
                said += (f"{CRITERIA[place]} no".encode(), no.to_bytes(width, "little"))
            if unknown:
                said += (f"{CRITERIA[place]} unknown".encode(), unknown.to_bytes(width, "little"))
        for number, ways in enumerate(judgement.ways):
            for way in ways:
                if way.services:
                    name = f"need {number} {way.confidence} {way.mapping}"
                    said += (name.encode(), way.services.to_bytes(width, "little"))
        for number, part in enumerate(self._parts):
            if not part.by_person:
                continue
            if isinstance(part.numbers, Numbers):
                each = part.numbers.each
                said.append(f"part {number} of {len(each)}".encode())
                said.append(pack(f"<{2 * len(each)}I", *chain.from_iterable(each.items())))
                continue
            for place, plane in enumerate(part.numbers):
                if plane:
                    said += (f"part {number} {place}".encode(), plane.to_bytes(width, "little"))
        return hashlib.sha256(b"".join(said)).digest()

    @cached_property
    def _parts(self) -> list[Part]:
        state = self._state
        return parts(
            Ranked(
                state.catalogue,
                state.places,
                self._policy,
                self._person,
                self._judgement,
                self._now,
                self._candidates,
            )
        )

    def _drawn(self, slot: int, lot: int) -> Drawn:
        row = self._row(slot)
        return Drawn(row.rank, lot, row)

    def _row(self, slot: int) -> Row:
        letters = ["y"] * len(CRITERIA)
        for place, no, unknown in self._said:
            if no >> slot & 1:
                letters[place] = "n"
            elif unknown >> slot & 1:
                letters[place] = "u"
        if not self._state.places.free >> slot & 1:
            letters[-1] = "n"
        profile, verdicts = self._state.catalogue.profile(slot), "".join(letters)
        if self._candidates >> slot & 1:
            parts = self._parts
            score = rank = tuple([part.of(slot) for part in parts])
            if self._policy.bands:
                rank = tuple(
                    [
                        bisect_right(part.starts, number) if part.starts else number
                        for part, number in zip(parts, score, strict=True)
                    ]
                )
            row = Row(profile, verdicts, None, score, rank, freest(self._state, profile))
        else:
            row = Row(profile, verdicts, self._ruled_out_by(slot), (), (), None)
        if letters[1 + _CRITERIA_AT] != "y":
            circumstances = circumstances_of(self._person.facts)
            row = row._replace(because=self._state.catalogue.because(slot, circumstances))
        return self._with_mapping(row) if self._judgement.by_mapping else row

    def _ruled_out_by(self, slot: int) -> str:
        for name, services in self._ruled_out:
            if services >> slot & 1:
                return name
        raise LookupError(f"nothing rules out the service in slot {slot}")

    def _with_mapping(self, row: Row) -> Row:
        """The row with how it was found: of several needs the one counts whose mapping is the least sure."""
        ways = [
            (way.confidence, way.mapping or "")
            for of_need in self._judgement.ways
            for way in of_need
            if way.services >> row.profile.slot & 1
        ]
        confidence, mapping = min(ways)
        return row._replace(mapping=mapping or None, confidence=confidence)


def freest(state: Region, profile: Profile) -> Unit:
    """The unit of a service with the most free places, the first of several."""
    units = profile.units
    if len(units) == 1:
        return state.units[units[0]]
    return max([state.units[unit] for unit in units], key=_free)


def _free(unit: Unit) -> int:
    return unit.free


def best_of(rows: Sequence[Row], policy: Policy, draw: Callable[[str], int]) -> list[Drawn]:
    """The policy's best candidates of these in order, found by looking at each."""
    drawn = [Drawn(row.rank, draw(row.profile.service), row) for row in rows if row.ruled_out is None]
    drawn.sort(key=itemgetter(0, 1))
    return drawn[: policy.best]


def judged(row: Row, lot: int | None = None) -> Judged:
    """The row as a certificate shows it; the score ends with the lot where one was drawn."""
    service, letters, score = row.profile.service, row.verdicts, row.score
    if lot is None:
        return _judged_without_lot(service, letters, score, row.mapping, row.confidence, row.because)
    if row.mapping is None and not row.because:
        return Judged(service=service, verdicts=_words(letters), score=[*score, lot])
    return Judged(
        service=service,
        verdicts=_words(letters),
        score=[*score, lot],
        mapping=row.mapping,
        confidence=row.confidence,
        because=list(row.because),
    )


@lru_cache(maxsize=_REMEMBERED)
def _judged_without_lot(
    service: str,
    letters: str,
    score: tuple[int, ...],
    mapping: str | None,
    confidence: int,
    because: tuple[str, ...],
) -> Judged:
    return Judged(
        service=service,
        verdicts=_words(letters),
        score=list(score),
        mapping=mapping,
        confidence=confidence,
        because=list(because),
    )


@cache
def _words(letters: str) -> list[Verdict]:
    return [WORDS[letter] for letter in letters]


@lru_cache(maxsize=_REMEMBERED)
def _eliminated_by(criterion: str, services: int) -> Eliminated:
    return Eliminated(criterion=criterion, services=services)
