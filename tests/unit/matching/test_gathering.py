"""Routine referrals of a window are decided together: more are served than in the order they came, and nothing is sold twice."""

from __future__ import annotations

import pytest

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.inbox import HoldReferral
from referral_bus.contracts.ledger import OfferMade, ReferralClosed, ReferralQueued, WindowClosed
from tests.support.deciding import (
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    forget,
    kinds,
    of,
    offers,
    picture,
    policy,
    service_of,
    stated_age,
    subject_of,
    withdraw,
)

GATHERING = POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE})
OLD = HOUSING.model_copy(update={"age": stated_age(70)})


@pytest.fixture
def gathering(world: World) -> World:
    """Windows of ten minutes; one place for everybody, and one for the young."""
    world.send(policy(GATHERING), OPERATIONS)
    world.publish(offers("any"), offers("young", "clinic", ages={"maximum": 40}))
    return world


def refer(world: World, number: int, facts: Facts = HOUSING) -> str:
    return world.refer(facts, number=number, urgency="routine")


def made(world: World) -> dict[str, str]:
    return {event.referral: event.service for event in world.events if isinstance(event, OfferMade)}


def test_a_routine_referral_waits_for_its_window(gathering: World) -> None:
    first, second = refer(gathering, 1), refer(gathering, 2)
    queued = [event for event in gathering.events if isinstance(event, ReferralQueued)]
    assert [event.referral for event in queued] == [first, second]
    assert queued[0].until == queued[1].until == gathering.now - 1 + 10 * MINUTE
    assert made(gathering) == {}


def test_more_are_served_together_than_in_the_order_they_came(gathering: World) -> None:
    first, second = refer(gathering, 1), refer(gathering, 2, OLD)
    [closed, *follows] = gathering.tick(gathering.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert kinds(follows) == ["ReferralCalled", "MatchDecided", "OfferMade"] * 2
    assert made(gathering) == {first: service_of("young"), second: service_of("any")}


def test_who_is_left_without_a_place_is_closed_with_a_certificate(gathering: World) -> None:
    numbers = [refer(gathering, number, OLD) for number in (1, 2, 3)]
    events = gathering.tick(gathering.now + 10 * MINUTE)
    assert [event.service for event in events if isinstance(event, OfferMade)] == [service_of("any")]
    ended = [event for event in events if isinstance(event, ReferralClosed)]
    assert [event.reason for event in ended] == ["no_match", "no_match"]
    assert {event.referral for event in ended} < set(numbers)


def test_crisis_and_urgent_are_decided_on_arrival(gathering: World) -> None:
    assert isinstance(gathering.send(gathering.submission(), "police")[-1], OfferMade)


def test_who_is_withdrawn_or_held_is_not_in_the_window_any_more(gathering: World) -> None:
    first, second, third = (refer(gathering, number) for number in (1, 2, 3))
    gathering.send(withdraw(first), "police")
    gathering.send(HoldReferral(referral=second, reason="other"), "police")
    [closed, *_] = gathering.tick(gathering.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert [placement.referral for placement in closed.placements] == [third]


def test_a_window_that_everybody_left_closes_without_a_word(gathering: World) -> None:
    gathering.send(withdraw(refer(gathering, 1)), "police")
    assert gathering.tick(gathering.now + 10 * MINUTE) == []


def test_a_person_who_was_forgotten_meanwhile_gets_no_service(gathering: World) -> None:
    first = refer(gathering, 1)
    gathering.send(forget(subject_of(1)), OPERATIONS)
    events = gathering.tick(gathering.now + 10 * MINUTE)
    assert events[-1] == ReferralClosed(referral=first, status="revoked", reason="facts_unavailable")


def test_the_next_window_begins_with_the_next_referral(gathering: World) -> None:
    refer(gathering, 1)
    gathering.tick(gathering.now + 10 * MINUTE)
    gathering.now += 60 * MINUTE
    refer(gathering, 2)
    queued = gathering.events[-1]
    assert isinstance(queued, ReferralQueued)
    assert queued.until == gathering.now + 10 * MINUTE


def test_decided_again_it_is_the_same_and_folded_too(gathering: World) -> None:
    for number in (1, 2, 3, 4):
        refer(gathering, number, OLD if number % 2 else HOUSING)
    assert picture(gathering.folded().state) == picture(gathering.state)
    gathering.tick(gathering.now + 10 * MINUTE)
    assert picture(gathering.folded().state) == picture(gathering.state)
    assert gathering.again() == [value for _, value in gathering.entries]
    assert of() in gathering.state.referrals or of() in gathering.state.closed
