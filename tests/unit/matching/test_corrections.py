"""What was reported wrongly: a start and how it is afterwards are said again, and a no-show, a contact or a handoff is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    FollowedUp,
    HandoffRetracted,
    ReportRetracted,
    ServiceStarted,
)
from services.matching.core.referral import Started
from tests.support.deciding import (
    DAY,
    HOUR,
    World,
    accept,
    contact,
    decline,
    follow_up,
    give_back,
    go_on,
    handoff,
    hold,
    kinds,
    no_show,
    offers,
    outcome,
    picture,
    propose,
    refused,
    retract,
    start,
    transfer,
    withdraw,
)

HOURLY = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}


def accepted(world: World) -> str:
    world.publish(offers("beds"))
    return world.accepted()


def handing_over(world: World) -> str:
    world.follow(steps=[{"step": "handoff", "limits": HOURLY}], escalate_to="hospital")
    return accepted(world)


def stands(world: World, referral: str) -> tuple[str, str]:
    task = world.task(referral)
    return task.status, task.business


# Said again


def test_a_start_said_again_with_another_time_corrects_the_one_before_and_moves_nothing(world: World) -> None:
    referral = accepted(world)
    world.send(start(referral, world.now - HOUR), "shelter")
    for earlier in (2 * HOUR, 3 * HOUR):
        wrong, task = world.state.sequence, world.task(referral)
        at = world.now - earlier
        assert world.send(start(referral, at), "shelter") == [
            ServiceStarted(referral=referral, task=task_id(referral, 1), started_at=at, corrects=wrong)
        ]
        assert world.task(referral) == task
        assert world.state.referrals[referral].start == Started(world.state.sequence, at)
    assert world.again() == [value for _, value in world.entries]


def test_a_start_is_corrected_while_the_service_rests_and_it_goes_on_resting(world: World) -> None:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    world.send(hold(referral), "shelter")
    assert kinds(world.send(start(referral, world.now - HOUR), "shelter")) == ["ServiceStarted"]
    assert stands(world, referral) == ("on-hold", "on-hold")


def test_the_time_until_the_outcome_runs_on_when_the_start_is_corrected(world: World) -> None:
    world.follow(steps=[{"step": "outcome", "limits": HOURLY}])
    referral = accepted(world)
    world.send(start(referral, world.now), "shelter")
    due = world.now + HOUR
    world.tick(world.now + HOUR // 2)
    world.send(start(referral, world.now), "shelter")
    assert kinds(world.tick(due)) == ["Escalated"]


def test_a_start_is_corrected_after_the_outcome_too(world: World) -> None:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    wrong = world.state.sequence
    world.send(outcome(referral), "shelter")
    at = world.now - HOUR
    assert world.send(start(referral, at), "shelter") == [
        ServiceStarted(referral=referral, task=task_id(referral, 1), started_at=at, late=True, corrects=wrong)
    ]
    assert refused(world.send(start(referral, at), "shelter")) == "already_started"


@pytest.mark.parametrize("sender", ["shelter", "police"])
def test_how_it_is_said_again_corrects_what_the_same_said_before(world: World, sender: str) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    world.send(outcome(referral), "shelter")
    world.tick(world.now + 30 * DAY)
    world.send(follow_up(referral), sender)
    for _ in range(2):
        wrong = world.state.sequence
        assert world.send(follow_up(referral), sender) == [
            FollowedUp(referral=referral, days=30, by=sender, result="need_met", corrects=wrong)
        ]
    assert world.again() == [value for _, value in world.entries]


# Taken back


@pytest.mark.parametrize(("report", "what"), [(no_show, "no_show"), (contact, "contact")])
@pytest.mark.parametrize("late", [False, True])
def test_a_no_show_or_contact_is_taken_back_once_and_may_then_be_reported_anew(
    world: World, report: Any, what: Any, late: bool
) -> None:
    referral = accepted(world)
    if late:
        world.send(outcome(referral), "shelter")
    body = report(referral)
    world.send(body, "shelter")
    wrong = world.state.sequence
    assert world.send(retract(referral, wrong), "shelter") == [
        ReportRetracted(referral=referral, task=task_id(referral, 1), report=what, corrects=wrong, late=late)
    ]
    assert refused(world.send(retract(referral, wrong), "shelter")) == "no_such_report"
    assert (
        len(world.send(body, "shelter")) == 1 and refused(world.send(body, "shelter")) == "already_reported"
    )
    assert world.again() == [value for _, value in world.entries]


def test_a_service_stands_again_where_it_would_without_the_no_show(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(accept(referral, starts_at=world.now + DAY), "shelter")
    at = world.now
    world.send(no_show(referral, at), "shelter")
    first = world.state.sequence
    world.send(no_show(referral, at - HOUR), "shelter")
    world.send(retract(referral, first), "shelter")
    assert stands(world, referral) == ("accepted", "no-show")
    world.send(retract(referral, first + 1), "shelter")
    assert stands(world, referral) == ("accepted", "scheduled")


@pytest.mark.parametrize("further", ["start", "handoff"])
def test_a_service_that_came_further_stays_there_when_a_no_show_is_taken_back(
    world: World, further: str
) -> None:
    referral = handing_over(world)
    world.send(no_show(referral), "shelter")
    wrong = world.state.sequence
    for sender in ("police", "shelter"):
        world.send(handoff(referral), sender)
    if further == "start":
        world.send(start(referral), "shelter")
    stood = stands(world, referral)
    world.send(retract(referral, wrong), "shelter")
    assert stands(world, referral) == stood


def test_what_is_taken_back_while_the_service_rests_counts_when_it_goes_on(world: World) -> None:
    referral = accepted(world)
    world.send(no_show(referral), "shelter")
    wrong = world.state.sequence
    world.send(hold(referral), "shelter")
    world.send(retract(referral, wrong), "shelter")
    assert stands(world, referral) == ("on-hold", "on-hold")
    world.send(go_on(referral), "shelter")
    assert stands(world, referral) == ("in-progress", "accepted")


@pytest.mark.parametrize("sender", ["police", "shelter"])
def test_a_handoff_that_was_done_is_to_be_confirmed_anew_by_who_took_it_back(
    world: World, sender: str
) -> None:
    referral = handing_over(world)
    sequences = {}
    for who in ("police", "shelter"):
        world.send(handoff(referral), who)
        sequences[who] = world.state.sequence
    world.tick(world.now + DAY)
    assert world.send(retract(referral, sequences[sender]), sender) == [
        HandoffRetracted(referral=referral, task=task_id(referral, 1), by=sender, corrects=sequences[sender])
    ]
    assert stands(world, referral) == ("accepted", "accepted")
    assert world.tick(world.now + HOUR - 1) == []
    assert kinds(world.tick(world.now + 1)) == ["Escalated"]
    [again] = world.send(handoff(referral), sender)
    assert again.complete  # type: ignore[attr-defined]
    assert stands(world, referral) == ("accepted", "handed-over")


def test_half_a_handoff_that_is_taken_back_keeps_the_time_it_had(world: World) -> None:
    referral = handing_over(world)
    due = world.now + HOUR
    world.send(handoff(referral), "police")
    world.send(retract(referral, world.state.sequence), "police")
    assert world.tick(due - 1) == []
    assert kinds(world.tick(due)) == ["Escalated"]
    assert kinds(world.send(handoff(referral), "police")) == ["HandoffConfirmed"]


def test_a_handoff_of_a_service_that_rests_is_due_once_that_goes_on(world: World) -> None:
    referral = handing_over(world)
    for who in ("police", "shelter"):
        world.send(handoff(referral), who)
    wrong = world.state.sequence
    world.send(hold(referral), "shelter")
    world.send(retract(referral, wrong), "shelter")
    assert world.tick(world.now + DAY) == []
    world.send(go_on(referral), "shelter")
    assert kinds(world.tick(world.now + HOUR)) == ["Escalated"]


def test_a_handoff_is_taken_back_after_the_outcome_and_confirmed_anew(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    wrong = world.state.sequence
    world.send(outcome(referral), "shelter")
    [event] = world.send(retract(referral, wrong), "police")
    assert isinstance(event, HandoffRetracted) and event.late
    assert kinds(world.send(handoff(referral), "police")) == ["HandoffConfirmed"]


def test_nobody_takes_back_what_another_confirmed(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    wrong = world.state.sequence
    world.send(transfer(referral), "police")
    for sender in ("shelter", "hospital", "police", "clinic"):
        assert refused(world.send(retract(referral, wrong), sender)) == "not_your_report"


def test_what_was_reported_before_a_referral_was_reopened_is_taken_back_until_its_provider_accepts_anew(
    world: World,
) -> None:
    referral = accepted(world)
    world.send(no_show(referral), "shelter")
    wrong = world.state.sequence
    world.send(outcome(referral), "shelter")
    world.send(world.reopening(referral), "police")
    [event] = world.send(retract(referral, wrong), "shelter")
    assert isinstance(event, ReportRetracted) and event.late
    world.send(accept(referral, 2), "shelter")
    assert world.state.referrals[referral].reports == ()
    assert refused(world.send(retract(referral, wrong), "shelter")) == "no_such_report"


# Of a service that is over without an outcome


def handed_on(world: World) -> str:
    """The shelter began, and the clinic has taken the person over."""
    world.follow(steps=[{"step": "handoff", "limits": HOURLY}], escalate_to="hospital")
    world.publish_in_order("shelter:beds", "clinic:rooms")
    referral = world.accepted()
    world.send(start(referral, world.now), "shelter")
    world.send(contact(referral, world.now), "shelter")
    world.send(propose(referral, "rooms"), "shelter")
    world.send(accept(referral, 2), "clinic")
    return referral


def late_reports(world: World, referral: str) -> list[Any]:
    """What the shelter says of what it did, each of its first attempt."""
    at = world.now - HOUR
    said = [contact(referral, at), start(referral, at), no_show(referral, at), handoff(referral, at)]
    events = [event for body in said for event in world.send(body, "shelter")]
    events += world.send(retract(referral, world.state.sequence - 1), "shelter")
    assert kinds(events) == [
        "ContactReported",
        "ServiceStarted",
        "NoShowReported",
        "HandoffConfirmed",
        "ReportRetracted",
    ]
    return events


def test_who_handed_the_person_over_reports_late_and_whoever_has_them_now_keeps_them(world: World) -> None:
    referral = handed_on(world)
    known = world.state.referrals[referral]
    before = known.tasks, known.acceptance, known.start, known.reports, known.confirmed
    events = late_reports(world, referral)
    assert all(event.late and event.task == task_id(referral, 1) for event in events)
    assert events[1].corrects is not None, "it began before the person was handed over"
    known = world.state.referrals[referral]
    assert (known.tasks, known.acceptance, known.start, known.reports, known.confirmed) == before
    [begun] = world.send(start(referral, world.now), "clinic")
    assert isinstance(begun, ServiceStarted)
    assert (begun.task, begun.late, begun.corrects) == (task_id(referral, 2), False, None)
    assert picture(world.state) == picture(world.folded().state)


def test_who_handed_the_person_over_reports_also_once_the_referral_is_closed_and_reopened(
    world: World,
) -> None:
    referral = handed_on(world)
    world.send(outcome(referral), "clinic")
    late_reports(world, referral)
    world.send(world.reopening(referral), "police")
    world.send(decline(referral, 3), world.task(referral, 3).provider)
    world.now += 2 * HOUR
    late = [world.send(contact(referral, world.now), provider)[0] for provider in ("shelter", "clinic")]
    assert [(event.late, event.task) for event in late] == [
        (True, task_id(referral, 1)),
        (True, task_id(referral, 2)),
    ]


def test_what_comes_of_who_was_handed_over_or_given_back_is_not_the_former_providers_to_say(
    world: World,
) -> None:
    referral = handed_on(world)
    assert refused(world.send(outcome(referral), "shelter")) == "ended_without_outcome"
    world.send(outcome(referral), "clinic")
    assert refused(world.send(outcome(referral), "shelter")) == "ended_without_outcome"
    assert kinds(world.send(outcome(referral, "partly_met"), "clinic")) == ["OutcomeReported"]


def test_who_gave_the_person_back_reports_late(world: World) -> None:
    world.publish_in_order("shelter:beds", "clinic:rooms")
    referral = world.accepted()
    world.send(give_back(referral, 1, "could_not_reach"), "shelter")
    offered = world.state.referrals[referral].tasks
    for body in (no_show(referral, world.now), contact(referral, world.now), start(referral, world.now)):
        [event] = world.send(body, "shelter")
        assert event.late and event.task == task_id(referral, 1)
    assert world.state.referrals[referral].tasks == offered
    assert refused(world.send(contact(referral, world.now), "pantry")) == "not_accepted"


def test_what_a_provider_that_has_the_person_on_offer_again_reports_waits_for_its_acceptance(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(give_back(referral), "shelter")
    world.send(world.reopening(referral), "police")
    assert kinds(world.send(start(referral, world.now), "shelter")) == ["SubmissionParked"]
    [*_, begun] = world.send(accept(referral, 2), "shelter")
    assert isinstance(begun, ServiceStarted)
    assert (begun.task, begun.late) == (task_id(referral, 2), False)


def test_of_what_was_entered_in_error_the_former_provider_reports_no_more(world: World) -> None:
    referral = handed_on(world)
    world.send(withdraw(referral, "entered_in_error"), "police")
    assert refused(world.send(contact(referral, world.now), "shelter")) == "entered_in_error"
