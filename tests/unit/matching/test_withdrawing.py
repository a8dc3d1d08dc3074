"""A service that has begun goes on after its agency took the referral back, until its provider says what came of it."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import OutcomeReported, ReferralClosed, ReferralWithdrawn, TaskCancelled
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    World,
    accept,
    follow_up,
    give_back,
    go_on,
    hold,
    kinds,
    of,
    offers,
    outcome,
    propose,
    refused,
    start,
    transfer,
    withdraw,
)

FIRST, SECOND = of(number=8), of(number=9)
HOURLY = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}


def started(world: World) -> str:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(start(referral, world.now), "shelter")
    return referral


def split(world: World) -> str:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    world.send(world.parts_of(whole, [(8, HOUSING), (9, HOUSING)]), "police")
    return whole


def test_the_place_of_a_service_that_has_begun_stays_taken_until_its_outcome_which_is_recorded(
    world: World,
) -> None:
    referral = started(world)
    assert world.send(withdraw(referral), "police") == [
        ReferralWithdrawn(referral=referral, reason="moved_away", serving=task_id(referral, 1))
    ]
    assert world.places() == (0, 0, 1)
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", "started")
    assert world.send(outcome(referral, "partly_met"), "shelter") == [
        OutcomeReported(referral=referral, task=task_id(referral, 1), result="partly_met"),
        ReferralClosed(referral=referral, status="revoked", reason="withdrawn", result="partly_met"),
    ]
    assert world.places() == (1, 0, 0)
    assert world.again() == [value for _, value in world.entries]


def test_nobody_is_offered_the_place_of_a_person_who_is_still_there(world: World) -> None:
    referral = started(world)
    waiting = world.refer(number=2, mode="waitlist")
    world.send(withdraw(referral), "police")
    assert world.state.referrals[waiting].offers == []
    world.send(outcome(referral), "shelter")
    assert world.state.referrals[waiting].offers == [1]


def test_the_outcome_of_a_withdrawn_referral_can_be_corrected_and_is_not_asked_after(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = started(world)
    world.send(withdraw(referral), "police")
    world.send(outcome(referral), "shelter")
    [corrected] = world.send(outcome(referral, "not_met"), "shelter")
    assert isinstance(corrected, OutcomeReported) and corrected.corrects is not None
    assert world.tick(world.now + 31 * DAY) == []
    assert kinds(world.send(follow_up(referral), "shelter")) == ["FollowedUp"]


def test_a_withdrawn_service_rests_goes_on_and_is_escalated_as_any_other(world: World) -> None:
    world.follow(steps=[{"step": "outcome", "limits": HOURLY}])
    referral = started(world)
    world.send(withdraw(referral), "police")
    assert kinds(world.send(hold(referral), "shelter")) == ["TaskHeld"]
    assert kinds(world.send(go_on(referral), "shelter")) == ["TaskResumed"]
    assert kinds(world.tick(world.now + HOUR)) == ["Escalated"]


def test_a_person_who_is_given_back_after_the_withdrawal_is_offered_to_nobody(world: World) -> None:
    world.publish(offers("rooms", "clinic"))
    referral = started(world)
    provider = world.task(referral).provider
    world.send(start(referral, world.now), provider)
    world.send(withdraw(referral), "police")
    events = world.send(give_back(referral), provider)
    assert kinds(events) == ["TaskCancelled", "ReferralClosed"]
    assert events[1] == ReferralClosed(referral=referral, status="revoked", reason="withdrawn")
    assert (world.places("beds"), world.places("rooms")) == ((1, 0, 0), (1, 0, 0))


def test_who_was_asked_to_take_the_person_over_is_not_asked_any_more(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.accepted()
    world.send(start(referral, world.now), "shelter")
    world.send(propose(referral, "second"), "shelter")
    assert world.send(withdraw(referral), "police")[1:] == [
        TaskCancelled(referral=referral, task=task_id(referral, 2), provider="clinic", reason="withdrawn")
    ]
    assert refused(world.send(accept(referral, 2), "clinic")) == "offer_not_open"
    assert world.places("first")[2] == 1


@pytest.mark.parametrize("afterwards", [False, True])
def test_what_was_entered_in_error_is_over_at_once_though_it_had_begun(
    world: World, afterwards: bool
) -> None:
    referral = started(world)
    if afterwards:
        world.send(withdraw(referral), "police")
    events = world.send(withdraw(referral, "entered_in_error"), "police")
    assert kinds(events) == ["ReferralWithdrawn", "ReferralClosed"]
    assert world.places() == (1, 0, 0)
    assert refused(world.send(outcome(referral), "shelter")) == "entered_in_error"


def test_a_service_that_gave_the_person_back_has_not_begun_for_who_is_asked_next(world: World) -> None:
    world.publish(offers("rooms", "clinic"))
    referral = started(world)
    provider = world.task(referral).provider
    world.send(start(referral, world.now), provider)
    world.send(give_back(referral), provider)
    assert kinds(world.send(withdraw(referral), "police")) == ["ReferralWithdrawn", "ReferralClosed"]


def test_a_part_that_is_served_goes_on_when_the_whole_is_withdrawn_and_the_others_end(world: World) -> None:
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    world.send(start(FIRST, world.now), "shelter")
    world.send(accept(SECOND), "shelter")
    events = world.send(withdraw(whole), "police")
    assert ReferralWithdrawn(referral=FIRST, reason="moved_away", serving=task_id(FIRST, 1)) in events
    assert whole in world.state.closed and SECOND in world.state.closed
    assert world.places() == (4, 0, 1)
    assert kinds(world.send(outcome(FIRST), "shelter")) == ["OutcomeReported", "ReferralClosed"]
    assert world.places() == (5, 0, 0)


def test_a_part_that_is_withdrawn_counts_in_the_whole_by_what_came_of_it(world: World) -> None:
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    world.send(start(FIRST, world.now), "shelter")
    world.send(withdraw(FIRST), "police")
    world.send(withdraw(SECOND), "police")
    assert whole in world.state.referrals
    assert world.send(outcome(FIRST), "shelter")[-1] == ReferralClosed(
        referral=whole, status="completed", reason="parts_closed", result="need_met"
    )


def test_a_withdrawn_part_stays_so_when_its_whole_is_withdrawn_too(world: World) -> None:
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    world.send(start(FIRST, world.now), "shelter")
    world.send(withdraw(FIRST), "police")
    assert [
        event.referral
        for event in world.send(withdraw(whole), "police")
        if isinstance(event, ReferralWithdrawn)
    ] == [whole]


def test_another_agency_can_not_take_over_what_was_withdrawn(world: World) -> None:
    referral = started(world)
    world.send(withdraw(referral), "police")
    assert refused(world.send(transfer(referral), "police")) == "already_withdrawn"
