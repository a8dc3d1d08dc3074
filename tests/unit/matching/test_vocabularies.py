"""By which codes of services a need is met, by which mapping and how surely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy, TaxonomyTerm, TermMapping
from services.matching.core.judging.vocabularies import Found, Vocabularies


def taxonomy(name: str, version: int = 1, **parents: str | None) -> Taxonomy:
    return Taxonomy(
        taxonomy=name,
        version=version,
        terms=[TaxonomyTerm(code=code, parent=parent) for code, parent in parents.items()],
    )


def crosswalk(
    name: str, source: str, target: str, *mappings: tuple[str, str, int], relation: str = "broader"
) -> Crosswalk:
    return Crosswalk.model_validate(
        {
            "crosswalk": name,
            "source": source,
            "target": target,
            "mappings": [
                {"source": a, "target": b, "relation": relation, "confidence": confidence}
                for a, b, confidence in mappings
            ],
        }
    )


FOOD = taxonomy("ours", food=None, pantry="food", delivery="food", cold="delivery", housing=None)


def adopted(*adopting: Taxonomy | Crosswalk) -> Vocabularies:
    found = Vocabularies()
    for one in adopting:
        if isinstance(one, Taxonomy):
            found.put_taxonomy(one)
        else:
            found.put_crosswalk(one)
    return found


def test_without_any_vocabulary_a_need_finds_its_own_code_alone() -> None:
    assert Vocabularies().finds("ours", "food") == (Found("ours food", None, 1000),)


def test_a_need_finds_what_is_narrower_and_nothing_wider() -> None:
    found = adopted(FOOD)
    assert found.finds("ours", "food") == (
        Found("ours cold", None, 1000),
        Found("ours delivery", None, 1000),
        Found("ours food", None, 1000),
        Found("ours pantry", None, 1000),
    )
    assert found.finds("ours", "cold") == (Found("ours cold", None, 1000),)


def test_terms_that_mean_the_same_find_each_other_and_what_is_below() -> None:
    terms = [
        TaxonomyTerm(code="emergency"),
        TaxonomyTerm(code="shelter-1", parent="emergency"),
        TaxonomyTerm(code="housing"),
        TaxonomyTerm(code="shelter-2", parent="housing", same_as="shelter-1"),
        TaxonomyTerm(code="night", parent="shelter-2"),
    ]
    found = adopted(Taxonomy(taxonomy="ours", terms=terms))
    everything = ["ours night", "ours shelter-1", "ours shelter-2"]
    assert [one.term for one in found.finds("ours", "shelter-1")] == everything
    assert [one.term for one in found.finds("ours", "shelter-2")] == everything
    assert [one.term for one in found.finds("ours", "emergency")] == ["ours emergency", *everything]
    assert [one.term for one in found.finds("ours", "night")] == ["ours night"]


def test_a_need_finds_a_service_coded_in_another_vocabulary_by_the_surest_mapping() -> None:
    found = adopted(
        FOOD,
        crosswalk("b", "theirs", "ours", ("hunger", "food", 900), ("hunger", "cold", 400)),
        crosswalk("a", "theirs", "ours", ("hunger", "pantry", 900), ("hunger", "delivery", 950)),
    )
    assert found.finds("theirs", "hunger") == (
        Found("ours cold", "a@1", 950),
        Found("ours delivery", "a@1", 950),
        Found("ours food", "b@1", 900),
        Found("ours pantry", "a@1", 900),
        Found("theirs hunger", None, 1000),
    )


def test_a_mapping_of_a_narrower_term_counts_and_one_of_a_wider_term_does_not() -> None:
    theirs = taxonomy("theirs", hardship=None, hunger="hardship")
    found = adopted(FOOD, theirs, crosswalk("x", "theirs", "ours", ("hunger", "pantry", 800)))
    assert Found("ours pantry", "x@1", 800) in found.finds("theirs", "hardship")
    up = adopted(FOOD, theirs, crosswalk("x", "theirs", "ours", ("hardship", "housing", 800)))
    assert [one.term for one in up.finds("theirs", "hunger")] == ["theirs hunger"]


@pytest.mark.parametrize(
    ("relation", "reads_back"), [("equal", True), ("broader", False), ("related", False)]
)
def test_only_what_is_equal_reads_both_ways(relation: str, reads_back: bool) -> None:
    found = adopted(crosswalk("x", "theirs", "ours", ("hunger", "food", 800), relation=relation))
    assert (Found("theirs hunger", "x@1", 800) in found.finds("ours", "food")) is reads_back


def test_just_one_crosswalk_is_taken() -> None:
    found = adopted(
        crosswalk("x", "a", "b", ("1", "2", 900)),
        crosswalk("y", "b", "c", ("2", "3", 900)),
    )
    assert [one.term for one in found.finds("a", "1")] == ["a 1", "b 2"]


def test_a_new_version_replaces_the_former() -> None:
    found = adopted(FOOD, crosswalk("x", "theirs", "ours", ("hunger", "food", 900)))
    assert found.finds("theirs", "hunger")
    found.put_taxonomy(taxonomy("ours", version=2, food=None, pantry="food"))
    found.put_crosswalk(
        crosswalk("x", "theirs", "ours", ("hunger", "pantry", 700)).model_copy(update={"version": 2})
    )
    assert found.finds("ours", "food")[1] == Found("ours pantry", None, 1000)
    assert found.finds("theirs", "hunger")[0] == Found("ours pantry", "x@2", 700)


CODES = tuple("abcdef")
TREES = st.tuples(*(st.none() | st.sampled_from(CODES[:place]) for place in range(1, len(CODES)))).map(
    lambda parents: taxonomy("ours", **dict(zip(CODES, (None, *parents), strict=True)))
)
WALKS = st.lists(
    st.tuples(st.sampled_from(CODES), st.sampled_from("xyz"), st.integers(1, 1000)),
    min_size=1,
    unique_by=lambda mapping: mapping[:2],
).map(lambda mappings: crosswalk("walk", "ours", "theirs", *mappings))


@given(TREES, WALKS, st.permutations(range(2)))
def test_what_is_found_depends_neither_on_the_order_of_adoption_nor_on_what_was_asked_before(
    tree: Taxonomy, walk: Crosswalk, order: list[int]
) -> None:
    adopting: list[Taxonomy | Crosswalk] = [tree, walk]
    one, other = adopted(*adopting), adopted(*(adopting[place] for place in order))
    for code in reversed(CODES):
        other.finds("ours", code)
    for code in CODES:
        assert one.finds("ours", code) == other.finds("ours", code)


@given(TREES, WALKS)
def test_a_wider_need_finds_all_that_a_narrower_one_does_and_as_surely(
    tree: Taxonomy, walk: Crosswalk
) -> None:
    found = adopted(tree, walk)
    for term in tree.terms:
        if term.parent is None:
            continue
        wider = {one.term: one.confidence for one in found.finds("ours", term.parent)}
        for one in found.finds("ours", term.code):
            assert wider[one.term] >= one.confidence


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ([("a", "b"), ("b", "a")], "round in a circle"),
        ([("a", "a")], "round in a circle"),
        ([("a", "z")], "'z', which is not in the taxonomy"),
        ([("a", None), ("a", None)], "stands twice"),
        ([("t0", None), *((f"t{n}", f"t{n - 1}") for n in range(1, 17))], "levels"),
        ([], "at least 1"),
    ],
)
def test_a_taxonomy_that_is_no_tree_is_refused(terms: list[tuple[str, str | None]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Taxonomy(taxonomy="ours", terms=[TaxonomyTerm(code=code, parent=parent) for code, parent in terms])


def test_a_taxonomy_of_sixteen_levels_is_taken_in_whatever_order_it_is_told() -> None:
    terms = [TaxonomyTerm(code="t0"), *(TaxonomyTerm(code=f"t{n}", parent=f"t{n - 1}") for n in range(1, 16))]
    for order in (terms, terms[::-1]):
        found = adopted(Taxonomy(taxonomy="ours", terms=order))
        assert len(found.finds("ours", "t0")) == 16


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"target": "theirs"}, "from one vocabulary to another"),
        (
            {"mappings": [TermMapping(source="a", target="b", relation="equal", confidence=1)] * 2},
            "mapped twice",
        ),
        (
            {"mappings": [{"source": "a", "target": "b", "relation": "equal", "confidence": 0}]},
            "greater than or equal",
        ),
        (
            {"mappings": [{"source": "a", "target": "b", "relation": "equal", "confidence": 1001}]},
            "less than or equal",
        ),
    ],
)
def test_what_is_no_crosswalk_is_refused(more: dict[str, object], reason: str) -> None:
    plain = {
        "crosswalk": "x",
        "source": "theirs",
        "target": "ours",
        "mappings": [TermMapping(source="a", target="b", relation="equal", confidence=1)],
    }
    with pytest.raises(ValidationError, match=reason):
        Crosswalk.model_validate(plain | more)
