"""Who lies within a border: holes, edges, the date line."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from referral_bus.contracts.places import MICRO, Polygon, Ring
from services.matching.core.judging.areas import borders, either, judge_borders, within


def ring(*corners: tuple[int, int], scale: int = MICRO) -> Ring:
    return Ring(points=[value * scale for corner in corners for value in corner])


def square(south: int, west: int, side: int) -> Ring:
    return ring((south, west), (south, west + side), (south + side, west + side), (south + side, west))


def inside(polygon: Polygon, latitude: float, longitude: float) -> bool:
    (border,) = borders([polygon])
    return within(border, round(latitude * MICRO), round(longitude * MICRO))


RING_ROAD = Polygon(rings=[square(0, 0, 10), square(4, 4, 2)])


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (1, 1, True),
        (5, 5, False),
        (4, 5, True),
        (4.000001, 5, False),
        (0, 0, True),
        (10, 10, True),
        (10, 3, True),
        (3, 10, True),
        (10.000001, 3, False),
        (3, -0.000001, False),
        (5, 11, False),
        (-89, 5, False),
    ],
)
def test_a_place_in_a_hole_is_without_and_one_on_a_border_within(
    latitude: float, longitude: float, expected: bool
) -> None:
    assert inside(RING_ROAD, latitude, longitude) is expected


@pytest.mark.parametrize(
    ("longitude", "expected"),
    [(179, True), (-179, True), (180, True), (-180, True), (177, False), (-177, False), (0, False)],
)
@pytest.mark.parametrize("west", [178, -182])
def test_a_border_over_the_date_line_is_met_from_either_side(
    west: int, longitude: float, expected: bool
) -> None:
    assert inside(Polygon(rings=[square(-2, west, 4)]), 0, longitude) is expected


def test_a_hole_counts_on_whichever_side_of_the_date_line_it_is_written() -> None:
    for hole_west in (179, -181):
        lagoon = Polygon(rings=[square(-2, 178, 4), square(-1, hole_west, 2)])
        assert not inside(lagoon, 0, 180)
        assert inside(lagoon, 1.5, 180)


def test_a_notch_of_a_border_is_without() -> None:
    horseshoe = Polygon(rings=[ring((0, 0), (0, 9), (9, 9), (9, 6), (3, 6), (3, 3), (9, 3), (9, 0))])
    assert inside(horseshoe, 5, 1)
    assert inside(horseshoe, 5, 8)
    assert not inside(horseshoe, 5, 5)
    assert inside(horseshoe, 2, 5)


SMALL = st.integers(-20, 20)
CORNERS = st.lists(st.tuples(SMALL, SMALL), min_size=3, max_size=3, unique=True)


def side(a: tuple[int, int], b: tuple[int, int], place: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (place[1] - a[1]) - (b[1] - a[1]) * (place[0] - a[0])


@given(CORNERS, st.tuples(SMALL, SMALL))
def test_within_a_triangle_is_on_one_side_of_its_three_lines(
    corners: list[tuple[int, int]], place: tuple[int, int]
) -> None:
    assume(side(*corners) != 0)
    sides = [side(a, b, place) for a, b in pairwise([*corners, corners[0]])]
    expected = all(one >= 0 for one in sides) or all(one <= 0 for one in sides)
    (border,) = borders([Polygon(rings=[ring(*corners, scale=1)])])
    assert within(border, *place) is expected


POINTS = st.lists(st.tuples(SMALL, SMALL), min_size=3, max_size=8)


@given(POINTS, st.tuples(SMALL, SMALL), st.integers(0, 7))
def test_it_does_not_matter_where_a_ring_begins_and_which_way_it_goes(
    corners: list[tuple[int, int]], place: tuple[int, int], turn: int
) -> None:
    turn %= len(corners)
    (one,) = borders([Polygon(rings=[ring(*corners, scale=1)])])
    (other,) = borders([Polygon(rings=[ring(*reversed(corners[turn:] + corners[:turn]), scale=1)])])
    assert within(one, *place) == within(other, *place)


def test_a_place_not_stated_is_unknown_and_no_border_serves_nobody() -> None:
    served = borders([RING_ROAD])
    assert judge_borders(served, None, None) == "u"
    assert judge_borders(served, MICRO, MICRO) == "y"
    assert judge_borders(served, 5 * MICRO, 5 * MICRO) == "n"
    assert judge_borders((), MICRO, MICRO) == "n"


def test_named_areas_and_borders_are_served_alike() -> None:
    assert [either(a, b) for a in "ynu" for b in "ynu"] == list("yyyynuyuu")


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([0, 0, 0, 1], "at least 6"),
        ([0, 0, 0, 1, 1, 1, 1], "odd count"),
        ([0, 0, 0, 1, 91 * MICRO, 1], "off the earth"),
        ([0, 0, 0, 541 * MICRO, 1, 1], "less than or equal"),
        ([0, -170 * MICRO, 0, 170 * MICRO, 1, 170 * MICRO], "half the world"),
    ],
)
def test_what_is_no_ring_is_refused(points: list[int], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Ring(points=points)
