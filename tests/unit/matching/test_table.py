"""The table of a match is what comes of judging each service by itself: it is made of sets, and here it is made the plain way beside it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts.certificates import ALREADY_OFFERED, CRITERIA, NOT_IN_SIGHT, UNKNOWN
from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.facts import Facts, Need, NumberFact, PlaceFact, TraitAnswer, TravelFact
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.places import MICRO, Place, Polygon, ReachLimit, Ring
from referral_bus.contracts.reference import Bands, OfferLimits, Policy, RankBy, TrustStep
from referral_bus.contracts.services import OpeningHours, ServiceDefinition, Unit
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from services.matching.core.judging.areas import borders, either, judge_borders
from services.matching.core.judging.bitmaps import Column, at_most, least, members, numbering, tally
from services.matching.core.judging.criteria import circumstances_of, evaluate, prepared
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.letters import WORDS, judge_language
from services.matching.core.judging.match import Row, Table, best_of
from services.matching.core.judging.opening import opening, opens_at
from services.matching.core.judging.places import Reliability, load, unreliability
from services.matching.core.judging.ranking import lottery
from services.matching.core.judging.reach import distance, limits, reaching, travelling
from services.matching.core.state import Region
from services.matching.core.state import Unit as Places
from tests.support.deciding import HOUR, MINUTE, POLICY, offers, spoken, stated_area, unit_of
from tests.support.judging import judge_reach

UNHURRIED = settings(max_examples=150)
NOW = 1_800_000_123_456
EVERYTHING: tuple[RankBy, ...] = (
    "certainty",
    "needs_covered",
    "mapping",
    "wait",
    "reach",
    "language",
    "load",
    "freshness",
    "reliability",
)
BANDS = st.builds(
    Bands,
    by=st.sampled_from(["wait", "reach", "load", "reliability"]),
    starts=st.sampled_from([[1], [5, 20], [200, 400, 600], [500, UNKNOWN]]),
)
TRUST = [TrustStep(hours=2, thousandths=900), TrustStep(hours=24, thousandths=300)]
LIMITS = [
    ReachLimit(urgency="urgent", travel="walk", metres=3_000),
    ReachLimit(urgency="urgent", travel="car", metres=30_000),
]
SOON = OfferLimits(crisis=HOUR, urgent=6 * HOUR, routine=100 * HOUR)
FOOD = Taxonomy.model_validate(
    {"taxonomy": "openeligibility", "terms": [{"code": "food"}, {"code": "pantry", "parent": "food"}]}
)
HUNGER = Crosswalk.model_validate(
    {
        "crosswalk": "211",
        "source": "openeligibility",
        "target": "taxonomy211",
        "mappings": [
            {"source": "food", "target": "BD", "relation": "equal", "confidence": 900},
            {"source": "pantry", "target": "BD-1", "relation": "related", "confidence": 600},
        ],
    }
)
SQUARE = Polygon(rings=[Ring(points=[0, 0, 0, MICRO, MICRO, MICRO, MICRO, 0])])


def needs(*codes: str) -> list[Need]:
    return [
        Need(vocabulary="taxonomy211" if code.startswith("BD") else "openeligibility", code=code)
        for code in codes
    ]


SERVICE = st.fixed_dictionaries(
    {
        "needs": st.lists(
            st.sampled_from(["housing", "food", "pantry", "BD", "BD-1"]), min_size=1, max_size=2
        ),
        "active": st.sampled_from([True, True, True, False]),
        "screens": st.booleans(),
        "ages": st.sampled_from([None, {}, {"minimum": 40}, {"maximum": 17}]),
        "areas": st.sampled_from([None, ["*"], ["riverside"], ["harbour"], []]),
        "polygons": st.sampled_from([[], [], [SQUARE]]),
        "languages": st.sampled_from([None, ["*"], ["en"], ["fr-ca"]]),
        "eligibility": st.sampled_from(
            [
                None,
                Eligibility(service=holds(Criterion(kind="trait", one_of=["veteran"]))),
                Eligibility(program=holds(Criterion(kind="income", maximum=200))),
            ]
        ),
        "places": st.sampled_from(
            [[], [Place(latitude=0, longitude=0)], [Place(latitude=MICRO // 10, longitude=0)]]
        ),
        "remote": st.sampled_from([False, False, True]),
        "hours": st.sampled_from(
            [
                None,
                [OpeningHours(days=["MO", "TU", "WE", "TH", "FR", "SA", "SU"], opens=0, closes=1440)],
                [OpeningHours(days=["WE"], opens=540, closes=600)],
            ]
        ),
        "offsets": st.sampled_from([[], [UtcOffset(since=0, minutes=-300)]]),
    }
)
COUNTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 40)),
    min_size=1,
    max_size=2,
)
ANSWERS = st.sampled_from([None, Reliability(2, 0), Reliability(0, 3)])
PEOPLE = st.builds(
    Facts,
    needs=st.sampled_from([needs("housing"), needs("food"), needs("housing", "food"), needs("BD")]),
    age=st.sampled_from(
        [NumberFact(), NumberFact(status="stated", value=30), NumberFact(status="stated", value=200)]
    ),
    area=st.sampled_from([stated_area("riverside"), stated_area("nowhere"), Facts(needs=needs("x")).area]),
    languages=st.sampled_from([spoken("EN"), spoken("fr", "es"), Facts(needs=needs("x")).languages]),
    place=st.sampled_from(
        [
            PlaceFact(),
            PlaceFact(status="stated", latitude=MICRO // 100, longitude=0),
            PlaceFact(status="stated", latitude=-MICRO, longitude=MICRO),
        ]
    ),
    travel=st.sampled_from(
        [TravelFact(), *(TravelFact(status="stated", value=way) for way in ("walk", "transit"))]
    ),
    traits=st.sampled_from(
        [[], [TraitAnswer(trait="veteran", answer="yes")], [TraitAnswer(trait="veteran", answer="no")]]
    ),
)


def region(
    services: list[dict[str, Any]], counts: list[list[tuple[int, ...]]], answers: list[Reliability | None]
) -> Region:
    """Services with these counts of their units (total, taken, held, hours since the count)."""
    state = Region("north")
    state.vocabularies.put_taxonomy(FOOD)
    state.vocabularies.put_crosswalk(HUNGER)
    for number, said in enumerate(services):
        local = f"s{number}"
        units = [
            Unit(unit=unit_of(f"{local}-{place}"), name="places", total=3, available=0)
            for place, _ in enumerate(counts[number])
        ]
        definition = offers(local, units=units, **said).model_copy(update={"terms": needs(*said["needs"])})
        state.catalogue.put(definition)
        for unit, (total, taken, held, hours) in zip(units, counts[number], strict=True):
            state.units[unit.unit] = Places(
                unit.unit, definition.service, total, taken, held, NOW - hours * HOUR
            )
        answered = answers[number]
        if answered is not None:
            state.reliability[definition.service] = answered
    return state


def plainly(state: Region, policy: Policy, facts: Facts, tried: frozenset[str]) -> list[Row]:
    """Each service judged by itself."""
    rows = []
    for slot, definition in enumerate(state.catalogue.definitions.values()):
        found = _found(state, definition, facts)
        if definition.active and definition.service not in tried and found:
            rows.append(_row(state, policy, facts, slot, definition, found))
    return rows


def _found(state: Region, definition: ServiceDefinition, facts: Facts) -> list[tuple[int, str | None] | None]:
    """For each need the surest mapping by which the service meets it; nothing at all where it meets none."""
    coded = {f"{term.vocabulary} {term.code}" for term in definition.terms}
    found: list[tuple[int, str | None] | None] = []
    for need in facts.needs:
        ways = [one for one in state.vocabularies.finds(need.vocabulary, need.code) if one.term in coded]
        surest = min(ways, key=lambda one: (-one.confidence, one.mapping or ""), default=None)
        found.append(None if surest is None else (surest.confidence, surest.mapping))
    return found if any(found) else []


def _row(
    state: Region,
    policy: Policy,
    facts: Facts,
    slot: int,
    definition: ServiceDefinition,
    found: list[tuple[int, str | None] | None],
) -> Row:
    units = [state.units[unit.unit] for unit in definition.units]
    free = [unit for unit in units if unit.free > 0]
    away = distance(travelling(facts), reaching(definition))
    hours, minute = opening(definition), NOW // MINUTE * MINUTE
    opens = None if hours is None else opens_at(hours, minute)
    furthest = limits(policy.reach, "urgent")
    program = prepared(definition)
    outcome = None if program is None else evaluate(program, circumstances_of(facts))
    letters = [
        "y",
        _area(definition, facts),
        _age(definition, facts),
        _language(definition, facts),
        "y" if outcome is None else outcome.letter,
        judge_reach(away, facts.travel.value, definition.reach_m, furthest) if furthest else "y",
        "y"
        if policy.opens_within is None
        else "u"
        if hours is None
        else "y"
        if opens is not None and opens <= minute + policy.opens_within.urgent
        else "n",
        "y" if free else "n",
    ]
    uncertain = "u" in letters[1:5] and not definition.screens
    noes = [name for name, letter in zip(CRITERIA[:-1], letters, strict=False) if letter == "n"]
    ruled_out = noes[0] if noes else "certainty" if uncertain else None if free else "capacity"
    met = [one for one in found if one is not None]
    confidence, mapping = min(met, key=lambda one: (one[0], one[1] or ""))
    counted = max(free, key=lambda unit: unit.free).counted_at if free else max(u.counted_at for u in units)
    hours_old = NOW // HOUR - counted // HOUR
    trusted = next((step.thousandths for step in reversed(TRUST) if hours_old >= step.hours), 1000)
    languages = circumstances_of(facts).languages or ()
    score = {
        "certainty": letters.count("u"),
        "needs_covered": found.count(None),
        "mapping": 1000 - confidence,
        "wait": UNKNOWN if hours is None else NOT_IN_SIGHT if opens is None else (opens - minute) // MINUTE,
        "reach": UNKNOWN if away is None else away // 100,
        "language": 0 if set(languages) & set(definition.languages or ()) else 2 if letters[3] == "u" else 1,
        "load": load(sum(unit.taken + unit.held for unit in units), sum(unit.total for unit in units)),
        "freshness": 1000 - trusted if policy.trust else hours_old,
        "reliability": unreliability(state.reliability.get(definition.service, Reliability())),
    }
    return Row(
        profile=state.catalogue.profile(slot),
        verdicts="".join(letters),
        ruled_out=ruled_out,
        score=() if ruled_out else tuple(score[by] for by in policy.rank_by),
        rank=() if ruled_out else tuple(_compared(policy, by, score[by]) for by in policy.rank_by),
        unit=None if ruled_out else max(units, key=lambda unit: unit.free),
        mapping=mapping,
        confidence=confidence,
        because=outcome.kinds if outcome is not None and outcome.letter != "y" else (),
    )


def _compared(policy: Policy, by: RankBy, number: int) -> int:
    """Its band, counted by hand, where the policy has bands."""
    starts = [bands.starts for bands in policy.bands if bands.by == by]
    return number if not starts else sum(number >= start for start in starts[0])


def _area(definition: ServiceDefinition, facts: Facts) -> str:
    areas, area = definition.areas, facts.area.value
    named = (
        "y"
        if areas is not None and "*" in areas
        else "u"
        if areas is None or area is None
        else "y"
        if area in areas
        else "n"
    )
    if not definition.polygons:
        return named
    within = judge_borders(borders(definition.polygons), facts.place.latitude, facts.place.longitude)
    return within if areas is None else either(named, within)  # type: ignore[arg-type]


def _age(definition: ServiceDefinition, facts: Facts) -> str:
    ages, age = definition.ages, facts.age.value
    if ages is None:
        return "u"
    if age is None:
        return "y" if (ages.minimum, ages.maximum) == (0, 150) else "u"
    return "y" if ages.minimum <= age <= ages.maximum else "n"


def _language(definition: ServiceDefinition, facts: Facts) -> str:
    served = definition.languages
    if served is None or "*" in served:
        return "u" if served is None else "y"
    return judge_language([language.lower() for language in served], circumstances_of(facts).languages)


@UNHURRIED
@given(
    data=st.data(),
    facts=PEOPLE,
    opted=st.booleans(),
    banded=st.lists(BANDS, max_size=4, unique_by=lambda bands: bands.by),
    tried=st.sets(st.integers(0, 9)),
    order=st.permutations(EVERYTHING),
)
def test_the_table_is_what_comes_of_judging_each_service_by_itself(
    data: st.DataObject,
    facts: Facts,
    opted: bool,
    banded: list[Bands],
    tried: set[int],
    order: tuple[RankBy, ...],
) -> None:
    services = data.draw(st.lists(SERVICE, max_size=10))
    size = len(services)
    counts = data.draw(st.lists(COUNTS, min_size=size, max_size=size))
    answers = data.draw(st.lists(ANSWERS, min_size=size, max_size=size))
    state = region(services, counts, answers)
    more: dict[str, Any] = {"reach": LIMITS, "opens_within": SOON, "trust": TRUST} if opted else {}
    policy = POLICY.model_copy(update={"rank_by": list(order), "bands": banded, **more})
    before = frozenset(f"sv-north-s{number}" for number in tried)
    state.look_at_places()
    table = Table(state, policy, person_of(facts, "urgent"), before, NOW)
    plain = plainly(state, policy, facts, before)
    assert table.rows() == plain

    draw = lottery("a seed", b"the event before", "rf-north-1")
    assert table.best(draw) == best_of(plain, policy, draw)

    misses = [row for row in plain if row.ruled_out is not None]
    misses.sort(key=lambda row: (row.verdicts.count("n"), row.verdicts.count("u")))
    assert table.nearest_misses() == misses[: policy.misses]

    counted = Counter(row.ruled_out for row in misses)
    counted[ALREADY_OFFERED] = sum(state.catalogue.is_active(service) for service in before)
    counted["need"] = len(state.catalogue) - len(plain) - counted[ALREADY_OFFERED]
    assert dict(table.eliminated()) == {name: count for name, count in counted.items() if count}
    assert table.full() == [row.profile.service for row in plain if row.ruled_out == "capacity"]
    assert {letter for row in plain for letter in row.verdicts} <= set(WORDS)


NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(columns=st.lists(NUMBERS, min_size=1, max_size=3), among=st.integers(0, 4095), most=st.integers(1, 6))
def test_the_least_are_found_by_the_first_column_before_the_second(
    columns: list[list[int]], among: int, most: int
) -> None:
    size = min(len(column) for column in columns)
    among &= (1 << size) - 1
    stored = []
    for numbers in columns:
        column = Column()
        for slot, number in enumerate(numbers):
            column.put(slot, 7)
            column.put(slot, number)
        assert [numbering(column.planes)(slot) for slot in range(size)] == numbers[:size]
        stored.append(column.planes)
    of = {slot: tuple(numbers[slot] for numbers in columns) for slot in members(among)}
    sure, tied = least(stored, among, most)
    order = sorted(of.values())[:most]
    found = sorted(of[slot] for slot in members(sure))
    assert not sure & tied
    assert found + [of[slot] for slot in members(tied)][: most - len(found)] == order
    assert len({of[slot] for slot in members(tied)}) <= 1
    if tied:
        assert len(found) < most < len(found) + tied.bit_count()


@given(
    changes=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2_000)), min_size=1, max_size=30),
    asked=st.lists(st.sampled_from(((500, 800, 950), (1,))), min_size=1, max_size=30),
)
def test_the_bands_of_a_column_change_as_its_numbers_do(
    changes: list[tuple[int, int]], asked: list[tuple[int, ...]]
) -> None:
    column = Column()
    for (slot, number), starts in zip(changes, asked, strict=False):
        column.put(slot, number)
        band = numbering(column.in_bands(starts))
        assert [band(slot) for slot in range(21)] == [
            bisect_right(starts, number) for number in [*column.numbers, *[0] * (21 - len(column.numbers))]
        ]


@given(numbers=NUMBERS, bound=st.integers(-2, 20))
def test_who_is_at_most_a_bound(numbers: list[int], bound: int) -> None:
    column = Column()
    for slot, number in enumerate(numbers):
        column.put(slot, number)
    found = at_most(column.planes, (1 << len(numbers)) - 1, bound)
    assert list(members(found)) == [slot for slot, number in enumerate(numbers) if number <= bound]


@given(sets=st.lists(st.integers(0, 255), max_size=9))
def test_a_tally_counts_in_how_many_sets_each_is(sets: list[int]) -> None:
    number = numbering(tally(sets))
    assert [number(slot) for slot in range(8)] == [sum(one >> slot & 1 for one in sets) for slot in range(8)]
