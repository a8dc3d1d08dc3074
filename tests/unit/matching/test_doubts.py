"""Places whose provider says that they are not there, whatever it counted: nobody else is sent there in vain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import CLOCK_SKEW_MS
from referral_bus.contracts.ledger import CapacityDoubted, CapacityOffered, CapacityTrusted
from referral_bus.wire.codec import Codec
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    decline,
    give_back,
    kinds,
    offers,
    offers_in,
    outcome,
    policy,
    refused,
    report,
    service_of,
    unit_of,
)
from tests.support.regions import Between, lent_out

FULL_MS = POLICY.full_ms


def asked(world: World, referral: str) -> list[str]:
    return [task.service for task in world.state.referrals[referral].tasks]


def full(world: World, total: int = 5) -> str:
    """A service that has said it has none of the places it had counted."""
    world.publish(offers("beds", total=total))
    world.now += HOUR
    referral = world.refer()
    world.send(decline(referral, 1, "no_capacity"), "shelter")
    return referral


def test_a_decline_for_want_of_a_place_doubts_all_that_seemed_free(world: World) -> None:
    world.publish(offers("beds", total=5))
    referral = world.refer()
    [_, doubted, *_] = world.send(decline(referral, 1, "no_capacity"), "shelter")
    assert doubted == CapacityDoubted(
        unit=unit_of("beds"),
        service=service_of("beds"),
        task=task_id(referral, 1),
        places=5,
        until=world.now + FULL_MS,
    )
    assert world.places() == (0, 0, 0)


def test_whoever_is_next_is_not_sent_there_too(world: World) -> None:
    full(world)
    world.publish(offers("other", "clinic", total=5))
    assert asked(world, world.refer(number=2)) == [service_of("other")]


def test_another_unit_of_the_same_service_is_offered_all_the_same(world: World) -> None:
    beds = offers("beds", total=2)
    annex = beds.units[0].model_copy(update={"unit": unit_of("annex")})
    world.publish(beds.model_copy(update={"units": [*beds.units, annex]}))
    first = world.refer()
    declined = world.task(first).unit
    world.send(decline(first, 1, "no_capacity"), "shelter")
    assert {world.task(world.refer(number=number)).unit for number in (2, 3)} == {
        unit_of("beds"),
        unit_of("annex"),
    } - {declined}


@pytest.mark.parametrize("reason", ["other", "not_eligible", "person_declined", "could_not_reach"])
def test_a_decline_for_another_reason_doubts_nothing(world: World, reason: str) -> None:
    world.publish(offers("beds", total=5))
    world.send(decline(world.refer(), 1, reason), "shelter")  # type: ignore[arg-type]
    assert world.places() == (5, 0, 0)


def test_full_until_a_date_is_full_for_everybody_until_then(world: World) -> None:
    world.publish(offers("beds", total=5))
    until = world.now + 3 * DAY
    referral = world.refer()
    world.send(decline(referral, 1, "full_until", until), "shelter")
    assert world.refer(number=2) not in world.state.referrals
    assert world.tick(until - 1) == []
    events = world.tick(until)
    assert events[0] == CapacityTrusted(unit=unit_of("beds"), service=service_of("beds"))
    assert [one.referral for one in offers_in(events)] == [referral]


def test_a_person_who_is_given_back_for_want_of_a_place_leaves_none_behind(world: World) -> None:
    world.publish(offers("beds", total=2))
    referral = world.accepted()
    world.send(give_back(referral, 1, "no_capacity"), "shelter")
    assert world.places() == (0, 0, 0)


@pytest.mark.parametrize(("counted", "free"), [(HOUR, 3), (-CLOCK_SKEW_MS, 3), (-CLOCK_SKEW_MS - MINUTE, 0)])
def test_a_count_ends_the_doubt_unless_it_was_made_before(world: World, counted: int, free: int) -> None:
    full(world)
    at = world.now + counted
    world.send(report("beds", 5, 3, at), "shelter", at=max(at, world.now))
    assert world.places()[0] == free
    assert (world.refer(number=2) in world.state.referrals) is (free > 0)


def test_a_place_that_comes_free_is_offered_and_those_in_doubt_are_not(world: World) -> None:
    world.publish(offers("beds", total=5))
    served = world.accepted()
    world.send(decline(world.refer(number=2), 1, "no_capacity"), "shelter")
    assert world.places() == (0, 0, 1)
    world.send(outcome(served), "shelter")
    assert world.places() == (1, 0, 0)
    world.send(accept(world.refer(number=3)), "shelter")
    assert world.places() == (0, 0, 1)


def test_what_is_offered_at_the_time_can_still_be_accepted(world: World) -> None:
    world.publish(offers("beds", total=5))
    first, second = world.refer(), world.refer(number=2)
    world.send(decline(first, 1, "no_capacity"), "shelter")
    assert world.places() == (0, 1, 0)
    assert "OfferAccepted" in kinds(world.send(accept(second), "shelter"))
    assert world.places() == (0, 0, 1)


def test_who_says_it_again_is_believed_for_the_longer(world: World) -> None:
    world.publish(offers("beds", total=5))
    first, second = world.refer(), world.refer(number=2)
    until = world.now + 3 * DAY
    world.send(decline(first, 1, "full_until", until), "shelter")
    world.send(decline(second, 1, "no_capacity"), "shelter")
    assert world.tick(world.now + FULL_MS) == []
    assert kinds(world.tick(until))[0] == "CapacityTrusted"
    assert world.places()[0] + world.places()[1] == 5


def test_nobody_waits_for_ever_for_a_provider_that_never_counts(world: World) -> None:
    full(world)
    waiting = world.refer(mode="waitlist", number=2)
    assert asked(world, waiting) == []
    events = world.tick(world.now + FULL_MS)
    assert kinds(events) == ["CapacityTrusted", "ReferralCalled", "MatchDecided", "OfferMade"]
    assert asked(world, waiting) == [service_of("beds")]


def test_a_count_calls_who_waited_for_a_place_in_doubt(world: World) -> None:
    full(world)
    waiting = world.refer(mode="waitlist", number=2)
    world.send(report("beds", 5, 1, world.now + HOUR), "shelter", at=world.now + HOUR)
    assert asked(world, waiting) == [service_of("beds")]
    assert "CapacityTrusted" not in kinds(world.tick(world.now + FULL_MS))


def test_the_policy_says_for_how_long_and_nought_is_not_at_all(world: World) -> None:
    world.send(policy(POLICY.model_copy(update={"version": 2, "full_ms": 0})), OPERATIONS)
    full(world)
    assert world.places() == (5, 0, 0)
    assert asked(world, world.refer(number=2)) == [service_of("beds")]


def test_a_person_given_back_who_was_not_counted_leaves_the_held_places_held(world: World) -> None:
    world.publish(offers("beds", total=2))
    referral = world.accepted()
    world.send(report("beds", 2, 2, world.now + HOUR), "shelter", at=world.now + HOUR)
    world.refer(number=2)
    assert world.places() == (1, 1, 0)
    world.send(give_back(referral, 1, "no_capacity"), "shelter")
    assert world.places() == (0, 1, 0)


def test_overbooking_that_is_taken_back_leaves_nothing_below_nought(world: World) -> None:
    beds = offers("beds", total=3)
    more = beds.model_copy(update={"units": [beds.units[0].model_copy(update={"overbook": 2})]})
    world.publish(more)
    first, _ = world.refer(), world.refer(number=2)
    world.send(decline(first, 1, "no_capacity"), "shelter")
    world.publish(beds)
    assert world.places() == (0, 1, 0)


def test_places_in_doubt_may_be_counted_as_anything_the_held_ones_allow(world: World) -> None:
    world.publish(offers("beds", total=5))
    first, _ = world.refer(), world.refer(number=2)
    world.send(decline(first, 1, "no_capacity"), "shelter")
    assert refused(world.send(report("beds", 5, 0, world.now), "shelter")) == "capacity_below_held"
    assert kinds(world.send(report("beds", 5, 1, world.now), "shelter")) == ["CapacityChanged"]


def test_what_was_doubted_comes_out_the_same_when_it_is_decided_again(world: World) -> None:
    full(world)
    world.refer(mode="waitlist", number=2)
    world.tick(world.now + FULL_MS)
    assert world.again() == [entry for _, entry in world.entries]


class TestBetweenRegions:
    """A service of the south that the others may have too."""

    @pytest.fixture
    def between(self, codec: Codec) -> Between:
        between = Between(codec)
        between.publish(lent_out("beds", "south", total=4))
        return between

    @staticmethod
    def free(between: Between, region: str) -> int:
        return between[region].state.units[unit_of("beds", "south")].free

    @staticmethod
    def offered(between: Between, region: str, number: int = 1) -> str:
        referral = between.refer(region, number)
        between.flow()
        return referral

    @pytest.mark.parametrize("accepted", [False, True])
    def test_what_is_said_to_one_region_holds_for_all(self, between: Between, accepted: bool) -> None:
        referral = self.offered(between, "north")
        if accepted:
            between.say("north", accept(referral), "shelter")
            between.flow()
        no: Callable[..., object] = give_back if accepted else decline
        between.say("north", no(referral, 1, "no_capacity"), "shelter")  # type: ignore[arg-type]
        between.flow()
        assert [self.free(between, one) for one in ("south", "north", "east")] == [0, 0, 0]
        assert between["south"].refer(number=7) not in between["south"].state.referrals

    def test_what_other_regions_hold_meanwhile_is_still_theirs(self, between: Between) -> None:
        first, second = self.offered(between, "north"), self.offered(between, "east", 2)
        between.say("north", decline(first, 1, "no_capacity"), "shelter")
        between.flow()
        between.say("east", accept(second), "shelter")
        between.flow()
        assert between.task(second).is_taken
        assert [self.free(between, one) for one in ("south", "north", "east")] == [0, 0, 0]

    def test_overbooking_taken_back_while_places_are_in_doubt_costs_no_region_a_place(
        self, codec: Codec
    ) -> None:
        between = Between(codec)
        beds = lent_out("beds", "south", total=3)
        more = beds.model_copy(update={"units": [beds.units[0].model_copy(update={"overbook": 2})]})
        between.publish(more)
        held = self.offered(between, "north")
        said = between["south"].refer(number=7)
        between.say("south", decline(said, 1, "no_capacity"), "shelter")
        between.flow()
        between.publish(beds)
        assert [self.free(between, one) for one in ("south", "north", "east")] == [0, 0, 0]
        between.say("north", decline(held, 1, "other"), "shelter")
        between.flow()
        assert [self.free(between, one) for one in ("south", "north", "east")] == [1, 1, 1]

    def test_all_hear_when_the_places_are_offered_again(self, between: Between) -> None:
        referral = self.offered(between, "north")
        between.say("north", decline(referral, 1, "no_capacity"), "shelter")
        between.flow()
        between.now += FULL_MS
        events = between["south"].tick(between.now)
        assert kinds(events) == ["CapacityTrusted", "CapacityOffered"]
        assert isinstance(events[1], CapacityOffered)
        assert {(one.region, one.room) for one in events[1].rooms} == {("north", 4), ("east", 4)}
        between.flow()
        assert between.task(self.offered(between, "north", 3)).business == "offered"
