"""The vocabularies that come with the bus: whole, owned to, and such that needs find services by them."""

from __future__ import annotations

from typing import get_args

import pytest

from referral_bus.contracts.criteria import Trait
from referral_bus.contracts.vocabularies import Crosswalk
from referral_bus.directory.taxonomy import categories, crosswalks, open_eligibility, terms, trait_of
from services.matching.core.judging.vocabularies import Found, Vocabularies


def adopted() -> Vocabularies:
    found = Vocabularies()
    found.put_taxonomy(open_eligibility())
    for crosswalk in crosswalks():
        found.put_crosswalk(crosswalk)
    return found


def test_open_eligibility_is_a_taxonomy_with_its_owner_and_licence() -> None:
    taxonomy = open_eligibility()
    assert (taxonomy.taxonomy, taxonomy.version) == ("openeligibility", 1)
    assert taxonomy.attribution is not None
    assert "Aunt Bertha" in taxonomy.attribution and "CC BY-SA 3.0" in taxonomy.attribution
    assert {term.code: term.parent for term in taxonomy.terms} == {
        term.code: term.parent for term in terms().values()
    }


def test_terms_of_one_name_mean_the_same_among_kinds_of_help_and_among_situations() -> None:
    for term in open_eligibility().terms:
        if term.same_as is not None:
            assert terms()[term.same_as].name.casefold() == terms()[term.code].name.casefold()
            assert (int(term.same_as) < 20_000) == (int(term.code) < 20_000)


def test_food_in_an_emergency_is_found_under_emergency_and_under_food() -> None:
    found = adopted()
    for code in ("1101", "1102", "1120", "1128"):
        met = {one.term for one in found.finds("openeligibility", code)}
        assert {"openeligibility 1120", "openeligibility 1128"} <= met
    assert "openeligibility 1130" not in {one.term for one in found.finds("openeligibility", "1120")}


def test_a_need_coded_by_gravity_finds_services_coded_by_open_eligibility() -> None:
    found = {one.term: one for one in adopted().finds("gravity", "food-insecurity")}
    mapping = "gravity-openeligibility@1"
    assert found["openeligibility 1102"] == Found("openeligibility 1102", mapping, 950)
    assert found["openeligibility 1130"] == Found("openeligibility 1130", mapping, 950)
    homeless = {one.term: one for one in adopted().finds("gravity", "homelessness")}
    assert homeless["openeligibility 1121"].confidence == 900
    assert homeless["openeligibility 1141"].confidence == 500


def test_a_need_coded_by_huds_project_type_finds_services_coded_by_open_eligibility() -> None:
    found = {one.term: one for one in adopted().finds("hud", "1")}
    mapping = "hud-openeligibility@1"
    assert found["openeligibility 1121"] == Found("openeligibility 1121", mapping, 900)
    assert found["openeligibility 1135"] == Found("openeligibility 1135", mapping, 900)
    rehousing = {one.term: one.confidence for one in adopted().finds("hud", "13")}
    assert (rehousing["openeligibility 1140"], rehousing["openeligibility 1136"]) == (650, 500)
    refuge = {one.term for one in adopted().finds("hud", "8")}
    assert "openeligibility 1125" not in refuge and "openeligibility 1151" not in refuge


def test_of_huds_project_types_those_without_a_term_are_left_out() -> None:
    [hud] = [one for one in crosswalks() if one.source == "hud"]
    left_out = {"4", "5", "6", "7", "11"}
    assert {mapping.source for mapping in hud.mappings} == {str(one) for one in range(15)} - left_out
    assert not any(one.mapping for code in left_out for one in adopted().finds("hud", code))


@pytest.mark.parametrize("crosswalk", crosswalks(), ids=lambda one: one.crosswalk)
def test_a_crosswalk_leads_to_terms_that_there_are_and_says_whose_it_is(crosswalk: Crosswalk) -> None:
    assert all(mapping.target in terms() for mapping in crosswalk.mappings)
    assert crosswalk.attribution is not None and "own judgement" in crosswalk.attribution


def test_situations_of_open_eligibility_say_traits_of_a_person() -> None:
    told = {code: trait for code in terms() if (trait := trait_of(code)) is not None}
    assert told["20010"] == "veteran"
    assert min(int(code) for code in told) > 20_000
    assert set(get_args(Trait)) - set(told.values()) == {"cannot_pay"}


def test_a_code_is_of_one_of_eleven_kinds_of_help_and_a_situation_of_none() -> None:
    found = categories()
    assert len(set(found.values())) == 11
    kinds = [found["openeligibility", code] for code in ("1102", "1121", "1130")]
    assert kinds == [_widest("1102"), _widest("1121"), _widest("1130")]
    assert (
        found["gravity", "homelessness"] == "emergency" and found["gravity", "material-hardship"] == "goods"
    )
    assert ("openeligibility", "20058") not in found
    assert (found["hud", "1"], found["hud", "13"]) == ("emergency", "housing")
    for crosswalk in crosswalks():
        assert {code for vocabulary, code in found if vocabulary == crosswalk.source} == {
            one.source for one in crosswalk.mappings
        }


def _widest(code: str) -> str:
    while (parent := terms()[code].parent) is not None:
        code = parent
    return terms()[code].name.lower()
