"""Ranking, and the certificate that shows it: everyone can count it up and draw its lots again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts.facts import Facts, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ledger import Certificate, MatchDecided
from referral_bus.contracts.reference import Policy, RankBy
from referral_bus.contracts.services import Unit
from referral_bus.wire.codec import Codec
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import Table, match, table
from services.matching.core.judging.places import Reliability, load, number_counted, unreliability
from services.matching.core.judging.ranking import lottery, named
from services.matching.core.state import Region
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    POLICY,
    World,
    decline,
    of,
    offers,
    policy,
    report,
    service_of,
    spoken,
    stated_age,
    stated_area,
    unit_of,
)

UNHURRIED = settings(max_examples=60)
"""A busy machine is not a failure."""


def ranked_by(world: World, *by: RankBy, **more: Any) -> Policy:
    content = POLICY.model_copy(update={"version": 2, "rank_by": list(by), **more})
    world.send(policy(content), "operations")
    return content


def certified(world: World, facts: Facts = HOUSING, number: int = 1) -> Certificate:
    world.refer(facts, number=number)
    return next(event for event in reversed(world.events) if isinstance(event, MatchDecided)).certificate


def best(world: World, facts: Facts = HOUSING) -> list[str]:
    return [judged.service.removeprefix("sv-north-") for judged in certified(world, facts).best]


def test_the_more_certain_service_comes_first(world: World) -> None:
    ranked_by(world, "certainty")
    world.publish(offers("asks", ages=None), offers("asks-all", ages=None, areas=None), offers("knows"))
    assert best(world) == ["knows", "asks", "asks-all"]


def test_the_service_that_meets_more_needs_comes_first(world: World) -> None:
    ranked_by(world, "needs_covered")
    world.publish(
        offers("one"),
        offers("three", needs=["housing", "food", "law"]),
        offers("two", needs=["housing", "food"]),
    )
    needs = [Need(code=code) for code in ("housing", "food", "law")]
    assert best(world, HOUSING.model_copy(update={"needs": needs})) == ["three", "two", "one"]


def test_the_service_with_the_lighter_load_comes_first(world: World) -> None:
    ranked_by(world, "load")
    world.publish(
        offers("half", total=4, available=2), offers("empty", total=2), offers("most", total=10, available=1)
    )
    assert best(world) == ["empty", "half", "most"]


def test_held_places_count_as_load(world: World) -> None:
    ranked_by(world, "load")
    world.publish(offers("a", total=2), offers("b", total=2))
    first = certified(world, number=1).best[0].service
    second = certified(world, number=2).best[0].service
    assert first != second


def test_the_service_counted_last_comes_first(world: World) -> None:
    ranked_by(world, "freshness")
    world.publish(offers("stale"), offers("fresh"))
    world.now += 3 * HOUR
    world.send(report("fresh", 1, 1, world.now), "shelter")
    assert best(world) == ["fresh", "stale"]


@pytest.mark.parametrize(
    ("full", "first"), [(0, ["two", "one"]), (1, ["two", "one"]), (3, ["one", "two"]), (5, ["one", "two"])]
)
def test_the_count_that_ranks_is_that_of_the_unit_that_would_be_offered(
    world: World, full: int, first: list[str]
) -> None:
    """Two months ago both units of one service were counted, with three places in the second; now the first is counted anew."""
    ranked_by(world, "freshness")
    units = [
        Unit(unit=unit_of(local), name="places", total=5, available=available)
        for local, available in (("a", 5), ("b", 3))
    ]
    world.publish(offers("two", units=units), offers("one", "clinic", total=5))
    world.now += 60 * DAY
    world.send(report("a", 5, 5 - full, world.now), "shelter")
    world.send(report("one", 5, 5, world.now - HOUR), "clinic")
    assert best(world) == first


def test_where_no_unit_has_a_place_the_newest_count_ranks(world: World) -> None:
    policy_ = ranked_by(world, "freshness")
    units = [Unit(unit=unit_of(local), name="places", total=5, available=0) for local in ("a", "b")]
    world.publish(offers("two", units=units))
    world.now += 60 * DAY
    world.send(report("b", 5, 0, world.now), "shelter")
    world.state.look_at_places()
    assert policy_.rank_by == ["freshness"]
    assert list(world.state.places.counted.numbers) == [number_counted(world.now)]


def test_the_policys_order_decides_between_its_parts(world: World) -> None:
    world.publish(offers("certain", total=4, available=2), offers("light", total=4, ages=None))
    ranked_by(world, "certainty", "load")
    assert best(world) == ["certain", "light"]
    ranked_by(world, "load", "certainty", version=3)
    assert [one.service for one in certified(world, number=2).best] == [
        service_of("light"),
        service_of("certain"),
    ]


def test_equals_are_ordered_by_the_lottery_which_differs_from_referral_to_referral(world: World) -> None:
    ranked_by(world, "certainty", "lottery")
    locals_ = [f"s{number}" for number in range(6)]
    world.publish(*(offers(local, total=100) for local in locals_))
    firsts = set()
    for number in range(1, 25):
        before = world.state.last_hash
        draw = lottery(POLICY.seed, before, of(number=number))
        certificate = certified(world, number=number)
        assert certificate.drawn_after == before
        lots = {local: draw(service_of(local)) for local in locals_}
        expected = sorted(locals_, key=lots.__getitem__)[:3]
        assert [one.service for one in certificate.best] == [service_of(local) for local in expected]
        assert [one.score[-1] for one in certificate.best] == [lots[local] for local in expected]
        firsts.add(expected[0])
    assert len(firsts) > 3


def test_anyone_with_the_seed_and_the_event_before_draws_the_same_lot() -> None:
    before = hashlib.sha256(b"the event before").digest()
    drawn = hashlib.sha256(b"a published seed\0" + before + b"\0rf-north-x\0sv-north-y").digest()
    assert lottery("a published seed", before, "rf-north-x")("sv-north-y") == int.from_bytes(drawn[:6], "big")


def test_what_a_policy_names_behind_the_lottery_cannot_matter() -> None:
    assert named(("load", "lottery", "certainty")) == named(("load",)) == ("load",)
    assert named(("lottery",)) == ()


def test_load_is_whole_thousandths() -> None:
    assert [load(*one) for one in ((0, 3), (1, 3), (3, 3), (0, 0), (4, 3))] == [0, 333, 1000, 1000, 1333]


def test_the_newer_a_count_the_lower_its_number_by_hours_of_the_clock() -> None:
    now = 500_000 * HOUR
    ages = [
        number_counted(at) - number_counted(now)
        for at in (now, now - 1, now - HOUR, now - 100 * DAY, now + HOUR)
    ]
    assert ages == [0, 1, 1, 2400, -1]


def test_who_was_never_asked_is_as_reliable_as_not_and_each_answer_moves_that() -> None:
    asked = [
        Reliability(),
        Reliability(kept=1),
        Reliability(broken=1),
        Reliability(kept=8),
        Reliability(8, 2),
    ]
    assert [unreliability(one) for one in asked] == [500, 333, 666, 100, 250]


def test_a_certificate_shows_as_many_as_its_policy_says(world: World) -> None:
    ranked_by(world, "certainty", best=2, misses=1)
    world.publish(
        *(offers(f"yes{number}") for number in range(4)),
        *(offers(f"no{number}", total=0) for number in range(4)),
    )
    certificate = certified(world)
    assert (len(certificate.best), len(certificate.misses)) == (2, 1)
    assert (certificate.policy, certificate.policy_version) == ("plain", 2)


def test_the_nearest_misses_are_those_that_the_fewest_criteria_rule_out(world: World) -> None:
    world.publish(
        offers("c-far", areas=["harbour"], languages=["fr"], total=0),
        offers("b-near", total=0),
        offers("a-nearly", total=0, ages=None),
        offers("d-middle", areas=["harbour"], total=0),
    )
    misses = [one.service.removeprefix("sv-north-") for one in certified(world).misses]
    assert misses == ["b-near", "a-nearly", "d-middle"]


def test_a_miss_has_no_score_and_a_candidate_one_part_more_than_it_is_ranked_by(world: World) -> None:
    ranked_by(world, "certainty", "load", "lottery")
    world.publish(offers("yes"), offers("no", total=0))
    certificate = certified(world)
    assert [len(one.score) for one in certificate.best] == [3]
    assert [one.score for one in certificate.misses] == [[]]


def digest(state: Region, now: int, *tried: str) -> bytes:
    state.look_at_places()
    return Table(state, POLICY, person_of(HOUSING), frozenset(tried), now).digest()


def test_the_digest_of_the_whole_table_can_be_made_again(world: World) -> None:
    world.publish(
        offers("a"), offers("b", total=0), offers("c", ages=None, screens=False), offers("d", areas=None)
    )
    before = world.folded().state
    certificate = certified(world)
    rows = table(before, POLICY, person_of(HOUSING), frozenset(), world.now)
    assert [row.profile.service for row in rows] == [service_of(one) for one in "abcd"]
    assert digest(before, world.now) == certificate.digest
    # By hand: the services in the order of their publication, the first being the lowest bit; c doesn't say the age, nor d the area.
    counted = number_counted(world.now)
    free = {"a": (1, 0), "b": (0, 1000), "c": (1, 0), "d": (1, 0)}
    lines = "".join(f"{service_of(one)} {has} {full} {counted} 500\n" for one, (has, full) in free.items())
    places = hashlib.sha256(hashlib.sha256(lines.encode()).digest()).digest()
    verdicts = b"".join([bytes([0b1111]), b"area unknown", bytes([0b1000]), b"age unknown", bytes([0b0100])])
    means = b"need 0 1000 None" + bytes([0b1111])
    assert hashlib.sha256(places + verdicts + means).digest() == certificate.digest


def test_the_digest_of_a_later_attempt_leaves_out_what_was_tried(world: World) -> None:
    world.publish(offers("a"), offers("b"))
    referral = world.refer()
    before, tried = world.folded().state, world.state.referrals[referral].tasks[0].service
    _, matched, _ = world.send(decline(referral), "shelter")
    assert isinstance(matched, MatchDecided)
    assert matched.certificate.considered == 2
    assert matched.certificate.digest != digest(before, world.now)
    assert matched.certificate.digest == digest(before, world.now, tried)


def test_a_certificate_holds_verdicts_and_no_facts(world: World) -> None:
    world.publish(offers("beds", areas=["riverside"], ages={"minimum": 29}, languages=["en"]))
    said = certified(world).model_dump_json()
    assert "riverside" not in said
    assert '"en"' not in said


SERVICES = st.fixed_dictionaries(
    {
        "needs": st.sampled_from([["housing"], ["food"], ["housing", "food"]]),
        "total": st.integers(0, 3),
        "active": st.booleans(),
        "screens": st.booleans(),
        "ages": st.sampled_from([None, {}, {"minimum": 40}]),
        "areas": st.sampled_from([None, ["*"], ["riverside"], ["harbour"]]),
        "languages": st.sampled_from([None, ["*"], ["en"], ["fr"]]),
    }
)


@UNHURRIED
@given(services=st.lists(SERVICES, max_size=8), tried=st.sets(st.integers(0, 7)), area=st.booleans())
def test_what_was_ruled_out_and_the_candidates_add_up_to_what_was_considered(
    codec: Codec, services: list[dict[str, Any]], tried: set[int], area: bool
) -> None:
    world = World(codec)
    world.publish(*(offers(f"s{number}", **one) for number, one in enumerate(services)))
    facts = HOUSING if area else HOUSING.model_copy(update={"area": type(HOUSING.area)()})
    widest = POLICY.model_copy(update={"best": 20, "misses": 20})
    before = frozenset(service_of(f"s{number}") for number in tried)
    found = match(world.state, widest, of(), facts, before, world.now, urgency="urgent")
    certificate = found.certificate
    assert certificate.considered == sum(one["active"] for one in services)
    assert (
        len(certificate.best) + sum(one.services for one in certificate.eliminated) == certificate.considered
    )
    assert all(one.services > 0 for one in certificate.eliminated)
    assert (not found.best) is (not certificate.best)
    assert [one.service for one in certificate.best] == [best.profile.service for best in found.best]
    for best in found.best:
        assert world.state.units[best.unit].free > 0
        assert best.profile.service not in before
    scores = [tuple(one.score) for one in certificate.best]
    assert scores == sorted(scores)
    shown = {one.service for one in (*certificate.best, *certificate.misses)}
    assert len(shown) == len(certificate.best) + len(certificate.misses)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_the_best_few_are_the_first_of_all(world: World, cut: int) -> None:
    ranked_by(world, "load", "lottery")
    world.publish(*(offers(f"s{number}", total=4, available=1 + number % 3) for number in range(12)))
    narrow, wide = (
        match(
            world.state,
            POLICY.model_copy(update={"best": most, "rank_by": ["load", "lottery"]}),
            of(),
            HOUSING,
            frozenset(),
            0,
            urgency="urgent",
        )
        for most in (cut, 20)
    )
    assert narrow.certificate.best == wide.certificate.best[:cut]
    assert narrow.certificate.digest == wide.certificate.digest


@UNHURRIED
@given(
    bounds=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 150)), min_size=1, max_size=5),
    people=st.lists(
        st.tuples(
            st.none() | st.integers(0, 160),
            st.sampled_from([None, "riverside", "harbour", "nowhere"]),
            st.sampled_from([(), ("en",), ("EN-us",), ("fr", "es")]),
        ),
        min_size=2,
        max_size=12,
    ),
)
def test_who_came_before_makes_no_difference_to_how_a_person_is_judged(
    codec: Codec,
    bounds: list[tuple[int, int]],
    people: list[tuple[int | None, str | None, tuple[str, ...]]],
) -> None:
    """What is remembered of former people's languages and circumstances decides nothing else."""
    definitions = [
        offers(
            f"s{number}",
            ages={"minimum": min(bound), "maximum": max(bound)},
            areas=["*"] if number % 3 == 0 else ["riverside"],
            languages=None if number % 2 else ["en", "fr-ca"],
        )
        for number, bound in enumerate(bounds)
    ]
    shared = World(codec)
    shared.publish(*definitions)
    for age, area, languages in people:
        facts = HOUSING.model_copy(
            update={
                "age": NumberFact() if age is None else stated_age(age),
                "area": TextFact() if area is None else stated_area(area),
                "languages": spoken(*languages) if languages else ListFact(),
            }
        )
        fresh = World(codec)
        fresh.publish(*definitions)
        one, other = (
            match(world.state, POLICY, of(), facts, frozenset(), shared.now, urgency="urgent")
            for world in (shared, fresh)
        )
        assert one.certificate == other.certificate


def test_a_service_that_changes_is_judged_as_it_is_now(world: World) -> None:
    world.publish(offers("beds", total=5, areas=["harbour"]))
    assert best(world) == []
    world.publish(offers("beds", total=5, areas=["riverside"]))
    assert [one.service for one in certified(world, number=2).best] == [service_of("beds")]
    world.publish(offers("beds", total=5, ages={"minimum": 31}))
    assert certified(world, number=3).best == []
