"""The lines to all services at once are the lines to each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from referral_bus.contracts.facts import Facts, PlaceFact
from services.matching.core.judging.bitmaps import made_of, members
from services.matching.core.judging.distances import Distances, Whereabouts
from services.matching.core.judging.reach import Reaching, distance, metres, point, straight

PLACES = st.tuples(st.integers(-90_000_000, 90_000_000), st.integers(-180_000_000, 180_000_000))
REACHING = st.builds(
    lambda places, remote: Reaching(tuple(point(*place) for place in places), None, remote),
    st.lists(PLACES, max_size=3),
    st.booleans(),
)
PUBLISHED = st.lists(st.tuples(st.integers(0, 40), st.none() | REACHING), max_size=60)


def person_at(latitude: int, longitude: int) -> Facts:
    return Facts(
        needs=[{"code": "1"}], place=PlaceFact(status="stated", latitude=latitude, longitude=longitude)
    )


@given(published=PUBLISHED, place=PLACES, asked=st.sets(st.integers(0, 45)))
def test_the_line_to_each_is_that_to_its_nearest_place_whatever_was_published_before(
    published: list[tuple[int, Reaching | None]], place: tuple[int, int], asked: set[int]
) -> None:
    whereabouts = Whereabouts()
    now: dict[int, Reaching] = {}
    for slot, reaching in published:
        whereabouts.put(slot, reaching)
        now.pop(slot, None)
        if reaching is not None:
            now[slot] = reaching
    distances, at = Distances(whereabouts, person_at(*place)), point(*place)
    among = made_of(sorted(asked))
    placed = {slot for slot, one in now.items() if one.points and not one.remote}
    remote = {slot for slot, one in now.items() if one.remote}
    assert members(distances.known(among)) == sorted(asked & (placed | remote))
    slots, lines = distances.lines(made_of(sorted(asked & placed)))
    assert slots == sorted(asked & placed)
    assert lines == [min(straight(at, there) for there in now[slot].points) for slot in slots]
    assert [distances.to(slot) for slot in slots] == [
        min(metres(at, there) for there in now[slot].points) for slot in slots
    ]


def test_of_a_person_who_is_nowhere_only_what_is_given_from_afar_is_known() -> None:
    whereabouts = Whereabouts()
    whereabouts.put(0, Reaching((point(0, 0),), None, False))
    whereabouts.put(1, Reaching((), None, True))
    distances = Distances(whereabouts, Facts(needs=[{"code": "1"}]))
    assert members(distances.known(0b11)) == [1]
    assert distances.lines(0b01) == ([], [])
    assert distances.to(1) == distance(distances.person, whereabouts.reached[1]) == 0


def test_who_moved_since_it_was_asked_for_is_where_it_is_now() -> None:
    whereabouts = Whereabouts()
    somewhere, elsewhere, here = point(41_900_000, -87_700_000), point(41_800_000, -87_600_000), point(0, 0)
    for slot in (0, 1):
        whereabouts.put(slot, Reaching((somewhere,), None, False))
    before = Distances(whereabouts, person_at(0, 0)).lines(0b11)
    whereabouts.put(1, Reaching((elsewhere,), None, False))
    assert before == ([0, 1], [straight(here, somewhere)] * 2)
    assert Distances(whereabouts, person_at(0, 0)).lines(0b11) == (
        [0, 1],
        [straight(here, somewhere), straight(here, elsewhere)],
    )
