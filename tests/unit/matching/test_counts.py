"""Places that can be trusted: a count is carried to now, and nothing is promised twice unless its provider explicitly lets it be."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ledger import CapacityChanged, OfferMade, ReferralClosed
from referral_bus.contracts.services import Unit
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    World,
    accept,
    decline,
    kinds,
    offers,
    offers_in,
    outcome,
    publish,
    refused,
    report,
    service_of,
    unit_of,
)


def overbooked(overbook: int, total: int = 1, available: int | None = None) -> list[Unit]:
    free = total if available is None else available
    return [Unit(unit=unit_of("beds"), name="places", total=total, available=free, overbook=overbook)]


def test_a_count_sets_what_is_there_and_what_is_free(world: World) -> None:
    world.publish(offers("beds", total=2))
    assert world.send(report("beds", 5, 3, world.now), "shelter") == [
        CapacityChanged(
            unit=unit_of("beds"), service=service_of("beds"), total=5, available=3, true_at=world.now - 1
        )
    ]
    assert world.places() == (3, 0, 2)


def test_a_count_made_before_an_acceptance_does_not_give_that_place_back(world: World) -> None:
    world.publish(offers("beds", total=3))
    referral = world.refer()
    counted_at = world.now
    world.send(accept(referral), "shelter", at=world.now + 5 * MINUTE)
    world.send(report("beds", 3, 3, counted_at), "shelter")
    assert world.places() == (2, 0, 1)


def test_a_count_made_after_an_acceptance_has_it_in_it(world: World) -> None:
    world.publish(offers("beds", total=3))
    world.accepted()
    world.send(report("beds", 3, 2, world.now + MINUTE), "shelter", at=world.now + HOUR)
    assert world.places() == (2, 0, 1)


def test_a_count_made_before_a_place_became_free_does_not_keep_it_taken(world: World) -> None:
    world.publish(offers("beds", total=3))
    referral = world.accepted()
    counted_at = world.now
    world.send(outcome(referral), "shelter", at=world.now + HOUR)
    world.send(report("beds", 3, 2, counted_at), "shelter")
    assert world.places() == (3, 0, 0)


@pytest.mark.parametrize(("age", "taken"), [(DAY, True), (DAY + 1, False)])
def test_a_count_may_be_a_day_old_and_no_older(world: World, age: int, taken: bool) -> None:
    # The count that came with the service was true two days ago, so only the age of the new one can matter.
    world.publish(offers("beds", total=3))
    at = world.now + 2 * DAY
    events = world.send(report("beds", 3, 1, at - age), "shelter", at=at)
    assert isinstance(events[0], CapacityChanged) is taken
    if not taken:
        assert refused(events) == "capacity_outdated"


def test_a_count_by_a_clock_that_is_ahead_does_not_make_right_ones_outdated(world: World) -> None:
    world.publish(offers("beds", total=3))
    [ahead] = world.send(report("beds", 3, 3, world.now + 9 * MINUTE), "shelter")
    assert isinstance(ahead, CapacityChanged)
    assert ahead.true_at == world.now
    world.now += MINUTE
    assert kinds(world.send(report("beds", 3, 1, world.now), "shelter")) == ["CapacityChanged"]
    assert world.places() == (1, 0, 2)


def test_everything_taken_within_the_day_before_is_counted_in(world: World) -> None:
    world.publish(offers("beds", total=9))
    world.accepted(number=1)
    counted_at = world.now
    for number in (2, 3):
        world.now += 11 * HOUR
        world.accepted(number=number)
    world.send(report("beds", 9, 8, counted_at), "shelter", at=counted_at + DAY)
    assert world.places() == (6, 0, 3)


def test_what_is_held_must_still_be_there(world: World) -> None:
    world.publish(offers("beds", total=3))
    world.refer(number=1)
    world.refer(number=2)
    assert refused(world.send(report("beds", 3, 1, world.now), "shelter")) == "capacity_below_held"
    assert isinstance(world.send(report("beds", 3, 2, world.now), "shelter")[0], CapacityChanged)
    assert world.places() == (0, 2, 1)


def test_a_held_place_is_below_what_a_count_leaves_once_what_was_accepted_since_is_counted_in(
    world: World,
) -> None:
    world.publish(offers("beds", total=3))
    first, _ = world.refer(number=1), world.refer(number=2)
    counted_at = world.now
    world.send(accept(first), "shelter", at=world.now + 5 * MINUTE)
    # Two were free then; one of them is taken since, and the other held.
    assert isinstance(world.send(report("beds", 3, 2, counted_at), "shelter")[0], CapacityChanged)
    assert world.places() == (0, 1, 2)
    assert refused(world.send(report("beds", 3, 1, counted_at), "shelter")) == "capacity_below_held"


def test_nothing_is_promised_beyond_what_there_is(world: World) -> None:
    world.publish(offers("beds", units=overbooked(0)))
    world.accepted(number=1)
    second = world.refer(number=2)
    assert world.events[-1] == ReferralClosed(referral=second, status="revoked", reason="no_match")


def test_where_its_provider_lets_it_be_as_many_more_are_promised_and_no_more(world: World) -> None:
    world.publish(offers("beds", units=overbooked(1)))
    world.accepted(number=1)
    second = world.refer(number=2)
    assert isinstance(world.events[-1], OfferMade)
    third = world.refer(number=3)
    assert world.events[-1] == ReferralClosed(referral=third, status="revoked", reason="no_match")
    world.send(accept(second), "shelter")
    assert world.places() == (0, 0, 2)


def test_overbooking_that_is_let_calls_who_waits(world: World) -> None:
    world.publish(offers("beds", units=overbooked(0)))
    world.accepted(number=1)
    first, _ = (world.refer(number=number, mode="waitlist") for number in (2, 3))
    events = world.send(publish(offers("beds", units=overbooked(1))), "shelter")
    assert kinds(events) == ["ServicePublished", "ReferralCalled", "MatchDecided", "OfferMade"]
    assert offers_in(events)[0].referral == first


def test_overbooking_cannot_be_taken_back_from_under_an_open_offer(world: World) -> None:
    world.publish(offers("beds", units=overbooked(1, total=1, available=1)))
    world.refer(number=1)
    world.send(report("beds", 1, 0, world.now), "shelter")
    assert world.places() == (0, 1, 1)
    assert (
        refused(world.send(publish(offers("beds", units=overbooked(0))), "shelter")) == "capacity_below_held"
    )
    world.send(decline(next(iter(world.state.referrals))), "shelter")
    assert kinds(world.send(publish(offers("beds", units=overbooked(0))), "shelter")) == ["ServicePublished"]


def test_publishing_a_service_anew_counts_nothing(world: World) -> None:
    world.publish(offers("beds", total=3))
    world.accepted()
    world.publish(offers("beds", total=9))
    assert world.places() == (2, 0, 1)


def test_a_place_that_a_count_brings_is_offered_to_the_next(world: World) -> None:
    world.publish(offers("beds", total=1, available=0))
    world.send(report("beds", 1, 1, world.now), "shelter")
    world.refer()
    assert len(offers_in(world.events)) == 1
