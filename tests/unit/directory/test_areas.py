"""One name for an area, whoever says it."""

from __future__ import annotations

import pytest

from referral_bus.contracts.areas import area_code, facts_with_areas, service_with_areas
from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.facts import Facts, Need, TextFact
from referral_bus.directory.values import area_name
from tests.support.deciding import offers


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Cook County", "cook-county"),
        ("cook county", "cook-county"),
        ("cook-county", "cook-county"),
        ("Cook", "cook"),
        ("00019", "00019"),
        ("SW1A", "SW1A"),
        ("NYC", "NYC"),
        ("ocd-division/country:us", "ocd-division/country:us"),
        ("Do\N{LATIN SMALL LETTER N WITH TILDE}a Ana", "dona-ana"),
    ],
)
def test_an_area_has_the_same_name_in_a_directory_and_of_a_person(text: str, code: str) -> None:
    assert area_code(text) == area_code(code) == area_name(text) == code
    facts = Facts(needs=[Need(code="1135")], area=TextFact(status="stated", value=text))
    assert facts_with_areas(facts).area.value == code


def test_an_area_the_bus_has_no_letters_for_stays_as_it_is_said() -> None:
    facts = Facts(
        needs=[Need(code="1135")], area=TextFact(status="stated", value="\N{GREEK SMALL LETTER PI}")
    )
    assert facts_with_areas(facts) == facts


def test_a_published_service_names_its_areas_as_an_import_does() -> None:
    criterion = holds(Criterion(kind="area", one_of=["Cook", "00019"]))
    said = offers("beds", areas=["Cook", "cook", "*", "00019"], eligibility=Eligibility(service=criterion))
    found = service_with_areas(said)
    assert found.areas == ["cook", "*", "00019"]
    assert found.eligibility == Eligibility(service=holds(Criterion(kind="area", one_of=["cook", "00019"])))
    assert service_with_areas(found) == found
