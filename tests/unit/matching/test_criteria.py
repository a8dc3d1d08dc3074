"""Criteria and their combination: Kleene's laws, what information may change, which level counts, and what can't be met."""

from __future__ import annotations

from itertools import product
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from referral_bus.contracts.criteria import (
    NUMBERS,
    Criterion,
    Document,
    Eligibility,
    Expression,
    Kind,
    Node,
    Trait,
    holds,
)
from referral_bus.contracts.facts import (
    DocumentAnswer,
    Facts,
    Household,
    ListFact,
    Need,
    NumberFact,
    TextFact,
    TraitAnswer,
)
from referral_bus.contracts.places import Place, Polygon, Ring
from referral_bus.contracts.services import AgeRange, Cost, ServiceDefinition, Unit
from services.matching.core.judging.criteria import (
    Circumstances,
    Outcome,
    circumstances_of,
    effective,
    evaluate,
    prepared,
    unmeetable,
)

AREAS, LANGUAGES, TRAITS = ("riverside", "hillside"), ("en", "es"), ("veteran", "pregnant", "cannot_pay")
DOCUMENTS = ("photo_id", "lease")
_WORDS = {"area": AREAS, "language": LANGUAGES, "trait": TRAITS, "document": DOCUMENTS}


def all_of(*parts: Expression) -> Expression:
    return _combined("all", parts)


def any_of(*parts: Expression) -> Expression:
    return _combined("any", parts)


def negated(part: Expression) -> Expression:
    return _combined("not", (part,))


def _combined(op: Literal["all", "any", "not"], parts: tuple[Expression, ...]) -> Expression:
    nodes = [node for part in parts for node in part.nodes]
    return Expression(nodes=[*nodes, Node(op=op, of=len(parts))])


@st.composite
def criteria(draw: st.DrawFn) -> Criterion:
    kind = draw(st.sampled_from(get_args(Kind)))
    if kind in NUMBERS:
        bounds = sorted(draw(st.tuples(st.integers(0, 6), st.integers(0, 6))))
        return Criterion(kind=kind, minimum=bounds[0], maximum=bounds[1])
    return Criterion(
        kind=kind, one_of=draw(st.lists(st.sampled_from(_WORDS[kind]), min_size=1, max_size=2, unique=True))
    )


EXPRESSIONS = st.recursive(
    criteria().map(holds),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: all_of(*parts))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: any_of(*parts))
        | inner.map(negated)
    ),
    max_leaves=6,
)
NUMBER = st.none() | st.integers(0, 6)


@st.composite
def people(draw: st.DrawFn) -> Circumstances:
    traits = {trait: draw(st.sampled_from("ynu")) for trait in TRAITS}
    documents = {document: draw(st.sampled_from("ynu")) for document in DOCUMENTS}
    return Circumstances(
        age=draw(NUMBER),
        area=draw(st.none() | st.sampled_from(AREAS)),
        languages=draw(st.none() | st.lists(st.sampled_from(LANGUAGES), min_size=1, unique=True).map(tuple)),
        household_size=draw(NUMBER),
        children=draw(NUMBER),
        income=draw(NUMBER),
        traits=frozenset(t for t, said in traits.items() if said == "y"),
        not_traits=frozenset(t for t, said in traits.items() if said == "n"),
        documents=frozenset(d for d, said in documents.items() if said == "y"),
        not_documents=frozenset(d for d, said in documents.items() if said == "n"),
    )


def told_more(person: Circumstances, draw: st.DrawFn) -> Circumstances:
    """The same person with some of what was unknown made known."""
    fuller = draw(people())
    told = person._replace(
        **{
            name: getattr(fuller, name)
            for name in ("age", "area", "languages", "household_size", "children", "income")
            if getattr(person, name) is None
        }
    )
    known_traits, known_documents = told.traits | told.not_traits, told.documents | told.not_documents
    return told._replace(
        traits=told.traits | (fuller.traits - known_traits),
        not_traits=told.not_traits | (fuller.not_traits - known_traits),
        documents=told.documents | (fuller.documents - known_documents),
        not_documents=told.not_documents | (fuller.not_documents - known_documents),
    )


@st.composite
def informed(draw: st.DrawFn) -> tuple[Circumstances, Circumstances]:
    person = draw(people())
    return person, told_more(person, draw)


YES, NO, UNKNOWN = (
    Criterion(kind="age", minimum=1),
    Criterion(kind="age", maximum=0),
    Criterion(kind="income", maximum=5),
)
SOMEBODY = Circumstances(age=1)
_OF = {"y": holds(YES), "n": holds(NO), "u": holds(UNKNOWN)}


def service(**more: object) -> ServiceDefinition:
    unit = Unit(unit="un-north-1", name="bed", total=1, available=1)
    fields: dict[str, object] = {
        "service": "sv-north-1",
        "organisation": "shelter",
        "name": "Beds",
        "terms": [Need(code="1121")],
        "units": [unit],
    }
    return ServiceDefinition.model_validate(fields | more)


def evaluated(expression: Expression, person: Circumstances) -> Outcome:
    program = prepared(service(eligibility=Eligibility(service=expression)))
    assert program is not None
    return evaluate(program, person)


def letter(expression: Expression, person: Circumstances = SOMEBODY) -> str:
    return evaluated(expression, person).letter


@pytest.mark.parametrize(("a", "b"), list(product("ynu", repeat=2)))
def test_all_any_and_not_are_kleenes(a: str, b: str) -> None:
    order = "nuy"
    assert letter(all_of(_OF[a], _OF[b])) == min(a, b, key=order.index)
    assert letter(any_of(_OF[a], _OF[b])) == max(a, b, key=order.index)
    assert letter(negated(_OF[a])) == order[::-1][order.index(a)]


@given(a=EXPRESSIONS, b=EXPRESSIONS, person=people())
def test_de_morgan_holds_with_its_kinds(a: Expression, b: Expression, person: Circumstances) -> None:
    assert evaluated(negated(all_of(a, b)), person) == evaluated(any_of(negated(a), negated(b)), person)
    assert evaluated(negated(any_of(a, b)), person) == evaluated(all_of(negated(a), negated(b)), person)


@given(a=EXPRESSIONS, b=EXPRESSIONS, c=EXPRESSIONS, person=people())
def test_the_laws_of_a_lattice_hold(
    a: Expression, b: Expression, c: Expression, person: Circumstances
) -> None:
    assert letter(all_of(a, b), person) == letter(all_of(b, a), person)
    assert letter(any_of(a, all_of(b, c)), person) == letter(all_of(any_of(a, b), any_of(a, c)), person)
    assert letter(any_of(a, all_of(a, b)), person) == letter(a, person)
    assert letter(all_of(a, all_of(b, c)), person) == letter(all_of(all_of(a, b), c), person)
    assert letter(negated(negated(a)), person) == letter(a, person)


@given(expression=EXPRESSIONS, before_and_after=informed())
def test_a_fact_made_known_never_turns_a_yes_into_a_no_or_a_no_into_a_yes(
    expression: Expression, before_and_after: tuple[Circumstances, Circumstances]
) -> None:
    before, after = before_and_after
    assert letter(expression, before) in ("u", letter(expression, after))


@given(expression=EXPRESSIONS, person=people(), other=people())
def test_only_the_kinds_it_names_can_change_a_verdict_that_is_known(
    expression: Expression, person: Circumstances, other: Circumstances
) -> None:
    outcome = evaluated(expression, person)
    if outcome.letter == "u":
        return
    named = {
        "trait": ("traits", "not_traits"),
        "document": ("documents", "not_documents"),
        "language": ("languages",),
    }
    kept = {field for kind in outcome.kinds for field in named.get(kind, (kind,))}
    changed = other._replace(**{field: getattr(person, field) for field in kept})
    assert letter(expression, changed) == outcome.letter


def test_a_verdict_names_the_kinds_of_fact_that_made_it() -> None:
    adult_or_pregnant = any_of(
        holds(Criterion(kind="age", minimum=18)), holds(Criterion(kind="trait", one_of=["pregnant"]))
    )
    assert evaluated(adult_or_pregnant, Circumstances(age=20)) == ("y", ("age",))
    assert evaluated(adult_or_pregnant, Circumstances(age=15)) == ("u", ("trait",))
    assert evaluated(adult_or_pregnant, Circumstances()) == ("u", ("age", "trait"))
    minor = Circumstances(age=15, not_traits=frozenset({"pregnant"}))
    assert evaluated(adult_or_pregnant, minor) == ("n", ("age", "trait"))


@given(expression=EXPRESSIONS)
def test_an_expression_is_the_same_after_its_way_over_json(expression: Expression) -> None:
    assert Expression.model_validate_json(expression.model_dump_json()) == expression


TEST = Node(op="test", test=YES)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([], "at least 1"),
        ([TEST, TEST], "come to 2 results"),
        ([TEST, Node(op="all", of=2)], "combines 2 results, but there are 1"),
        ([Node(op="not", of=1)], "combines 1 results, but there are 0"),
        ([TEST] * 65, "at most 64"),
        ([TEST] + [Node(op="not", of=1)] * 8, "nested 9 deep"),
    ],
)
def test_nodes_that_come_to_no_result_are_refused(nodes: list[Node], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Expression(nodes=nodes)


@pytest.mark.parametrize(
    ("criterion", "reason"),
    [
        ({"kind": "age", "minimum": 5, "maximum": 4}, "minimum 5 is above maximum 4"),
        ({"kind": "age"}, "tested by minimum, maximum or both"),
        ({"kind": "age", "minimum": 1, "one_of": ["a"]}, "not by one_of"),
        ({"kind": "area", "minimum": 1}, "tested by one_of"),
        ({"kind": "area"}, "one_of is empty"),
        ({"kind": "trait", "one_of": ["tall"]}, "'tall' is not one of"),
        ({"kind": "document", "one_of": ["photo_id", "diary"]}, "'diary' is not one of"),
        ({"kind": "income", "minimum": -1}, "greater than or equal to 0"),
        ({"kind": "star_sign", "one_of": ["leo"]}, "Input should be"),
    ],
)
def test_a_criterion_nobody_can_meet_is_refused(criterion: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Criterion.model_validate(criterion)


@pytest.mark.parametrize(
    "node",
    [
        {"op": "test"},
        {"op": "all", "of": 0},
        {"op": "not", "of": 2},
        {"op": "test", "of": 1, "test": YES},
        {"op": "any", "of": 1, "test": YES},
    ],
)
def test_a_node_takes_just_what_it_needs(node: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Node.model_validate(node)


ADULTS = holds(Criterion(kind="age", minimum=18))
SENIORS = holds(Criterion(kind="age", minimum=60))
VETERANS = holds(Criterion(kind="trait", one_of=["veteran"]))
POOR = holds(Criterion(kind="income", maximum=200))


def kinds_that_count(definition: ServiceDefinition) -> list[list[str]]:
    return [[node.test.kind for node in part if node.test is not None] for part in effective(definition)]


def test_the_narrower_level_wins_for_the_kinds_it_speaks_of() -> None:
    definition = service(
        eligibility=Eligibility(service=VETERANS, program=all_of(SENIORS, POOR), organisation=ADULTS)
    )
    assert kinds_that_count(definition) == [["trait"], ["age"], ["income"]]
    program = prepared(definition)
    assert program is not None
    veteran = Circumstances(age=40, income=100, traits=frozenset({"veteran"}))
    assert evaluate(program, veteran) == ("n", ("age",))
    assert evaluate(program, veteran._replace(age=60)).letter == "y"


def test_ages_of_the_service_pass_over_those_of_its_program_and_organisation() -> None:
    definition = service(
        ages=AgeRange(minimum=12, maximum=25), eligibility=Eligibility(program=ADULTS, organisation=POOR)
    )
    assert kinds_that_count(definition) == [["income"]]


def test_a_wider_part_that_tests_several_kinds_is_passed_over_as_a_whole() -> None:
    wider = all_of(any_of(ADULTS, VETERANS), POOR)
    definition = service(eligibility=Eligibility(service=SENIORS, organisation=wider))
    assert kinds_that_count(definition) == [["age"], ["income"]]


def test_a_part_passed_over_at_one_level_still_speaks_for_the_levels_beyond() -> None:
    definition = service(
        ages=AgeRange(minimum=12),
        eligibility=Eligibility(program=any_of(ADULTS, VETERANS), organisation=VETERANS),
    )
    assert kinds_that_count(definition) == []


@given(EXPRESSIONS, people())
def test_the_only_level_that_speaks_counts_whole(expression: Expression, person: Circumstances) -> None:
    for level in ("service", "program", "organisation"):
        program = prepared(service(eligibility=Eligibility.model_validate({level: expression})))
        assert program is not None
        assert evaluate(program, person).letter == letter(expression, person)


def test_a_service_that_asks_nothing_has_no_criteria() -> None:
    assert prepared(service()) is None
    assert prepared(service(ages=AgeRange(minimum=18))) is None


def test_all_documents_are_needed_and_one_not_asked_about_is_unknown() -> None:
    program = prepared(service(documents=["photo_id", "lease"]))
    assert program is not None
    both = frozenset({"photo_id", "lease"})
    assert evaluate(program, Circumstances(documents=both)).letter == "y"
    assert evaluate(program, Circumstances(documents=frozenset({"photo_id"}))) == ("u", ("document",))
    one_lacks = Circumstances(documents=frozenset({"lease"}), not_documents=frozenset({"photo_id"}))
    assert evaluate(program, one_lacks) == ("n", ("document",))


@pytest.mark.parametrize(
    ("costs", "can_pay", "verdict"),
    [
        ([Cost(amount=0)], None, "y"),
        ([Cost(amount=0)], False, "y"),
        ([Cost(amount=500)], None, "u"),
        ([Cost(amount=500)], True, "y"),
        ([Cost(amount=500)], False, "n"),
        ([Cost(amount=500), Cost(amount=0, condition="under 18")], False, "u"),
        ([Cost(amount=500), Cost(amount=0)], False, "y"),
    ],
)
def test_who_can_not_pay_is_served_by_what_is_free(
    costs: list[Cost], can_pay: bool | None, verdict: str
) -> None:
    program = prepared(service(costs=costs))
    assert program is not None
    said = frozenset({"cannot_pay"})
    person = Circumstances(
        traits=said if can_pay is False else frozenset(), not_traits=said if can_pay else frozenset()
    )
    assert evaluate(program, person) == (verdict, ("cost",))


ENGLISH = holds(Criterion(kind="language", one_of=["en"]))
PHOTO = holds(Criterion(kind="document", one_of=["photo_id"]))
CANNOT_PAY = holds(Criterion(kind="trait", one_of=["cannot_pay"]))
MANY_CHILDREN = holds(Criterion(kind="children", minimum=5))


def at_most_people(size: int) -> Expression:
    return holds(Criterion(kind="household_size", maximum=size))


SQUARE = Polygon(rings=[Ring(points=[0, 0, 0, 9, 9, 9, 9, 0])])


@pytest.mark.parametrize(
    ("more", "impossible"),
    [
        ({"eligibility": Eligibility(service=all_of(SENIORS, negated(ADULTS)))}, True),
        ({"eligibility": Eligibility(service=all_of(ADULTS, negated(SENIORS)))}, False),
        (
            {
                "ages": AgeRange(minimum=12, maximum=25),
                "eligibility": Eligibility(service=any_of(SENIORS, VETERANS)),
            },
            False,
        ),
        (
            {"ages": AgeRange(minimum=12, maximum=25), "eligibility": Eligibility(service=SENIORS)},
            True,
        ),
        (
            {"ages": AgeRange(minimum=12, maximum=25), "eligibility": Eligibility(program=SENIORS)},
            False,
        ),
        ({"eligibility": Eligibility(service=all_of(VETERANS, negated(VETERANS)))}, True),
        ({"eligibility": Eligibility(service=negated(any_of(VETERANS, negated(VETERANS))))}, True),
        (
            {
                "eligibility": Eligibility(
                    service=all_of(
                        holds(Criterion(kind="area", one_of=["a", "b"])),
                        holds(Criterion(kind="area", one_of=["c"])),
                    )
                )
            },
            True,
        ),
        (
            {
                "areas": ["a"],
                "eligibility": Eligibility(service=holds(Criterion(kind="area", one_of=["c"]))),
            },
            True,
        ),
        (
            {
                "areas": ["a"],
                "polygons": [SQUARE],
                "eligibility": Eligibility(service=holds(Criterion(kind="area", one_of=["c"]))),
            },
            False,
        ),
        (
            {
                "eligibility": Eligibility(
                    service=all_of(
                        holds(Criterion(kind="language", one_of=["es"])),
                        holds(Criterion(kind="language", one_of=["en"])),
                    )
                )
            },
            False,
        ),
        ({"areas": []}, True),
        ({"areas": [], "polygons": [SQUARE]}, False),
        ({"areas": [f"a{number}" for number in range(500)]}, False),
        ({"languages": []}, True),
        ({"languages": ["en"], "eligibility": Eligibility(service=negated(ENGLISH))}, True),
        ({"languages": ["EN"], "eligibility": Eligibility(service=negated(ENGLISH))}, True),
        ({"languages": ["en", "es"], "eligibility": Eligibility(service=negated(ENGLISH))}, False),
        ({"languages": ["*"], "eligibility": Eligibility(service=negated(ENGLISH))}, False),
        ({"documents": ["photo_id"], "eligibility": Eligibility(service=negated(PHOTO))}, True),
        ({"documents": ["lease"], "eligibility": Eligibility(service=negated(PHOTO))}, False),
        ({"costs": [Cost(amount=500)], "eligibility": Eligibility(service=CANNOT_PAY)}, True),
        (
            {
                "costs": [Cost(amount=500), Cost(amount=0, condition="under 18")],
                "eligibility": Eligibility(service=CANNOT_PAY),
            },
            False,
        ),
        ({"costs": [Cost(amount=500)], "eligibility": Eligibility(service=negated(CANNOT_PAY))}, False),
        ({"eligibility": Eligibility(service=all_of(MANY_CHILDREN, at_most_people(4)))}, True),
        ({"eligibility": Eligibility(service=all_of(MANY_CHILDREN, at_most_people(5)))}, False),
        ({}, False),
    ],
)
def test_criteria_that_nobody_can_meet_are_known_as_such(more: dict[str, object], impossible: bool) -> None:
    assert unmeetable(service(**more)) is impossible


@given(EXPRESSIONS, people())
def test_what_somebody_meets_is_never_called_unmeetable(
    expression: Expression, person: Circumstances
) -> None:
    of_whom = person.children or 0
    as_there_are = of_whom <= (of_whom if person.household_size is None else person.household_size)
    if as_there_are and letter(expression, person) == "y":
        assert not unmeetable(service(eligibility=Eligibility(service=expression)))


def test_an_expression_with_too_many_ways_is_taken_to_be_such_as_can_be_met() -> None:
    either = any_of(VETERANS, SENIORS)
    never = all_of(*[either] * 12, negated(VETERANS), negated(ADULTS))
    assert not unmeetable(service(eligibility=Eligibility(service=never)))


def test_facts_become_circumstances() -> None:
    facts = Facts(
        needs=[Need(code="1121")],
        age=NumberFact(status="stated", value=30),
        area=TextFact(status="unknown"),
        languages=ListFact(status="stated", values=["es-MX"]),
        household=Household(size=NumberFact(status="stated", value=3)),
        traits=[
            TraitAnswer(trait="veteran", answer="yes"),
            TraitAnswer(trait="pregnant", answer="no"),
            TraitAnswer(trait="parent", answer="unknown"),
        ],
        documents=[DocumentAnswer(document="photo_id", answer="no")],
    )
    assert circumstances_of(facts) == Circumstances(
        age=30,
        languages=("es-mx",),
        household_size=3,
        traits=frozenset({"veteran"}),
        not_traits=frozenset({"pregnant"}),
        not_documents=frozenset({"photo_id"}),
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"traits": [{"trait": "veteran", "answer": "yes"}] * 2}, "a trait is answered twice"),
        ({"documents": [{"document": "lease", "answer": "no"}] * 2}, "a document is answered twice"),
        ({"place": {"status": "stated", "latitude": 1}}, "latitude and a longitude"),
        ({"place": {"status": "stated"}}, "if and only if"),
        ({"place": {"status": "stated", "latitude": 90_000_001, "longitude": 0}}, "less than or equal"),
        ({"travel": {"status": "stated", "value": "horse"}}, "Input should be"),
    ],
)
def test_facts_that_contradict_themselves_are_refused(more: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Facts.model_validate({"needs": [{"code": "1121"}]} | more)


def test_every_trait_and_document_can_be_asked_for() -> None:
    for kind, words in (("trait", get_args(Trait)), ("document", get_args(Document))):
        assert list(words) == sorted(set(words))
        for word in words:
            holds(Criterion.model_validate({"kind": kind, "one_of": [word]}))


def test_a_place_off_the_earth_is_refused() -> None:
    for latitude, longitude in ((90_000_001, 0), (-90_000_001, 0), (0, 180_000_001), (0, -180_000_001)):
        with pytest.raises(ValidationError):
            Place(latitude=latitude, longitude=longitude)
