"""The people of the demo: the same for a seed, of a plausible mix, and recognisably made up."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from referral_bus.demo.county import PROGRAMS, County
from referral_bus.demo.people import Person, people
from referral_bus.directory.taxonomy import terms


@pytest.fixture(scope="module")
def county() -> County:
    return County.make(seed=1)


@pytest.fixture(scope="module")
def crowd(county: County) -> list[Person]:
    return list(people(county, 3000))


def test_the_same_seed_makes_the_same_people(county: County, crowd: list[Person]) -> None:
    assert list(people(county, 50)) == crowd[:50]
    assert list(people(county, 50, seed=2)) != crowd[:50]


def test_a_tenth_is_in_crisis_and_a_quarter_urgent(crowd: list[Person]) -> None:
    urgencies = Counter(person.request.urgency for person in crowd)
    assert urgencies["crisis"] / len(crowd) == pytest.approx(0.10, abs=0.02)
    assert urgencies["urgent"] / len(crowd) == pytest.approx(0.25, abs=0.03)


def test_every_agency_refers_to_every_region(county: County, crowd: list[Person]) -> None:
    pairs = {(person.agency.organisation, person.request.region) for person in crowd}
    assert pairs == {(agency.organisation, region) for agency in county.agencies for region in county.regions}


def test_no_agency_uses_a_reference_for_a_person_twice(crowd: list[Person]) -> None:
    assert len({(person.agency.organisation, person.request.subject) for person in crowd}) == len(crowd)


def test_areas_are_of_the_region_the_person_is_referred_to(county: County, crowd: list[Person]) -> None:
    for person in crowd:
        area, region = person.request.facts.area.value, person.request.region
        assert region is not None
        assert area is None or area in county.areas[region]


def test_facts_are_now_and_then_unknown_or_not_said(crowd: list[Person]) -> None:
    for fact in ("age", "languages", "area"):
        found = Counter(getattr(person.request.facts, fact).status for person in crowd)
        assert found.keys() == {"stated", "unknown", "not_said"}
        assert found["stated"] > 0.8 * len(crowd)


def test_most_needs_are_met_by_a_program_and_a_few_by_none(crowd: list[Person]) -> None:
    offered = {program.term for program in PROGRAMS}
    codes = [need.code for person in crowd for need in person.request.facts.needs]
    unmet = [code for code in codes if code not in offered]
    assert set(codes) <= terms().keys()
    assert 0 < len(unmet) < 0.05 * len(codes)


def test_identities_are_recognisably_made_up(crowd: list[Person]) -> None:
    for person in islice(crowd, 500):
        identity = person.request.identity
        assert identity is not None
        assert identity.phone is None or identity.phone.startswith("+1 555 555 01")
        assert identity.email is None or identity.email.endswith("@example.org")
