"""What is reported of the service: contacts, handoff, no-show, start, outcome and its correction, and how it is afterwards."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    ContactReported,
    Escalated,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    NoShowReported,
    OutcomeReported,
    ReferralClosed,
    Reminded,
    ServiceStarted,
)
from referral_bus.contracts.vocabulary import OutcomeResult
from tests.support.deciding import (
    DAY,
    HOUR,
    World,
    accept,
    contact,
    follow_up,
    give_back,
    go_on,
    handoff,
    hold,
    kinds,
    no_show,
    offers,
    outcome,
    refused,
    start,
    transfer,
    withdraw,
)

HOURLY = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}


def accepted(world: World) -> str:
    world.publish(offers("beds"))
    return world.accepted()


def closed(world: World, result: OutcomeResult = "need_met") -> str:
    referral = accepted(world)
    world.send(outcome(referral, result), "shelter")
    return referral


def handing_over(world: World) -> str:
    world.follow(steps=[{"step": "handoff", "limits": HOURLY, "reminders": [50]}], escalate_to="hospital")
    return accepted(world)


# Contacts, no-show, start


def test_a_contact_that_was_tried_is_recorded_and_changes_nothing(world: World) -> None:
    referral = accepted(world)
    task = world.task(referral)
    assert world.send(contact(referral, world.now), "shelter") == [
        ContactReported(
            referral=referral,
            task=task_id(referral, 1),
            tried_at=world.now - 1,
            channel="phone",
            reached=False,
        )
    ]
    assert world.task(referral) == task


def test_a_no_show_is_recorded_and_the_service_may_still_begin(world: World) -> None:
    referral = accepted(world)
    assert world.send(no_show(referral, world.now), "shelter") == [
        NoShowReported(referral=referral, task=task_id(referral, 1), missed_at=world.now - 1)
    ]
    assert (world.task(referral).status, world.task(referral).business) == ("accepted", "no-show")
    assert world.places() == (0, 0, 1)
    assert kinds(world.send(start(referral), "shelter")) == ["ServiceStarted"]


@pytest.mark.parametrize("report", [contact, no_show, start, outcome])
def test_only_the_provider_that_has_accepted_reports(world: World, report: object) -> None:
    referral = accepted(world)
    for sender in ("clinic", "police"):
        assert refused(world.send(report(referral), sender)) == "not_your_offer"  # type: ignore[operator]


@pytest.mark.parametrize("report", [contact, no_show, start, outcome, handoff])
def test_nothing_is_reported_of_what_nobody_has_accepted(world: World, report: object) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert refused(world.send(report(referral), "clinic")) == "not_accepted"  # type: ignore[operator]


@pytest.mark.parametrize("report", [contact, no_show, start])
@pytest.mark.parametrize(("ahead", "reason"), [(HOUR, "time_in_future"), (-30 * DAY, "time_before_opening")])
def test_a_reported_time_that_cannot_be_is_refused(
    world: World, report: object, ahead: int, reason: str
) -> None:
    referral = accepted(world)
    assert refused(world.send(report(referral, world.now + ahead), "shelter")) == reason  # type: ignore[operator]


@pytest.mark.parametrize("late", [no_show, handoff])
def test_what_is_reported_out_of_order_never_leads_a_service_back(world: World, late: object) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    world.send(start(referral), "shelter")
    assert kinds(world.send(late(referral), "shelter"))[0] in ("NoShowReported", "HandoffConfirmed")  # type: ignore[operator]
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", "started")


def test_a_no_show_after_the_handoff_is_recorded_and_leaves_it_handed_over(world: World) -> None:
    referral = handing_over(world)
    for sender in ("police", "shelter"):
        world.send(handoff(referral), sender)
    assert kinds(world.send(no_show(referral), "shelter")) == ["NoShowReported"]
    assert world.task(referral).business == "handed-over"


@pytest.mark.parametrize(
    ("reports", "business"),
    [
        ([], "scheduled"),
        (["no-show"], "no-show"),
        (["handoff"], "handed-over"),
        (["handoff", "no-show"], "handed-over"),
    ],
)
@pytest.mark.parametrize("resting", [False, True])
def test_a_service_goes_on_where_it_stood_and_what_is_reported_while_it_rests_counts_then(
    world: World, reports: list[str], business: str, resting: bool
) -> None:
    world.follow(steps=[{"step": "handoff", "limits": HOURLY}])
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(accept(referral, starts_at=world.now + DAY), "shelter")
    if resting:
        world.send(hold(referral), "shelter")
    for report in reports:
        for sender in ("shelter", "police") if report == "handoff" else ("shelter",):
            world.send(handoff(referral) if report == "handoff" else no_show(referral), sender)
    assert world.task(referral).business == ("on-hold" if resting else business)
    if not resting:
        world.send(hold(referral), "shelter")
    world.send(go_on(referral), "shelter")
    assert (world.task(referral).status, world.task(referral).business) == ("in-progress", business)


# The warm handoff


def test_each_party_that_has_not_confirmed_a_handoff_is_reminded(world: World) -> None:
    referral = handing_over(world)
    reminded = world.tick(world.now + HOUR // 2)
    assert [one.party for one in reminded if isinstance(one, Reminded)] == ["police", "shelter"]
    assert world.tick(world.now) == []
    assert world.again() == [value for _, value in world.entries]
    assert referral in world.state.referrals


@pytest.mark.parametrize("goes_on", [go_on, start])
def test_the_time_for_the_handoff_stands_still_while_the_service_rests_and_begins_anew_then(
    world: World, goes_on: object
) -> None:
    referral = handing_over(world)
    world.send(hold(referral), "shelter")
    assert world.tick(world.now + 2 * DAY) == []
    world.send(goes_on(referral), "shelter")  # type: ignore[operator]
    assert world.tick(world.now + HOUR // 2 - 1) == []
    assert kinds(world.tick(world.now + HOUR)) == ["Reminded", "Reminded", "Escalated"]


@pytest.mark.parametrize("first", ["police", "shelter"])
def test_a_handoff_is_complete_when_both_parties_have_confirmed_it(world: World, first: str) -> None:
    referral = handing_over(world)
    second = {"police": "shelter", "shelter": "police"}[first]
    for sender, complete in ((first, False), (second, True)):
        [event] = world.send(handoff(referral, world.now), sender)
        assert isinstance(event, HandoffConfirmed)
        assert (event.by, event.means, event.complete) == (sender, "in_person", complete)
    assert world.task(referral).business == "handed-over"
    assert world.tick(world.now + DAY) == []


def test_a_handoff_that_is_not_confirmed_by_both_in_time_is_reminded_and_escalates(world: World) -> None:
    referral = handing_over(world)
    due = world.now + HOUR
    world.send(handoff(referral, world.now), "shelter")
    assert world.tick(due) == [
        Reminded(
            referral=referral,
            task=task_id(referral, 1),
            step="handoff",
            party="police",
            percent=50,
            due=due,
        ),
        Escalated(referral=referral, task=task_id(referral, 1), step="handoff", to="hospital", due=due),
    ]
    assert isinstance(world.send(handoff(referral, world.now), "police")[0], HandoffConfirmed)


def test_a_handoff_is_confirmed_once_by_each_and_by_nobody_else(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    assert refused(world.send(handoff(referral), "police")) == "no_handoff"
    assert refused(world.send(handoff(referral), "clinic")) == "not_your_referral"


def test_the_agency_a_referral_is_transferred_to_confirms_for_itself(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    world.send(transfer(referral), "police")
    world.send(handoff(referral), "shelter")
    [event] = world.send(handoff(referral), "hospital")
    assert isinstance(event, HandoffConfirmed)
    assert event.complete


def test_a_handoff_that_was_complete_stays_so_when_the_referral_is_transferred(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    world.send(handoff(referral), "shelter")
    world.send(transfer(referral), "police")
    assert world.tick(world.now + DAY) == []
    assert refused(world.send(handoff(referral), "hospital")) == "no_handoff"


def test_each_provider_that_takes_the_person_is_to_confirm_the_handoff(world: World) -> None:
    world.publish(offers("rooms", "clinic"))
    referral = handing_over(world)
    first = world.task(referral)
    world.send(handoff(referral), "police")
    world.send(handoff(referral), first.provider)
    world.send(give_back(referral, 1), first.provider)
    second = world.task(referral, 2)
    world.send(accept(referral, 2), second.provider)
    assert kinds(world.tick(world.now + HOUR)) == ["Reminded", "Reminded", "Escalated"]


# Start and outcome, late and corrected


def test_a_start_reported_after_the_outcome_is_taken_as_late_once_and_changes_nothing_else(
    world: World,
) -> None:
    referral = closed(world)
    started_at = world.now - HOUR
    assert world.send(start(referral, started_at), "shelter") == [
        ServiceStarted(referral=referral, task=task_id(referral, 1), started_at=started_at, late=True)
    ]
    assert refused(world.send(start(referral, started_at), "shelter")) == "already_started"
    assert world.places() == (1, 0, 0)
    assert referral in world.state.closed


@pytest.mark.parametrize("report", [contact, no_show])
def test_a_contact_or_no_show_reported_after_the_outcome_is_taken_as_late(
    world: World, report: object
) -> None:
    referral = closed(world)
    [event] = world.send(report(referral), "shelter")  # type: ignore[operator]
    assert isinstance(event, ContactReported | NoShowReported)
    assert (event.late, event.task) == (True, task_id(referral, 1))
    assert refused(world.send(report(referral), "clinic")) == "not_your_offer"  # type: ignore[operator]
    assert refused(world.send(report(referral, world.now - 30 * DAY), "shelter")) == "time_before_opening"  # type: ignore[operator]
    assert world.again() == [value for _, value in world.entries]


def test_a_handoff_confirmed_after_the_outcome_is_taken_as_late_once_from_each_party(world: World) -> None:
    referral = handing_over(world)
    world.send(handoff(referral), "police")
    world.send(outcome(referral), "shelter")
    [event] = world.send(handoff(referral), "shelter")
    assert isinstance(event, HandoffConfirmed)
    assert (event.late, event.complete) == (True, True)
    for sender in ("shelter", "police"):
        assert refused(world.send(handoff(referral), sender)) == "no_handoff"
    assert refused(world.send(handoff(referral), "clinic")) == "not_your_referral"


def test_a_start_that_was_reported_in_time_is_not_taken_late(world: World) -> None:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    world.send(outcome(referral), "shelter")
    assert refused(world.send(start(referral), "shelter")) == "already_started"


def test_a_corrected_outcome_names_the_one_it_corrects_each_time_the_last(world: World) -> None:
    referral = closed(world)
    first = world.state.sequence - 1
    for result in ("not_met", "partly_met"):
        [event] = world.send(outcome(referral, result), "shelter")
        assert event == OutcomeReported(
            referral=referral, task=task_id(referral, 1), result=result, corrects=first
        )
        first = world.state.sequence
    assert world.places() == (1, 0, 0)


def test_follow_ups_count_from_when_the_service_ended_and_not_from_when_that_was_said(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    ended_at = world.now
    world.tick(world.now + 10 * DAY)
    [reported, *_] = world.send(outcome(referral, ended_at=ended_at), "shelter")
    assert isinstance(reported, OutcomeReported) and reported.ended_at == ended_at
    assert world.tick(ended_at + 30 * DAY - 1) == []
    assert world.tick(ended_at + 30 * DAY) == [FollowUpDue(referral=referral, days=30, provider="shelter")]
    assert kinds(world.send(follow_up(referral), "shelter")) == ["FollowedUp"]


def test_a_follow_up_that_was_due_before_the_outcome_was_said_is_due_at_once(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    ended_at = world.now
    world.tick(world.now + 40 * DAY)
    world.send(outcome(referral, ended_at=ended_at), "shelter")
    assert kinds(world.tick(world.now + HOUR)) == ["FollowUpDue"]


def test_an_outcome_is_corrected_by_its_provider_alone(world: World) -> None:
    referral = closed(world)
    for sender in ("clinic", "police"):
        assert refused(world.send(outcome(referral), sender)) == "not_your_offer"


def test_a_referral_that_was_withdrawn_before_the_service_began_has_no_outcome_and_no_late_start(
    world: World,
) -> None:
    referral = accepted(world)
    world.send(withdraw(referral), "police")
    assert refused(world.send(outcome(referral), "shelter")) == "referral_closed"
    assert refused(world.send(start(referral), "shelter")) == "referral_closed"


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ("need_met", "completed"),
        ("partly_met", "completed"),
        ("not_met", "failed"),
        ("no_show", "failed"),
    ],
)
def test_the_outcome_ends_the_task_as_completed_or_failed(
    world: World, result: OutcomeResult, status: str
) -> None:
    referral = accepted(world)
    # What the fold makes of the outcome before the referral is closed.
    known = world.state.referrals[referral]
    world.send(outcome(referral, result), "shelter")
    assert known.tasks[0].status == known.tasks[0].business == status


# How it is afterwards


def test_30_and_90_days_after_its_outcome_a_referral_is_to_be_followed_up(world: World) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = closed(world)
    at = world.now
    assert world.tick(at + 30 * DAY - 1) == []
    assert world.tick(at + 30 * DAY) == [FollowUpDue(referral=referral, days=30, provider="shelter")]
    assert world.tick(at + 90 * DAY - 1) == []
    assert world.tick(at + 90 * DAY) == [FollowUpDue(referral=referral, days=90, provider="shelter")]
    assert world.tick(at + 200 * DAY) == []


@pytest.mark.parametrize("sender", ["shelter", "police"])
def test_provider_or_agency_says_how_it_is_once_for_each_day(world: World, sender: str) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = closed(world)
    world.tick(world.now + 30 * DAY)
    assert world.send(follow_up(referral, 30), sender) == [
        FollowedUp(referral=referral, days=30, by=sender, result="need_met")
    ]
    other = {"shelter": "police", "police": "shelter"}[sender]
    assert refused(world.send(follow_up(referral, 30), other)) == "not_your_report"
    assert refused(world.send(follow_up(referral, 90), sender)) == "time_out_of_range"
    world.tick(world.now + 60 * DAY)
    assert kinds(world.send(follow_up(referral, 90), sender)) == ["FollowedUp"]


def test_what_was_said_a_few_days_before_its_time_is_not_asked_for(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = closed(world)
    at = world.now
    assert kinds(world.send(follow_up(referral), "shelter", at=at + 25 * DAY)) == ["FollowedUp"]
    assert world.tick(at + 31 * DAY) == []


def test_nobody_else_says_how_it_is(world: World) -> None:
    referral = closed(world)
    body = follow_up(referral)
    assert refused(world.send(body, "clinic", at=world.now + 30 * DAY)) == "not_your_referral"


def test_a_referral_that_ended_without_an_outcome_is_not_followed_up(world: World) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = accepted(world)
    world.send(withdraw(referral), "police")
    assert world.tick(world.now + 100 * DAY) == []
    assert refused(world.send(follow_up(referral), "police")) == "no_follow_up"


def test_follow_ups_count_from_the_end_as_it_is_corrected(world: World) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = accepted(world)
    ended_at = world.now + DAY
    world.send(outcome(referral), "shelter", at=world.now + 10 * DAY)
    world.send(outcome(referral, ended_at=ended_at), "shelter")
    assert world.tick(ended_at + 30 * DAY - 1) == []
    assert world.tick(ended_at + 30 * DAY) == [FollowUpDue(referral=referral, days=30, provider="shelter")]
    assert world.tick(ended_at + 90 * DAY - 1) == []
    assert world.tick(ended_at + 90 * DAY) == [FollowUpDue(referral=referral, days=90, provider="shelter")]
    assert world.tick(ended_at + 200 * DAY) == []


def test_what_was_asked_by_the_end_as_it_was_first_said_is_not_asked_again(world: World) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = accepted(world)
    began = world.now
    world.send(outcome(referral, ended_at=began), "shelter", at=began + 20 * DAY)
    assert kinds(world.tick(began + 30 * DAY)) == ["FollowUpDue"]
    world.send(outcome(referral, ended_at=began + 10 * DAY), "shelter")
    assert world.tick(began + 99 * DAY) == []
    assert world.tick(began + 100 * DAY) == [FollowUpDue(referral=referral, days=90, provider="shelter")]


def test_a_correction_that_says_no_end_leaves_it_as_it_was_said(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    ended_at = world.now
    world.send(outcome(referral, ended_at=ended_at), "shelter", at=ended_at + 10 * DAY)
    world.send(outcome(referral, "not_met"), "shelter")
    assert kinds(world.tick(ended_at + 30 * DAY)) == ["FollowUpDue"]


def test_a_person_who_never_came_is_not_followed_up_and_their_referral_is_completed(world: World) -> None:
    """In FHIR the request is completed, since what it asked for was tried to the end; that it came to nothing is what the failed task and
    the result say."""
    world.follow(follow_up_days=[30, 90])
    referral = accepted(world)
    assert world.send(outcome(referral, "no_show"), "shelter")[-1] == ReferralClosed(
        referral=referral, status="completed", reason="outcome_reported", result="no_show"
    )
    assert world.tick(world.now + 100 * DAY) == []


def test_a_need_that_was_not_met_is_followed_up(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    assert world.send(outcome(referral, "not_met"), "shelter")[-1] == ReferralClosed(
        referral=referral, status="completed", reason="outcome_reported", result="not_met"
    )
    assert kinds(world.tick(world.now + 30 * DAY)) == ["FollowUpDue"]


def test_whether_a_person_is_followed_up_goes_by_the_outcome_that_counts(world: World) -> None:
    world.follow(follow_up_days=[30, 90])
    referral = closed(world)
    at = world.now
    world.send(outcome(referral, "no_show"), "shelter")
    assert world.tick(at + 40 * DAY) == []
    world.send(outcome(referral, "need_met"), "shelter")
    assert kinds(world.tick(at + 40 * DAY + 2)) == ["FollowUpDue"]
    world.send(outcome(referral, "no_show"), "shelter")
    assert world.tick(at + 100 * DAY) == []


def test_a_correction_of_a_service_that_ended_after_its_referral_was_withdrawn_asks_nobody(
    world: World,
) -> None:
    world.follow(follow_up_days=[30])
    referral = accepted(world)
    world.send(start(referral), "shelter")
    world.send(withdraw(referral), "police")
    world.send(outcome(referral), "shelter")
    world.send(outcome(referral, ended_at=world.now - HOUR), "shelter")
    assert world.tick(world.now + 31 * DAY) == []


def test_a_corrected_outcome_does_not_move_the_follow_up(world: World) -> None:
    world.follow(follow_up_days=[30])
    referral = closed(world)
    at = world.now
    world.send(outcome(referral, "not_met"), "shelter", at=at + 10 * DAY)
    assert kinds(world.tick(at + 30 * DAY)) == ["FollowUpDue"]
