"""Numbers of services as planes: however they are made, they are the same."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from services.matching.core.judging.bitmaps import Numbers, made_of, numbering, planes_of

SLOTS = st.integers(0, 200)
NUMBERS = st.one_of(st.integers(0, 7), st.integers(0, 1_000_000))


@given(
    each=st.dictionaries(SLOTS, NUMBERS, max_size=40),
    alike=st.lists(st.tuples(st.sets(SLOTS, max_size=20), NUMBERS), max_size=4),
    starts=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_numbers_of_each_and_of_many_are_the_planes_of_all(
    each: dict[int, int], alike: list[tuple[set[int], int]], starts: list[int]
) -> None:
    expected: dict[int, int] = dict(each)
    sets: list[tuple[int, int]] = []
    for slots, number in alike:
        new = slots - expected.keys()
        expected.update(dict.fromkeys(new, number))
        sets.append((made_of(sorted(new)), number))
    numbers = Numbers(sets, each)
    of = numbering(numbers.planes())
    band = numbering(numbers.in_bands(starts).planes())
    for slot in range(202):
        assert numbers.of(slot) == of(slot) == expected.get(slot, 0)
        assert band(slot) == bisect_right(starts, expected.get(slot, 0))
    assert [plane for plane in numbers.planes() if plane] == [
        plane for plane in planes_of([(1 << slot, number) for slot, number in expected.items()]) if plane
    ]
