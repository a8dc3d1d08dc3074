"""Whether a service takes a person: yes, no, or unknown. Unknown is never silently yes or no."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.facts import Facts, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ledger import MatchDecided
from services.matching.core.judging.catalogue import ALL, Answer, Catalogue, profile_of
from services.matching.core.judging.eligibility import person_of
from tests.support.deciding import HOUSING, World, offers, service_of, spoken, stated_age, stated_area

RIVERSIDE = ["riverside", "hillside"]


def catalogue(**said: Any) -> Catalogue:
    """One service of which this is said."""
    one = Catalogue()
    one.put(offers("beds", **said))
    return one


def letter(answer: Answer) -> str:
    """What the one service answers."""
    return "n" if answer.no else "u" if answer.unknown else "y"


@pytest.mark.parametrize(
    ("served", "area", "verdict"),
    [
        (RIVERSIDE, "riverside", "y"),
        (RIVERSIDE, "harbour", "n"),
        (RIVERSIDE, None, "u"),
        (None, "riverside", "u"),
        (None, None, "u"),
        (["*"], "harbour", "y"),
        (["*"], None, "y"),
        ([], "harbour", "n"),
        ([], None, "u"),
    ],
)
def test_area(served: list[str] | None, area: str | None, verdict: str) -> None:
    one = catalogue(areas=served)
    assert letter(one.on_area(one.active, area)) == verdict


@pytest.mark.parametrize(
    ("served", "age", "verdict"),
    [
        ((18, 65), 18, "y"),
        ((18, 65), 65, "y"),
        ((18, 65), 17, "n"),
        ((18, 65), 66, "n"),
        ((18, 65), None, "u"),
        ((0, 150), None, "y"),
        ((0, 149), None, "u"),
        ((1, 150), None, "u"),
        (None, 30, "u"),
        (None, None, "u"),
        ((0, 150), 0, "y"),
        ((0, 150), 1000, "n"),
        (None, 1000, "u"),
    ],
)
def test_age(served: tuple[int, int] | None, age: int | None, verdict: str) -> None:
    one = catalogue(ages=None if served is None else {"minimum": served[0], "maximum": served[1]})
    assert letter(one.on_age(one.active, age)) == verdict


@pytest.mark.parametrize(
    ("served", "spoken", "verdict"),
    [
        (["en"], ("en",), "y"),
        (["en"], ("es", "en"), "y"),
        (["en", "es"], ("fr",), "n"),
        (["es"], ("es-mx",), "y"),
        (["es-mx"], ("es",), "y"),
        (["es-mx"], ("es-ar",), "n"),
        (["e"], ("es",), "n"),
        (["en"], None, "u"),
        (None, ("en",), "u"),
        (None, None, "u"),
        (["*"], ("fr",), "y"),
        (["*"], None, "y"),
        ([], ("en",), "n"),
    ],
)
def test_language(served: list[str] | None, spoken: tuple[str, ...] | None, verdict: str) -> None:
    one = catalogue(languages=served)
    assert letter(one.on_languages(one.active, spoken)) == verdict


@pytest.mark.parametrize("status", ["unknown", "not_said"])
def test_what_nobody_knows_and_what_was_not_said_are_both_open(status: str) -> None:
    facts = Facts(
        age=NumberFact(status=status),
        languages=ListFact(status=status),
        area=TextFact(status=status),
        needs=[Need(code="housing")],
    )
    assert person_of(facts)[1:4] == (None, None, None)


def test_languages_are_compared_without_case(world: World) -> None:
    world.publish(offers("beds", languages=["ES-MX"]))
    assert verdicts(world, HOUSING.model_copy(update={"languages": spoken("es-Mx")}))[3] == "yes"


def test_a_service_that_takes_all_is_told_from_one_that_names_nothing() -> None:
    takes_all = profile_of(offers("beds", areas=["*", "riverside"], languages=["*"]))
    assert takes_all.areas is ALL
    assert takes_all.languages is ALL
    silent = profile_of(offers("beds", areas=None, languages=None, ages=None))
    assert (silent.areas, silent.languages, silent.ages) == (None, None, None)


def verdicts(world: World, facts: Facts) -> list[str]:
    """How the one published service is judged for the person."""
    world.refer(facts)
    matched = next(event for event in reversed(world.events) if isinstance(event, MatchDecided))
    [judged] = [*matched.certificate.best, *matched.certificate.misses]
    return list(judged.verdicts)


AGES = {"yes": {"minimum": 18}, "no": {"minimum": 60}, "unknown": None}
AREAS = {"yes": ["riverside"], "no": ["harbour"], "unknown": None}
LANGUAGES = {"yes": ["en"], "no": ["fr"], "unknown": None}


@pytest.mark.parametrize(
    ("area", "age", "language", "screens"),
    list(
        product(["yes", "no", "unknown"], ["yes", "no", "unknown"], ["yes", "no", "unknown"], [True, False])
    ),
)
def test_a_service_is_offered_to_on_no_no_and_on_unknown_only_where_it_screens(
    world: World, area: str, age: str, language: str, screens: bool
) -> None:
    world.publish(
        offers("beds", areas=AREAS[area], ages=AGES[age], languages=LANGUAGES[language], screens=screens)
    )
    assert verdicts(world, HOUSING) == ["yes", area, age, language, "yes", "yes", "yes", "yes"]
    said = {area, age, language}
    is_offered = "no" not in said and (screens or "unknown" not in said)
    assert (world.state.units["un-north-beds"].held == 1) is is_offered
    matched = next(event for event in reversed(world.events) if isinstance(event, MatchDecided))
    ruled_out = [one.criterion for one in matched.certificate.eliminated]
    if is_offered:
        assert ruled_out == []
        assert matched.service == service_of("beds")
    else:
        by_criterion = dict(zip(("area", "age", "language"), (area, age, language), strict=True))
        first_no = next((name for name, verdict in by_criterion.items() if verdict == "no"), "certainty")
        assert ruled_out == [first_no]


def test_a_service_that_meets_one_of_several_needs_is_a_candidate(world: World) -> None:
    world.publish(
        offers("beds", needs=["housing"]), offers("meals", needs=["food"]), offers("law", needs=["law"])
    )
    world.refer(HOUSING.model_copy(update={"needs": [Need(code="housing"), Need(code="food")]}))
    matched = next(event for event in reversed(world.events) if isinstance(event, MatchDecided))
    assert {one.service for one in matched.certificate.best} == {service_of("beds"), service_of("meals")}
    assert [(one.criterion, one.services) for one in matched.certificate.eliminated] == [("need", 1)]


def test_the_same_code_in_another_vocabulary_is_another_need(world: World) -> None:
    world.publish(offers("beds"))
    world.refer(HOUSING.model_copy(update={"needs": [Need(vocabulary="local", code="housing")]}))
    matched = next(event for event in reversed(world.events) if isinstance(event, MatchDecided))
    assert matched.service is None


def test_a_person_outside_all_criteria_is_a_miss_with_each_no_named(world: World) -> None:
    world.publish(offers("beds", areas=["harbour"], ages={"maximum": 17}, languages=["fr"], total=0))
    facts = HOUSING.model_copy(update={"area": stated_area("riverside"), "age": stated_age(40)})
    assert verdicts(world, facts) == [
        "yes" if name in ("need", "criteria", "reach", "hours") else "no" for name in CRITERIA
    ]
