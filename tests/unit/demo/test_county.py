"""The synthetic county: the same for a seed, whole, and imported as a real directory is."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from referral_bus.demo.county import COUNTED_AT, PROGRAMS, REGIONS, County, assumptions, counted_now
from referral_bus.directory.reader import read


@pytest.fixture(scope="module")
def county() -> County:
    return County.make(seed=1)


def test_a_county_has_three_regions_forty_organisations_and_two_hundred_services(county: County) -> None:
    assert county.regions == REGIONS
    assert len(county.organisations) == len({one.organisation for one in county.organisations}) == 40
    assert len(county.services) == len({one.service for one in county.services}) == 200


def test_five_agencies_of_five_kinds_refer(county: County) -> None:
    assert [agency.kind for agency in county.agencies] == [
        "police",
        "hospital",
        "school",
        "shelter",
        "helpline",
    ]
    assert all("agency" in agency.roles for agency in county.agencies)
    assert {agency.home_region for agency in county.agencies} == set(REGIONS)


def test_the_same_seed_makes_the_same_bytes(county: County) -> None:
    bytes_of = [json.dumps(one.as_hsds()) for one in (county, County.make(seed=1), County.make(seed=2))]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def test_places_are_counted_when_somebody_says_and_all_else_is_the_seeds(county: County) -> None:
    later = County.make(seed=1, counted_at="2027-02-01T09:30:00+00:00")
    units = [unit for service in later.services for unit in service.units]
    assert {unit.counted_at for unit in units} == {1_801_474_200_000}
    said = json.dumps(later.as_hsds()).replace("2027-02-01T09:30:00+00:00", COUNTED_AT)
    assert said == json.dumps(county.as_hsds())


def test_places_of_a_county_that_is_published_now_are_counted_now() -> None:
    before = int(time.time()) * 1000
    [counted_at] = {
        unit.counted_at
        for service in County.make(seed=1, counted_at=counted_now()).services
        for unit in service.units
    }
    assert counted_at is not None
    assert before <= counted_at <= time.time() * 1000


def test_the_county_imports_without_a_problem_and_nothing_assumed(county: County) -> None:
    for found in county.imports.values():
        assert found.problems == []
        assert found.assumed == {}
        assert [file.left_out for file in found.files] == [0]


def test_the_county_written_to_a_file_and_read_gives_the_same_services(
    county: County, tmp_path: Path
) -> None:
    services = []
    for region in county.regions:
        file = tmp_path / f"{region}.json"
        file.write_text(json.dumps(county.as_hsds(region)), encoding="utf-8")
        services += read(file, assumptions(region)).services
    assert services == county.services


def test_each_service_says_what_its_hsds_document_says(county: County) -> None:
    for document, service in zip(county.as_hsds(), county.services, strict=True):
        assert service.service.endswith(document["id"])
        assert service.name == document["name"]
        assert [need.code for need in service.terms] == [document["attributes"][0]["taxonomy_term"]["code"]]
        assert service.areas == ([area["name"] for area in document.get("service_areas", [])] or None)
        assert service.languages == ([language["code"] for language in document.get("languages", [])] or None)
        (capacity,), (unit,) = document["capacities"], service.units
        assert (unit.total, unit.available) == (capacity["maximum"], capacity["available"])
        ages = (document.get("minimum_age"), document.get("maximum_age"))
        assert (service.ages is None) == (ages == (None, None))
        assert service.ages is None or (service.ages.minimum, service.ages.maximum) == (
            ages[0] or 0,
            ages[1] or 150,
        )


def test_every_need_is_met_in_every_region(county: County) -> None:
    met: Counter[tuple[str, str]] = Counter(
        (service.service.split("-")[1], need.code) for service in county.services for need in service.terms
    )
    assert set(met) == {(region, program.term) for region in REGIONS for program in PROGRAMS}
    assert min(met.values()) >= 3


def test_providers_offer_in_their_home_region_only(county: County) -> None:
    homes = {one.organisation: one.home_region for one in county.organisations}
    assert all(
        service.service.startswith(f"sv-{homes[service.organisation]}-") for service in county.services
    )
    assert all(service.organisation in homes for service in county.services)


def test_regions_can_be_named() -> None:
    county = County.make(seed=1, regions=["east", "west"])
    assert {service.service.split("-")[1] for service in county.services} == {"east", "west"}
    assert len(county.organisations) == 40


def test_regions_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="each named once"):
        County.make(regions=["east", "east"])
