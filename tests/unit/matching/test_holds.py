"""Rest and going on: the agency holds a referral nobody has accepted, the provider the service it has accepted."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import HoldReferral
from referral_bus.contracts.ledger import (
    OfferMade,
    ReferralClosed,
    ReferralHeld,
    ReferralResumed,
    TaskCancelled,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.requests import HoldRequest
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    PROTOCOL,
    World,
    accept,
    decline,
    give_back,
    go_on,
    hold,
    kinds,
    of,
    offers,
    offers_in,
    outcome,
    refused,
    service_of,
    start,
    transfer,
)


def test_a_held_referral_ends_its_offers_frees_their_places_and_rests(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert world.send(hold(referral), "police") == [
        TaskCancelled(referral=referral, task=task_id(referral, 1), provider="shelter", reason="held"),
        ReferralHeld(referral=referral, reason="person_asked", until=world.now + PROTOCOL.longest_hold_ms),
    ]
    assert world.places() == (1, 0, 0)
    assert world.tick(world.now + DAY) == []


def test_a_referral_held_without_a_date_goes_on_after_the_longest_it_may_rest(world: World) -> None:
    """Its time limits stand still while it rests, so that nothing else would ever end it."""
    days = {"crisis": DAY, "urgent": DAY, "routine": DAY}
    world.follow(longest_hold_ms=30 * DAY, referral_limits=days, silence="escalates")
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(hold(referral), "police")
    until = world.now + 30 * DAY
    assert world.tick(until - 1) == []
    assert kinds(world.tick(until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]
    assert world.tick(until + DAY)[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="time_over"
    )


def test_a_service_held_without_a_date_goes_on_after_the_longest_it_may_rest(world: World) -> None:
    start_in_a_day = {"step": "start", "limits": {"crisis": DAY, "urgent": DAY, "routine": DAY}}
    world.follow(longest_hold_ms=30 * DAY, steps=[start_in_a_day])
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(hold(referral), "shelter")
    until = world.now + 30 * DAY
    assert world.tick(until - 1) == []
    assert world.tick(until) == [TaskResumed(referral=referral, task=task_id(referral, 1))]
    assert kinds(world.tick(until + DAY)) == ["Escalated"]


def test_a_resumed_referral_goes_on_in_a_new_round_but_not_to_who_is_never_to_be_asked_again(
    world: World,
) -> None:
    world.publish_in_order("first", "second")
    world.follow(maximum_offers=5)
    referral = world.refer()
    world.send(decline(referral, 1, "not_eligible"), "shelter")
    world.send(hold(referral), "police")
    events = world.send(go_on(referral), "police")
    assert events[0] == ReferralResumed(referral=referral)
    [made] = offers_in(events)
    assert (made.task, made.service) == (task_id(referral, 3), service_of("second"))


def test_what_its_agencys_own_hold_ended_is_no_providers_no_and_counts_for_nothing(world: World) -> None:
    world.publish(offers("beds"))
    world.follow(maximum_offers=2)
    referral = world.refer()
    for _ in range(5):
        world.send(hold(referral), "police")
        assert len(offers_in(world.send(go_on(referral), "police"))) == 1


@pytest.mark.parametrize("later", [30 * DAY, 90 * DAY, None])
def test_a_person_who_is_not_ready_is_held_for_another_reason_and_until_another_date_by_the_agency(
    world: World, later: int | None
) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    until = world.now + 60 * DAY
    world.send(decline(referral, 1, "person_not_ready", until), "shelter")
    held = HoldReferral(
        referral=referral, reason="hospital_stay", until=None if later is None else world.now + later
    )
    said = world.send(held, "police")
    # Without a date it is the longest that the protocol lets it rest.
    rests_until = held.until or world.now + world.state.referrals[referral].protocol.longest_hold_ms
    assert said == [ReferralHeld(referral=referral, reason="hospital_stay", until=rests_until)]
    if rests_until > until:
        assert world.tick(until) == []
    assert kinds(world.tick(rests_until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]
    world.send(accept(referral, 2), "shelter")
    assert world.tick(until + 300 * DAY) == []
    assert world.again() == [value for _, value in world.entries]


def test_a_hold_said_again_replaces_the_date_and_neither_loses_nor_gains_time(world: World) -> None:
    world.follow(referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY})
    world.publish(offers("beds"))
    referral = world.refer()
    opened_at = world.now
    world.send(hold(referral, opened_at + 2 * DAY), "police", at=opened_at + HOUR)
    world.send(hold(referral, opened_at + 5 * DAY), "police", at=opened_at + DAY)
    assert world.tick(opened_at + 5 * DAY - 1) == []
    assert kinds(world.tick(opened_at + 5 * DAY)) == ["ReferralResumed", "MatchDecided", "OfferMade"]
    assert world.state.referrals[referral].limit == opened_at + 6 * DAY - HOUR


def test_once_its_agency_holds_what_waited_for_a_providers_date_its_time_stands_still(world: World) -> None:
    world.follow(referral_limits={"crisis": 2 * DAY, "urgent": 2 * DAY, "routine": 2 * DAY})
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(decline(referral, 1, "full_until", world.now + DAY), "shelter")
    world.send(hold(referral), "police")
    assert "ReferralClosed" not in kinds(world.tick(world.now + 30 * DAY))


@pytest.mark.parametrize("sender", ["hospital", "shelter"])
def test_only_its_agency_holds_what_rests_anew(world: World, sender: str) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(decline(referral, 1, "person_not_ready", world.now + DAY), "shelter")
    assert refused(world.send(hold(referral), sender)) == "not_your_referral"


@pytest.mark.parametrize("later", [DAY, None])
def test_a_provider_that_holds_its_service_anew_replaces_the_reason_and_the_date(
    world: World, later: int | None
) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(start(referral), "shelter")
    world.send(hold(referral, world.now + HOUR), "shelter")
    until = None if later is None else world.now + later
    held = HoldReferral(referral=referral, reason="in_custody", until=until)
    assert world.send(held, "shelter") == [
        TaskHeld(
            referral=referral,
            task=task_id(referral, 1),
            reason="in_custody",
            # Without a date it is the longest that the protocol lets it rest.
            until=until or world.now + world.state.referrals[referral].protocol.longest_hold_ms,
        )
    ]
    assert world.tick(world.now + HOUR) == []
    assert kinds(world.tick(world.now + DAY)) == ([] if later is None else ["TaskResumed"])
    if later is None:
        world.send(go_on(referral), "shelter")
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", "started")
    assert world.places() == (0, 0, 1)


def test_a_referral_held_until_a_date_goes_on_by_the_clock(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    until = world.now + DAY
    world.send(hold(referral, until), "police")
    assert world.tick(until - 1) == []
    assert kinds(world.tick(until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]


def test_a_referral_resumed_early_is_not_resumed_again_on_the_date(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(hold(referral, world.now + DAY), "police")
    world.send(go_on(referral), "police")
    world.send(accept(referral, 2), "shelter")
    assert world.tick(world.now + 2 * DAY) == []


def test_a_referral_held_again_until_the_same_date_goes_on_once(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    until = world.now + DAY
    world.send(hold(referral, until), "police")
    world.send(go_on(referral), "police")
    world.send(hold(referral, until), "police")
    assert kinds(world.tick(until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]


def test_no_party_says_that_a_referral_rests_because_a_provider_declined(world: World) -> None:
    """Where it does, its time runs on: that is for the bus to say."""
    for said in (HoldReferral, HoldRequest):
        with pytest.raises(ValidationError, match="reason"):
            said.model_validate({"referral": of(), "reason": "declined"})
    world.publish(offers("beds"))
    referral = world.refer()
    events = world.send(decline(referral, 1, "full_until", world.now + DAY), "shelter")
    assert isinstance(events[-1], ReferralHeld) and events[-1].reason == "declined"


@pytest.mark.parametrize("sender", ["hospital", "shelter"])
def test_only_its_agency_holds_and_resumes_a_referral(world: World, sender: str) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert refused(world.send(hold(referral), sender)) == "not_your_referral"
    world.send(hold(referral), "police")
    assert refused(world.send(go_on(referral), sender)) == "not_your_referral"


def test_a_referral_may_rest_longer_than_it_may_go_unaccepted_and_has_what_was_left_of_that_time_afterwards(
    world: World,
) -> None:
    world.follow(referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY}, silence="escalates")
    world.publish(offers("beds"))
    referral = world.refer()
    opened_at = world.now
    until = world.now + 3 * DAY
    world.send(hold(referral, until), "police", at=opened_at + HOUR)
    assert world.tick(until - 1) == []
    world.tick(until)
    assert "ReferralClosed" not in kinds(world.tick(until + DAY - HOUR - 1))
    assert world.tick(until + DAY - HOUR)[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="time_over"
    )


def test_the_provider_holds_the_service_it_has_accepted_whose_place_stays_taken(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(start(referral), "shelter")
    assert world.send(hold(referral), "shelter") == [
        TaskHeld(
            referral=referral,
            task=task_id(referral, 1),
            reason="person_asked",
            until=world.now + PROTOCOL.longest_hold_ms,
        )
    ]
    assert (world.task(referral).status, world.task(referral).business) == ("on-hold", "on-hold")
    assert world.places() == (0, 0, 1)
    assert world.send(go_on(referral), "shelter") == [
        TaskResumed(referral=referral, task=task_id(referral, 1))
    ]
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", "started")


def test_a_service_held_until_a_date_goes_on_by_the_clock(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    until = world.now + DAY
    world.send(hold(referral, until), "shelter")
    assert world.tick(until - 1) == []
    assert world.tick(until) == [TaskResumed(referral=referral, task=task_id(referral, 1))]
    assert world.tick(until + DAY) == []


def test_a_service_resumed_early_is_not_resumed_again_on_the_date(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    until = world.now + DAY
    world.send(hold(referral, until), "shelter")
    world.send(go_on(referral), "shelter")
    world.send(hold(referral), "shelter")
    assert world.tick(until) == []


def test_a_service_that_rested_before_it_began_can_still_be_reported_to_have_begun_once(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(hold(referral), "shelter")
    world.send(go_on(referral), "shelter")
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", "accepted")
    assert kinds(world.send(start(referral), "shelter")) == ["ServiceStarted"]
    assert world.task(referral).business == "started"
    assert refused(world.send(start(referral), "shelter")) == "already_started"


def test_a_service_that_rests_can_be_ended_or_given_back(world: World) -> None:
    world.publish(offers("beds", total=2))
    ended, given_back = world.accepted(number=1), world.accepted(number=2)
    world.send(hold(ended), "shelter")
    world.send(hold(given_back, world.now + DAY), "shelter")
    assert kinds(world.send(outcome(ended), "shelter")) == ["OutcomeReported", "ReferralClosed"]
    assert kinds(world.send(give_back(given_back), "shelter"))[0] == "TaskCancelled"
    assert world.places() == (2, 0, 0)
    assert world.tick(world.now + DAY) == []


def test_the_time_for_the_outcome_stands_still_while_the_service_rests_and_begins_anew(world: World) -> None:
    world.follow(steps=[{"step": "outcome", "limits": {"crisis": DAY, "urgent": DAY, "routine": DAY}}])
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(start(referral), "shelter")
    world.send(hold(referral), "shelter")
    assert world.tick(world.now + 5 * DAY) == []
    world.send(go_on(referral), "shelter")
    resumed_at = world.now
    assert world.tick(resumed_at + DAY - 1) == []
    assert kinds(world.tick(resumed_at + DAY)) == ["Escalated"]
    assert world.tick(resumed_at + 9 * DAY) == []
    assert world.again() == [value for _, value in world.entries]


def test_a_rest_of_no_time_does_not_escalate_twice(world: World) -> None:
    world.follow(steps=[{"step": "outcome", "limits": {"crisis": DAY, "urgent": DAY, "routine": DAY}}])
    world.publish(offers("beds"))
    referral = world.accepted()
    world.step = 0
    for body in (start(referral), hold(referral), go_on(referral)):
        world.send(body, "shelter")
    assert kinds(world.tick(world.now + DAY)) == ["Escalated"]


def test_the_agency_cannot_hold_what_a_provider_has_accepted_nor_the_provider_what_it_has_not(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert refused(world.send(hold(referral), "shelter")) == "not_your_referral"
    world.send(accept(referral), "shelter")
    assert refused(world.send(hold(referral), "police")) == "already_accepted"
    assert refused(world.send(go_on(referral), "police")) == "not_on_hold"


def test_a_part_that_was_to_be_held_before_it_was_there_is_held_before_it_is_offered(world: World) -> None:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    held, other = sorted((of(number=8), of(number=9)))
    world.send(hold(held), "police")
    number = 8 if held == of(number=8) else 9
    events = world.send(world.parts_of(whole, [(number, HOUSING), (17 - number, HOUSING)]), "police")
    assert [one.referral for one in offers_in(events)] == [other]
    assert world.state.referrals[held].on_hold
    assert isinstance(world.send(go_on(held), "police")[-1], OfferMade)


def test_after_a_transfer_the_new_agency_resumes_what_the_former_held(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(hold(referral), "police")
    world.send(transfer(referral), "police")
    assert refused(world.send(go_on(referral), "police")) == "not_your_referral"
    assert kinds(world.send(go_on(referral), "hospital"))[0] == "ReferralResumed"


def test_an_offer_of_a_held_referral_can_no_longer_be_accepted(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(hold(referral), "police")
    assert refused(world.send(accept(referral), "shelter")) == "offer_not_open"
    world.tick(world.now + HOUR + MINUTE)
    assert refused(world.send(accept(referral), "shelter")) == "offer_not_open"
