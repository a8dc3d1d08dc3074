"""Numbers of each service by itself: they order services as the planes of the same numbers do."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from services.matching.core.judging.bitmaps import Numbers, least, made_of, members, planes_of

SLOTS = st.integers(0, 200)
NUMBERS = st.one_of(st.integers(0, 7), st.integers(0, 1_000_000))
EACH = st.dictionaries(SLOTS, NUMBERS, max_size=40)


@given(slots=st.sets(SLOTS))
def test_a_set_has_the_members_it_was_made_of(slots: set[int]) -> None:
    assert members(made_of(sorted(slots))) == sorted(slots)


@given(
    each=EACH,
    other=NUMBERS,
    starts=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=6, unique=True).map(sorted),
    among=st.sets(SLOTS, min_size=1),
    most=st.integers(1, 12),
)
def test_in_bands_the_least_are_those_in_the_least_bands(
    each: dict[int, int], other: int, starts: list[int], among: set[int], most: int
) -> None:
    numbers = Numbers(each, other)
    banded = numbers.in_bands(starts)
    planes = planes_of([(1 << slot, bisect_right(starts, each.get(slot, other))) for slot in among])
    these = made_of(sorted(among))
    assert least([banded], these, most) == least([planes], these, most)
    assert all(banded.of(slot) == numbers.of(slot) == each.get(slot, other) for slot in range(202))


@given(
    first=EACH,
    second=EACH,
    other=NUMBERS,
    among=st.sets(SLOTS, min_size=1),
    most=st.integers(1, 12),
)
def test_the_least_are_the_same_as_by_planes(
    first: dict[int, int], second: dict[int, int], other: int, among: set[int], most: int
) -> None:
    columns = [Numbers(first, other), Numbers(second, other)]
    planes = [planes_of([(1 << slot, numbers.of(slot)) for slot in among]) for numbers in columns]
    these = made_of(sorted(among))
    assert least(columns, these, most) == least(planes, these, most)
    assert least([planes[0], columns[1]], these, most) == least(planes, these, most)
