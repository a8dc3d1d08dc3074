"""The vocabularies that come with the bus: whole, owned to, and such that needs find services by them."""

from __future__ import annotations

from typing import get_args

from referral_bus.contracts.criteria import Trait
from referral_bus.directory.taxonomy import categories, gravity_crosswalk, open_eligibility, terms, trait_of
from services.matching.core.judging.vocabularies import Found, Vocabularies


def adopted() -> Vocabularies:
    found = Vocabularies()
    found.put_taxonomy(open_eligibility())
    found.put_crosswalk(gravity_crosswalk())
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


def test_the_crosswalk_leads_to_terms_that_there_are_and_says_whose_it_is() -> None:
    crosswalk = gravity_crosswalk()
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
    assert {code for vocabulary, code in found if vocabulary == "gravity"} == {
        one.source for one in gravity_crosswalk().mappings
    }


def _widest(code: str) -> str:
    while (parent := terms()[code].parent) is not None:
        code = parent
    return terms()[code].name.lower()
