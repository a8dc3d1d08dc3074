"""What was entered in error, also after it was closed: its tasks, its parts, and what it counted for."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    JoinedOutcomeCorrected,
    ReferralWithdrawn,
    TaskCancelled,
    TaskEnteredInError,
)
from referral_bus.contracts.vocabulary import OutcomeResult
from tests.support.deciding import (
    DAY,
    HOUSING,
    World,
    accept,
    decline,
    follow_up,
    kinds,
    of,
    offers,
    outcome,
    refused,
    start,
    transfer,
    withdraw,
)

FIRST, SECOND = of(number=8), of(number=9)
WRONG = "entered_in_error"


def closed(world: World) -> str:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(outcome(referral), "shelter")
    return referral


def split(world: World) -> str:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    world.send(world.parts_of(whole, [(8, HOUSING), (9, HOUSING)]), "police")
    return whole


def ended(world: World, part: str, result: OutcomeResult) -> None:
    world.send(accept(part), "shelter")
    world.send(outcome(part, result), "shelter")


def in_error(referral: str, attempt: int = 1, provider: str = "shelter") -> TaskEnteredInError:
    return TaskEnteredInError(referral=referral, task=task_id(referral, attempt), provider=provider)


def test_a_closed_referral_is_entered_in_error_with_every_attempt_there_ever_was(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.refer()
    world.send(decline(referral), "shelter")
    world.send(accept(referral, 2), "clinic")
    world.send(outcome(referral), "clinic")
    world.send(world.reopening(referral), "police")
    third = world.task(referral, 3).provider
    world.send(withdraw(referral), "police")
    assert world.send(withdraw(referral, WRONG), "police") == [
        ReferralWithdrawn(referral=referral, reason=WRONG),
        in_error(referral),
        in_error(referral, 2, "clinic"),
        in_error(referral, 3, third),
    ]
    assert world.again() == [value for _, value in world.entries]


def test_nothing_more_is_taken_of_what_was_entered_in_error_and_it_is_not_followed_up(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = closed(world)
    world.send(withdraw(referral, WRONG), "police")
    for body, sender in (
        (outcome(referral), "shelter"),
        (start(referral), "shelter"),
        (follow_up(referral), "police"),
        (world.reopening(referral), "police"),
        (withdraw(referral, WRONG), "police"),
    ):
        assert refused(world.send(body, sender)) == WRONG
    assert world.tick(world.now + 40 * DAY) == []


def test_a_closed_referral_is_withdrawn_for_no_other_reason_and_by_nobody_else(world: World) -> None:
    referral = closed(world)
    assert refused(world.send(withdraw(referral), "police")) == "referral_closed"
    for sender in ("hospital", "shelter"):
        assert refused(world.send(withdraw(referral, WRONG), sender)) == "not_your_referral"


def test_the_arms_of_a_broadcast_and_the_attempts_before_are_in_error_with_an_open_referral(
    world: World,
) -> None:
    world.follow(broadcast_width=2, maximum_offers=9)
    world.publish(offers("a"), offers("b", "clinic"))
    referral = world.refer(mode="broadcast")
    first, second = (world.task(referral, number).provider for number in (1, 2))
    world.send(accept(referral, 2), second)
    events = world.send(withdraw(referral, WRONG), "police")
    assert events[:-1] == [
        ReferralWithdrawn(referral=referral, reason=WRONG, task=task_id(referral, 2)),
        in_error(referral, 1, first),
    ]
    assert (world.places("a"), world.places("b")) == ((1, 0, 0), (1, 0, 0))


def test_an_open_arm_of_a_broadcast_frees_its_place_once_and_is_in_error_then(world: World) -> None:
    world.follow(broadcast_width=2, maximum_offers=9)
    world.publish(offers("a"), offers("b", "clinic"))
    referral = world.refer(mode="broadcast")
    first, second = (world.task(referral, number).provider for number in (1, 2))
    events = world.send(withdraw(referral, WRONG), "police")
    assert events[:-1] == [
        ReferralWithdrawn(referral=referral, reason=WRONG, task=task_id(referral, 2)),
        TaskCancelled(referral=referral, task=task_id(referral, 1), provider=first, reason="withdrawn"),
        in_error(referral, 1, first),
    ]
    assert second != first
    assert (world.places("a"), world.places("b")) == ((1, 0, 0), (1, 0, 0))


@pytest.mark.parametrize("over", [False, True])
def test_the_parts_of_what_was_entered_in_error_are_in_error_too_open_or_closed(
    world: World, over: bool
) -> None:
    whole = split(world)
    ended(world, FIRST, "need_met")
    if over:
        ended(world, SECOND, "not_met")
    events = world.send(withdraw(whole, WRONG), "police")
    for part in (FIRST, SECOND):
        assert in_error(part) in events
        assert world.state.closed[part].in_error
    assert world.state.closed[whole].in_error
    assert not any(isinstance(event, JoinedOutcomeCorrected) for event in events)
    assert world.places() == (5, 0, 0)
    assert world.again() == [value for _, value in world.entries]


@pytest.mark.parametrize("over", [False, True])
def test_a_part_that_another_agency_follows_stays_as_it_is(world: World, over: bool) -> None:
    whole = split(world)
    world.send(transfer(FIRST), "police")
    ended(world, FIRST, "need_met")
    if over:
        ended(world, SECOND, "not_met")
    world.send(withdraw(whole, WRONG), "police")
    assert not world.state.closed[FIRST].in_error
    assert kinds(world.send(outcome(FIRST, "not_met"), "shelter")) == ["OutcomeReported"]


def test_a_part_that_is_still_served_after_its_whole_was_withdrawn_is_in_error_with_it(world: World) -> None:
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    world.send(start(FIRST), "shelter")
    world.send(withdraw(whole), "police")
    assert FIRST in world.state.referrals and world.places() == (4, 0, 1)
    events = world.send(withdraw(whole, WRONG), "police")
    assert in_error(FIRST) in events and in_error(SECOND) in events
    assert world.state.closed[FIRST].in_error and world.places() == (5, 0, 0)
    assert world.again() == [value for _, value in world.entries]


def test_a_part_that_was_reopened_after_its_whole_was_closed_goes_on_when_that_is_in_error(
    world: World,
) -> None:
    whole = split(world)
    ended(world, FIRST, "need_met")
    ended(world, SECOND, "not_met")
    world.send(world.reopening(SECOND), "police")
    world.send(withdraw(whole, WRONG), "police")
    assert SECOND in world.state.referrals
    assert kinds(world.send(accept(SECOND, 2), "shelter")) == ["OfferAccepted"]


def test_a_part_in_error_counts_no_more_for_a_whole_that_goes_on(world: World) -> None:
    whole = split(world)
    ended(world, FIRST, "not_met")
    world.send(withdraw(FIRST, WRONG), "police")
    world.send(accept(SECOND), "shelter")
    events = world.send(outcome(SECOND, "need_met"), "shelter")
    assert events[-1].result == "need_met"  # type: ignore[attr-defined]
    assert events[-1].referral == whole  # type: ignore[attr-defined]


def test_a_part_in_error_counts_no_more_for_a_whole_that_is_closed(world: World) -> None:
    whole = split(world)
    ended(world, FIRST, "need_met")
    ended(world, SECOND, "not_met")
    for part, result in ((SECOND, "need_met"), (FIRST, "not_met")):
        by = world.state.closed[whole].closed_by
        assert world.send(withdraw(part, WRONG), "police")[-1] == JoinedOutcomeCorrected(
            referral=whole, part=part, result=result, corrects=by
        )
    assert world.again() == [value for _, value in world.entries]


def test_a_part_that_came_to_nothing_and_is_in_error_counts_no_more_either(world: World) -> None:
    world.follow(maximum_offers=1)
    whole = split(world)
    world.send(decline(FIRST), "shelter")
    ended(world, SECOND, "need_met")
    [*_, corrected] = world.send(withdraw(FIRST, WRONG), "police")
    assert isinstance(corrected, JoinedOutcomeCorrected)
    assert (corrected.referral, corrected.result) == (whole, "need_met")


def test_what_another_region_never_held_a_place_for_was_never_offered(world: World) -> None:
    referral = closed(world)
    known = world.state.closed[referral]
    world.state.closed[referral] = known._replace(asked=("", "shelter"))
    assert world.send(withdraw(referral, WRONG), "police")[1:] == [in_error(referral, 2)]
