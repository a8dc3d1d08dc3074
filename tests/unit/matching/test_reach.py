"""Distances in whole numbers, and who is within reach."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from referral_bus.contracts.facts import Facts, Need, PlaceFact, TravelFact
from referral_bus.contracts.places import Place, ReachLimit, Travel
from referral_bus.contracts.services import ServiceDefinition, Unit
from services.matching.core.judging.reach import (
    EARTH_RADIUS_M,
    FARTHEST_M,
    Reaching,
    Travelling,
    distance,
    limits,
    metres,
    point,
    reaching,
    straight,
    straight_of,
    travelling,
)
from tests.support.judging import judge_reach

LATITUDES = st.integers(-90_000_000, 90_000_000)
LONGITUDES = st.integers(-180_000_000, 180_000_000)
PLACES = st.tuples(LATITUDES, LONGITUDES)
HALF_WAY_ROUND = round(math.pi * EARTH_RADIUS_M)

CHICAGO = (41_878_113, -87_629_799)
EVANSTON = (42_045_072, -87_687_697)


def haversine(a: tuple[int, int], b: tuple[int, int]) -> float:
    """The textbook formula in floating point."""
    (north, east), (north_b, east_b) = (
        tuple(math.radians(value / 1e6) for value in place) for place in (a, b)
    )
    h = math.sin((north - north_b) / 2) ** 2
    h += math.cos(north) * math.cos(north_b) * math.sin((east - east_b) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def between(a: tuple[int, int], b: tuple[int, int]) -> int:
    return metres(point(*a), point(*b))


@given(PLACES, PLACES)
@example((0, 0), (0, 180_000_000))
@example((90_000_000, 0), (-90_000_000, 0))
@example((45_000_000, 179_999_999), (45_000_000, -179_999_999))
def test_a_distance_is_that_of_the_haversine_formula(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert abs(between(a, b) - haversine(a, b)) <= 1


@given(PLACES, st.integers(-300_000, 300_000), st.integers(-300_000, 300_000))
def test_a_short_distance_is_that_of_the_haversine_formula(a: tuple[int, int], north: int, east: int) -> None:
    b = (max(-90_000_000, min(90_000_000, a[0] + north)), a[1] + east)
    assert abs(between(a, b) - haversine(a, b)) <= 1


@given(PLACES, PLACES)
def test_it_is_as_far_there_as_back(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert between(a, b) == between(b, a)
    assert 0 <= between(a, b) <= HALF_WAY_ROUND


@given(PLACES)
def test_a_place_is_no_way_from_itself_whatever_side_of_the_map_it_is_written_on(a: tuple[int, int]) -> None:
    assert between(a, a) == 0
    assert between(a, (a[0], a[1] + 360_000_000)) == 0


@given(PLACES, PLACES, PLACES)
def test_a_way_round_is_no_shorter_but_for_rounding(
    a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]
) -> None:
    assert between(a, c) <= between(a, b) + between(b, c) + 2


def test_distances_are_these_on_every_machine() -> None:
    assert between(CHICAGO, EVANSTON) == 19_172
    assert between((51_477_928, -1_545), (-33_856_784, 151_215_297)) == 16_987_277
    assert between((0, 0), (0, 1)) == 0
    assert between((0, 0), (0, 10)) == 1
    assert point(*CHICAGO) == (16_531_494, -399_394_167, 358_387_200)


@given(PLACES)
@example((90_000_000, 180_000_000))
@example((-90_000_000, -90_000_000))
@example((89_999_999, 90_000_001))
def test_a_point_is_as_floating_point_has_it(place: tuple[int, int]) -> None:
    north, east = (math.radians(value / 1e6) for value in place)
    expected = (math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north))
    for got, wanted in zip(point(*place), expected, strict=True):
        assert abs(got - wanted * 2**29) <= 0.5 + 1e-6


def a_service(*places: tuple[int, int], **more: object) -> ServiceDefinition:
    return ServiceDefinition.model_validate(
        {
            "service": "sv-north-1",
            "organisation": "shelter",
            "name": "Beds",
            "terms": [Need(code="1121")],
            "units": [Unit(unit="un-north-1", name="bed", total=1, available=1)],
            "places": [Place(latitude=north, longitude=east) for north, east in places],
        }
        | more
    )


HERE = Travelling(point(*CHICAGO), None)


def test_the_nearest_place_of_a_service_counts() -> None:
    assert distance(HERE, reaching(a_service(EVANSTON, (0, 0)))) == between(CHICAGO, EVANSTON)


def test_distance_is_unknown_where_either_place_is() -> None:
    assert distance(HERE, reaching(a_service())) is None
    assert distance(Travelling(None, "car"), reaching(a_service(EVANSTON))) is None


def test_what_is_given_from_afar_is_near_to_everybody() -> None:
    assert distance(Travelling(None, None), reaching(a_service(remote=True))) == 0
    assert reaching(a_service(EVANSTON, reach_m=500)) == Reaching((point(*EVANSTON),), 500, False)


REACH = [
    ReachLimit(urgency="crisis", travel="walk", metres=1_000),
    ReachLimit(urgency="crisis", travel="car", metres=20_000),
    ReachLimit(urgency="routine", travel="walk", metres=3_000),
    ReachLimit(urgency="routine", travel="transit", metres=15_000),
    ReachLimit(urgency="routine", travel="car", metres=50_000),
]


@pytest.mark.parametrize(
    ("away", "travel", "comes", "verdict"),
    [
        (3_000, "walk", None, "y"),
        (3_001, "walk", None, "n"),
        (50_000, "car", None, "y"),
        (50_001, "car", None, "n"),
        (3_000, None, None, "y"),
        (3_001, None, None, "u"),
        (50_001, None, None, "n"),
        (60_000, "walk", 60_000, "y"),
        (60_001, "walk", 60_000, "n"),
        (None, "walk", 60_000, "u"),
        (0, None, None, "y"),
    ],
)
def test_reach(away: int | None, travel: Travel | None, comes: int | None, verdict: str) -> None:
    assert judge_reach(away, travel, comes, limits(REACH, "routine")) == verdict


@given(
    PLACES, st.integers(-9_000_000, 9_000_000), st.integers(-9_000_000, 9_000_000), st.integers(0, 3_000_000)
)
def test_comparing_straight_lines_is_comparing_distances(
    a: tuple[int, int], north: int, east: int, limit: int
) -> None:
    b = (max(-90_000_000, min(90_000_000, a[0] + north)), a[1] + east)
    away, line = between(a, b), straight(point(*a), point(*b))
    for some in (limit, away, away - 1, away + 1):
        if some >= 0:
            assert (line <= straight_of(some)) == (away <= some)


@given(st.integers(0, FARTHEST_M - 1))
def test_the_longest_line_within_a_distance_is_the_longest(limit: int) -> None:
    assert straight_of(limit) < straight_of(limit + 1)


def test_who_goes_a_quarter_of_the_way_round_the_world_goes_anywhere() -> None:
    far = limits([ReachLimit(urgency="routine", travel="car", metres=FARTHEST_M)], "routine")
    assert far == {}
    assert judge_reach(15_000_000, "walk", FARTHEST_M, limits(REACH, "routine")) == "y"


def test_a_way_without_a_limit_goes_any_distance() -> None:
    assert judge_reach(10_000_000, "transit", None, limits(REACH, "crisis")) == "y"
    assert judge_reach(None, "transit", None, limits(REACH, "crisis")) == "y", "wherever that is"
    assert judge_reach(None, None, None, limits(REACH, "crisis")) == "u"
    assert judge_reach(10_000_000, None, None, limits(REACH, "crisis")) == "u"
    assert judge_reach(10_000_000, None, None, limits(REACH, "urgent")) == "y"


@given(
    st.integers(0, 60_000), st.none() | st.integers(0, 60_000), st.sampled_from(["walk", "transit", "car"])
)
def test_travel_made_known_never_turns_a_yes_into_a_no(away: int, comes: int | None, travel: Travel) -> None:
    furthest = limits(REACH, "routine")
    before = judge_reach(away, None, comes, furthest)
    assert before in ("u", judge_reach(away, travel, comes, furthest))


def test_facts_say_where_a_person_is_and_how_they_travel() -> None:
    facts = Facts(
        needs=[Need(code="1121")],
        place=PlaceFact(status="stated", latitude=CHICAGO[0], longitude=CHICAGO[1]),
        travel=TravelFact(status="stated", value="walk"),
    )
    assert travelling(facts) == (point(*CHICAGO), "walk")
    assert travelling(Facts(needs=[Need(code="1121")])) == (None, None)
