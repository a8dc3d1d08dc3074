"""A person is forgotten: nothing is decided by their facts any more, and the ledger says what it decided instead."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ledger import KeyDestroyed, OfferAccepted, ReferralClosed
from services.matching.core.decide import decide, wanted_facts
from tests.support.deciding import (
    HOUR,
    HOUSING,
    OPERATIONS,
    World,
    accept,
    decline,
    forget,
    kinds,
    of,
    offers,
    outcome,
    refused,
    subject_of,
)


def test_forgetting_is_an_event_of_the_region(world: World) -> None:
    assert world.send(forget(subject_of(1)), OPERATIONS) == [KeyDestroyed(subject=subject_of(1))]
    assert world.state.erased == {subject_of(1)}


def test_a_forgotten_person_is_not_referred_again(world: World) -> None:
    world.publish(offers("beds"))
    world.send(forget(subject_of(1)), OPERATIONS)
    assert refused(world.send(world.submission(), "police")) == "subject_erased"


@pytest.mark.parametrize("key_store", ["destroyed", "still has the key"])
@pytest.mark.parametrize("by", ["decline", "expiry"])
def test_an_offer_that_ends_after_the_person_was_forgotten_is_the_last(
    world: World, by: str, key_store: str
) -> None:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    if key_store == "destroyed":
        world.destroyed[subject_of(1)] = world.state.sequence
    world.send(forget(subject_of(1)), OPERATIONS)
    events = world.send(decline(referral), "shelter") if by == "decline" else world.tick(world.now + HOUR)
    assert kinds(events) == ["OfferDeclined" if by == "decline" else "OfferExpired", "ReferralClosed"]
    assert events[-1] == ReferralClosed(referral=referral, status="revoked", reason="facts_unavailable")
    assert sum(unit.held for unit in world.state.units.values()) == 0


def test_facts_whose_key_is_lost_end_the_referral_at_its_next_match(world: World) -> None:
    world.publish(offers("beds"), offers("rooms"))
    body = world.submission()
    world.send(body, "police")
    world.unreadable.add(body.sealed_facts)
    assert world.send(decline(body.referral), "shelter")[-1] == ReferralClosed(
        referral=body.referral, status="revoked", reason="facts_unavailable"
    )


def test_what_needs_no_facts_goes_on_for_a_forgotten_person(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.destroyed[subject_of(1)] = world.state.sequence
    world.send(forget(subject_of(1)), OPERATIONS)
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)
    assert kinds(world.send(outcome(referral), "shelter")) == ["OutcomeReported", "ReferralClosed"]


def test_no_key_is_asked_for_once_the_ledger_says_it_is_destroyed(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    again = world.received(world.submission(number=2, person=1), "police")
    refuses = world.received(decline(referral), "shelter")
    for received in (again, refuses):
        assert wanted_facts(world.state, received, world.now)
    world.send(forget(subject_of(1)), OPERATIONS)
    for received in (again, refuses):
        assert wanted_facts(world.state, received, world.now) == []


def test_facts_that_were_opened_all_the_same_are_not_matched_after_the_person_was_forgotten(
    world: World,
) -> None:
    world.publish(offers("beds"))
    world.send(forget(subject_of(1)), OPERATIONS)
    received = world.received(world.submission(), "police")
    assert refused(decide(world.state, received, world.now, {of(): HOUSING})) == "subject_erased"


def test_facts_are_wanted_by_what_matches_and_by_nothing_else(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    wants = {
        "accept": world.received(accept(referral), "shelter"),
        "outcome": world.received(outcome(referral), "shelter"),
        "forget": world.received(forget(subject_of(1)), OPERATIONS),
    }
    for received in wants.values():
        assert wanted_facts(world.state, received, world.now) == []
