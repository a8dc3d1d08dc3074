"""What providers say of their services and places."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityOffered,
    OfferAccepted,
    OfferMade,
    ServicePublished,
)
from services.matching.core.judging.bitmaps import members
from tests.support.deciding import (
    DAY,
    MINUTE,
    World,
    accept,
    decline,
    offers,
    outcome,
    publish,
    refused,
    report,
    service_of,
    unit_of,
)


def free(world: World, local: str = "beds") -> int:
    return world.state.units[unit_of(local)].free


def test_a_published_service_is_offered_to_from_then_on(world: World) -> None:
    definition = offers("beds", total=3, available=2)
    assert world.send(publish(definition), "shelter") == [ServicePublished(definition=definition)]
    assert free(world) == 2
    assert isinstance(world.send(world.submission(), "police")[-1], OfferMade)


def test_an_inactive_service_is_not_offered_to_and_not_considered(world: World) -> None:
    world.publish(offers("beds", active=False), offers("rooms", "clinic"))
    world.refer()
    made, matched = world.events[-1], world.events[-2]
    assert isinstance(made, OfferMade)
    assert made.service == service_of("rooms")
    assert matched.certificate.considered == 1  # type: ignore[attr-defined]


def test_a_service_can_go_and_come_back(world: World) -> None:
    world.publish(offers("beds"), offers("beds", active=False))
    assert len(world.state.catalogue) == 0
    world.publish(offers("beds"))
    assert isinstance(world.send(world.submission(), "police")[-1], OfferMade)


def test_an_open_offer_of_a_service_that_went_inactive_can_still_be_accepted(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.publish(offers("beds", active=False))
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)


def test_publishing_again_keeps_the_counts_of_units_that_were_known(world: World) -> None:
    world.publish(offers("beds", total=5))
    world.accepted(number=1)
    world.refer(number=2)
    world.publish(offers("beds", total=9, available=9))
    unit = world.state.units[unit_of("beds")]
    assert (unit.total, unit.taken, unit.held) == (5, 1, 1)


@pytest.mark.parametrize(("said", "counted"), [(None, 0), (-5 * DAY, -5 * DAY), (DAY, 0)])
def test_a_published_count_is_as_old_as_it_says_and_never_made_later_than_it_was_published(
    world: World, said: int | None, counted: int
) -> None:
    now = world.now + world.step
    [unit] = offers("beds", total=5).units
    at = None if said is None else now + said
    world.publish(offers("beds", units=[unit.model_copy(update={"counted_at": at})], regions=["south"]))
    assert world.state.units[unit_of("beds")].counted_at == now + counted
    [told] = [event for event in world.events if isinstance(event, CapacityOffered)]
    assert told.true_at == now + counted


def test_publishing_again_makes_no_count_older(world: World) -> None:
    [unit] = offers("beds", total=5).units
    described = offers("beds", units=[unit.model_copy(update={"counted_at": 0})])
    world.publish(described)
    world.send(report("beds", 5, 3, world.now), "shelter")
    counted_at = world.state.units[unit_of("beds")].counted_at
    world.now += DAY
    world.publish(described)
    assert world.state.units[unit_of("beds")].counted_at == counted_at > 0


def test_publishing_again_brings_new_units_and_new_needs(world: World) -> None:
    world.publish(offers("beds", total=0))
    more = [offers("beds", total=0).units[0], offers("cots", total=2).units[0]]
    world.publish(offers("beds", needs=["housing", "food"], units=more))
    assert free(world, "cots") == 2
    [slot] = members(world.state.catalogue.coded("openeligibility food"))
    profile = world.state.catalogue.profile(slot)
    assert profile.units == (unit_of("beds"), unit_of("cots"))


def test_a_need_that_a_service_no_longer_meets_leads_to_it_no_longer(world: World) -> None:
    world.publish(offers("beds", needs=["housing", "food"]), offers("beds", needs=["food"]))
    assert world.state.catalogue.coded("openeligibility housing") == 0


def test_a_unit_that_left_its_service_keeps_its_held_place_until_the_offer_ends(world: World) -> None:
    world.publish(offers("beds", total=2))
    referral = world.refer()
    world.publish(offers("beds", units=[offers("cots", total=1).units[0]]))
    assert world.state.units[unit_of("beds")].held == 1
    world.send(decline(referral), "shelter")
    assert world.state.units[unit_of("beds")].held == 0


def test_a_unit_named_twice_in_a_service_counts_once(world: World) -> None:
    unit = offers("beds", total=4, available=2).units[0]
    world.publish(offers("beds", units=[unit, unit]))
    [slot] = members(world.state.catalogue.coded("openeligibility housing"))
    profile = world.state.catalogue.profile(slot)
    assert profile.units == (unit_of("beds"),)


def test_a_capacity_report_counts_anew(world: World) -> None:
    world.publish(offers("beds", total=5))
    changed = world.send(report("beds", 8, 3, world.now), "shelter")
    assert changed == [
        CapacityChanged(
            unit=unit_of("beds"), service=service_of("beds"), total=8, available=3, true_at=world.now - 1
        )
    ]
    unit = world.state.units[unit_of("beds")]
    assert (unit.total, unit.taken, unit.free, unit.counted_at) == (8, 5, 3, world.now - 1)


def test_places_held_for_offers_are_among_those_reported_available(world: World) -> None:
    world.publish(offers("beds", total=5))
    world.refer()
    world.send(report("beds", 5, 2, world.now + 1), "shelter")
    assert free(world) == 1
    assert refused(world.send(report("beds", 5, 0, world.now + 1), "shelter")) == "capacity_below_held"
    world.send(report("beds", 5, 1, world.now + 1), "shelter")
    assert free(world) == 0


def test_a_closed_referral_frees_no_more_than_the_provider_counted_as_taken(world: World) -> None:
    world.publish(offers("beds", total=2))
    referral = world.accepted()
    world.send(report("beds", 2, 2, world.now + 1), "shelter")
    world.send(outcome(referral), "shelter")
    unit = world.state.units[unit_of("beds")]
    assert (unit.free, unit.taken) == (2, 0)


@pytest.mark.parametrize(("ahead", "taken"), [(10 * MINUTE, True), (10 * MINUTE + 1, False)])
def test_a_reported_time_may_be_ahead_by_the_clock_skew_and_no_more(
    world: World, ahead: int, taken: bool
) -> None:
    world.publish(offers("beds"))
    events = world.send(report("beds", 1, 1, world.now + 1 + ahead), "shelter")
    assert isinstance(events[0], CapacityChanged) is taken


def test_a_later_count_stands_against_an_earlier_one_that_arrives_late(world: World) -> None:
    world.publish(offers("beds", total=5))
    world.now += 10
    world.send(report("beds", 5, 1, world.now), "shelter")
    assert refused(world.send(report("beds", 5, 4, world.now - 2), "shelter")) == "capacity_outdated"
    assert free(world) == 1
