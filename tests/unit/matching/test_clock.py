"""The protocol's clock: reminders, expiries, escalations and limits are events; a clock that is wrong does no harm."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AdoptReference, AmendReferral
from referral_bus.contracts.ledger import (
    AgencyReminded,
    Escalated,
    FollowUpDue,
    OfferAccepted,
    OfferExpired,
    ReferralClosed,
    Reminded,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DueKind
from referral_bus.wire.codec import Codec
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    OPERATIONS,
    START,
    World,
    accept,
    acknowledge,
    ask,
    decline,
    give_back,
    go_on,
    hold,
    kinds,
    of,
    offers,
    offers_in,
    organisation,
    outcome,
    propose,
    refused,
    reply,
    start,
    transfer,
    withdraw,
)
from tests.support.lives import Lives

MIDNIGHT = START - START % DAY + DAY
"""The first after the beginning: of Wednesday, 15 November 2023."""
SECONDS = 30_000
"""Less than any offer waits."""


def each(limit: int) -> dict[str, int]:
    return {"crisis": limit, "urgent": limit, "routine": limit}


OPEN_ON: Any = {"silence": "escalates", "referral_limits": each(30 * DAY)}
"""An offer that nobody answers stays open."""


def step(name: str, limit: int, *reminders: int) -> dict[str, Any]:
    return {"step": name, "limits": each(limit), "reminders": reminders}


def offered(world: World, **changes: Any) -> str:
    """A referral on offer for ten minutes, under a protocol with these changes."""
    world.follow(**changes)
    world.publish(offers("beds"))
    return world.refer()


def accepted(world: World, **changes: Any) -> str:
    referral = offered(world, **changes)
    world.send(accept(referral), "shelter")
    return referral


def office(name: str, opens: int, closes: int, *holidays: str) -> AdoptReference:
    """Open on weekdays between these hours."""
    content = Calendar.model_validate(
        {
            "calendar": name,
            "name": name.title(),
            "hours": [{"days": ["MO", "TU", "WE", "TH", "FR"], "opens": opens * 60, "closes": closes * 60}],
            "holidays": list(holidays),
            "time_zone": "Etc/UTC",
            "offsets": [{"since": 0, "minutes": 0}],
        }
    )
    return AdoptReference(kind="calendar", reference=name, version=1, calendar=content)


# Reminders


def test_who_must_answer_an_offer_is_reminded_after_the_shares_of_time_the_protocol_says(
    world: World,
) -> None:
    referral = offered(world, offer_reminders=[50, 80])
    at, due = world.now, world.now + 10 * MINUTE
    reminded = {
        "referral": referral, "task": task_id(referral, 1), "step": "accept", "party": "shelter", "due": due,
    }  # fmt: skip
    assert world.tick(at + 5 * MINUTE - 1) == []
    assert world.tick(at + 5 * MINUTE) == [Reminded(**reminded, percent=50)]
    assert world.tick(at + 8 * MINUTE) == [Reminded(**reminded, percent=80)]
    assert kinds(world.tick(due))[0] == "OfferExpired"


def test_while_the_agency_is_asked_something_it_is_reminded_and_not_the_provider(world: World) -> None:
    referral = offered(world, offer_reminders=[50, 80])
    world.send(ask(referral), "shelter")
    [first] = world.tick(world.now + 5 * MINUTE)
    world.send(reply(referral), "police")
    [second] = world.tick(world.now + 3 * MINUTE)
    assert isinstance(first, Reminded) and isinstance(second, Reminded)
    assert (first.party, second.party) == ("police", "shelter")


@pytest.mark.parametrize("answer", [accept, decline])
def test_who_has_answered_is_not_reminded(world: World, answer: Any) -> None:
    referral = offered(world, offer_reminders=[50, 80])
    world.send(answer(referral), "shelter")
    assert world.tick(world.now + DAY) == []


def test_each_offer_of_a_broadcast_is_reminded_of(world: World) -> None:
    world.follow(offer_reminders=[50])
    world.publish(offers("beds"), offers("rooms", "clinic"))
    world.refer(mode="broadcast")
    events = world.tick(world.now + 5 * MINUTE)
    assert sorted(one.party for one in events if isinstance(one, Reminded)) == ["clinic", "shelter"]


# Silence


def test_where_silence_escalates_the_offer_stays_open_and_is_escalated_once(world: World) -> None:
    referral = offered(world, **OPEN_ON, escalate_to="hospital")
    due = world.now + 10 * MINUTE
    assert world.tick(due) == [
        Escalated(referral=referral, task=task_id(referral, 1), step="accept", to="hospital", due=due)
    ]
    assert world.task(referral).is_open
    assert world.places() == (0, 1, 0)
    assert world.tick(due + DAY) == []


def test_a_step_escalates_to_whom_it_names_itself_and_all_else_to_whom_the_protocol_names(
    world: World,
) -> None:
    acknowledge = {
        "step": "acknowledge",
        "limits": {"crisis": MINUTE // 2, "urgent": MINUTE, "routine": MINUTE},
        "escalate_to": "clinic",
    }
    offered(world, **OPEN_ON, escalate_to="hospital", steps=[acknowledge])
    at = world.now
    told = [
        (one.step, one.to)
        for minutes in range(1, 12)
        for one in world.tick(at + minutes * MINUTE)
        if isinstance(one, Escalated)
    ]
    assert told == [("acknowledge", "clinic"), ("accept", "hospital")]


def test_an_offer_that_was_escalated_can_still_be_accepted(world: World) -> None:
    referral = offered(world, **OPEN_ON)
    [escalated] = world.tick(world.now + 10 * MINUTE)
    assert isinstance(escalated, Escalated)
    assert escalated.to is None
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)


def test_an_acceptance_after_the_limit_and_before_the_tick_counts_where_silence_escalates(
    world: World,
) -> None:
    referral = offered(world, **OPEN_ON)
    events = world.send(accept(referral), "shelter", at=world.now + HOUR)
    assert isinstance(events[0], OfferAccepted)
    assert world.tick(world.now) == []


def test_an_offer_that_was_escalated_can_still_be_declined(world: World) -> None:
    world.publish(offers("rooms", "clinic"))
    referral = offered(world, **OPEN_ON)
    world.tick(world.now + 10 * MINUTE)
    [made] = offers_in(world.send(decline(referral), world.task(referral).provider))
    assert made.expires_at == world.now + 10 * MINUTE


# The steps


def test_an_offer_that_is_not_acknowledged_in_time_escalates_and_waits_on(world: World) -> None:
    referral = offered(world, steps=[step("acknowledge", SECONDS)])
    due = world.now + SECONDS
    assert world.tick(due) == [
        Escalated(referral=referral, task=task_id(referral, 1), step="acknowledge", due=due)
    ]
    assert kinds(world.send(acknowledge(referral), "shelter")) == ["OfferAcknowledged"]
    assert kinds(world.send(accept(referral), "shelter")) == ["OfferAccepted"]


@pytest.mark.parametrize("seen", [acknowledge, ask, accept])
def test_whatever_shows_that_the_offer_was_seen_acknowledges_it(world: World, seen: Any) -> None:
    referral = offered(world, steps=[step("acknowledge", SECONDS)])
    world.send(seen(referral), "shelter")
    assert world.tick(world.now + MINUTE) == []


def test_a_service_that_does_not_start_in_time_is_reminded_and_escalates_once(world: World) -> None:
    referral = accepted(world, steps=[step("start", DAY, 75)])
    due = world.now + DAY
    assert world.tick(due) == [
        Reminded(
            referral=referral,
            task=task_id(referral, 1),
            step="start",
            party="shelter",
            percent=75,
            due=due,
        ),
        Escalated(referral=referral, task=task_id(referral, 1), step="start", due=due),
    ]
    assert world.tick(due + 50 * DAY) == []


@pytest.mark.parametrize("rests", [False, True])
def test_the_time_to_start_begins_when_the_provider_said_that_it_takes_the_person(
    world: World, rests: bool
) -> None:
    referral = offered(world, steps=[step("start", DAY, 50)])
    starts_at = world.now + 5 * DAY
    world.send(accept(referral, starts_at=starts_at), "shelter")
    if rests:
        world.send(hold(referral), "shelter")
        world.send(go_on(referral), "shelter")
    assert world.tick(starts_at + DAY // 2 - 1) == []
    assert kinds(world.tick(starts_at + DAY)) == ["Reminded", "Escalated"]


def test_the_time_for_the_outcome_begins_with_the_start(world: World) -> None:
    referral = accepted(world, steps=[step("start", DAY), step("outcome", 2 * DAY)])
    world.send(start(referral, world.now), "shelter", at=world.now + HOUR)
    due = world.now + 2 * DAY
    assert world.tick(due - 1) == []
    assert world.tick(due) == [
        Escalated(referral=referral, task=task_id(referral, 1), step="outcome", due=due)
    ]


def test_what_is_over_does_not_escalate(world: World) -> None:
    referral = accepted(world, steps=[step("start", DAY), step("outcome", DAY)])
    world.send(start(referral, world.now), "shelter")
    world.send(outcome(referral), "shelter")
    assert world.tick(world.now + 10 * DAY) == []


# How long a referral may go without an acceptance


def test_a_referral_nobody_accepts_is_closed_when_its_time_is_over_and_its_offers_end(world: World) -> None:
    referral = offered(world, referral_limits=each(HOUR), silence="escalates")
    opened_at = world.now
    world.tick(opened_at + HOUR - 1)
    assert world.tick(opened_at + HOUR) == [
        TaskCancelled(referral=referral, task=task_id(referral, 1), provider="shelter", reason="time_over"),
        ReferralClosed(referral=referral, status="revoked", reason="time_over"),
    ]
    assert world.places() == (1, 0, 0)
    assert refused(world.send(accept(referral), "shelter")) == "referral_closed"


def test_waiting_for_a_providers_date_counts_as_going_unaccepted(world: World) -> None:
    referral = offered(world, referral_limits=each(2 * DAY), silence="escalates")
    opened_at = world.now
    until = opened_at + DAY
    world.send(decline(referral, 1, "full_until", until), "shelter")
    world.tick(until)
    assert "ReferralClosed" not in kinds(world.tick(opened_at + 2 * DAY - 1))
    assert world.tick(opened_at + 2 * DAY)[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="time_over"
    )


def test_a_referral_that_was_accepted_in_time_is_not_closed(world: World) -> None:
    referral = accepted(world, referral_limits=each(HOUR))
    assert world.tick(world.now + 30 * DAY) == []
    assert world.task(referral).is_taken


def test_its_agency_is_reminded_before_a_referral_has_gone_unaccepted_for_too_long(world: World) -> None:
    world.follow(referral_limits=each(10 * DAY), referral_reminders=[50, 80], waitlist_review_ms=30 * DAY)
    world.publish(offers("beds", available=0))
    referral = world.refer(mode="waitlist")
    opened_at = world.now
    due = opened_at + 10 * DAY
    for percent, at in ((50, opened_at + 5 * DAY), (80, opened_at + 8 * DAY)):
        assert world.tick(at - 1) == []
        assert world.tick(at) == [
            AgencyReminded(referral=referral, agency="police", percent=percent, due=due)
        ]
    assert kinds(world.tick(due)) == ["ReferralClosed"]


def test_an_agency_is_told_anew_when_the_time_that_is_left_ends_at_another_moment(world: World) -> None:
    world.follow(referral_limits=each(10 * DAY), referral_reminders=[50, 60, 80], waitlist_review_ms=30 * DAY)
    world.publish(offers("beds", available=0))
    referral = world.refer(mode="waitlist")
    opened_at = world.now
    assert kinds(world.tick(opened_at + 7 * DAY)) == ["AgencyReminded", "AgencyReminded"]
    world.send(transfer(referral), "police", at=opened_at + 7 * DAY)
    world.send(hold(referral), "hospital", at=opened_at + 7 * DAY)
    assert world.tick(opened_at + 20 * DAY) == []
    world.send(go_on(referral), "hospital", at=opened_at + 20 * DAY)
    due = opened_at + 23 * DAY
    # Of what is over the last alone is said; what is to come, in its time.
    for percent, at in ((60, opened_at + 20 * DAY), (80, opened_at + 21 * DAY)):
        assert world.tick(at) == [
            AgencyReminded(referral=referral, agency="hospital", percent=percent, due=due)
        ]
    assert kinds(world.tick(due)) == ["ReferralClosed"]


def test_nobody_is_reminded_that_a_referral_goes_unaccepted_which_was_accepted(world: World) -> None:
    accepted(world, referral_limits=each(HOUR), referral_reminders=[80])
    assert world.tick(world.now + DAY) == []


def test_a_more_urgent_referral_is_reminded_of_by_its_new_limit(world: World) -> None:
    limits = {"crisis": 2 * DAY, "urgent": 10 * DAY, "routine": 20 * DAY}
    world.follow(referral_limits=limits, referral_reminders=[50], waitlist_review_ms=30 * DAY)
    world.publish(offers("beds", available=0))
    referral = world.refer(mode="waitlist")
    opened_at = world.now
    world.send(AmendReferral(referral=referral, urgency="crisis"), "police")
    reminded = AgencyReminded(referral=referral, agency="police", percent=50, due=opened_at + 2 * DAY)
    assert world.tick(opened_at + DAY) == [reminded]
    assert kinds(world.tick(opened_at + 30 * DAY)) == ["ReferralClosed"]


def test_an_offer_is_made_for_no_longer_than_its_referral_may_go_unaccepted(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(offer_limits=each(DAY), referral_limits=each(DAY + HOUR), offer_reminders=[50])
    referral = world.refer()
    closes = world.now + DAY + HOUR
    assert world.task(referral).expires_at == world.now + DAY
    world.tick(world.now + DAY)
    assert world.task(referral, 2).expires_at == closes
    [reminded] = world.tick(closes - HOUR // 2)
    assert reminded == Reminded(
        referral=referral, task=task_id(referral, 2), step="accept", party="clinic", percent=50, due=closes
    )
    assert refused(world.send(accept(referral, 2), "clinic", at=closes)) == "offer_expired"
    assert world.tick(closes)[-1] == ReferralClosed(referral=referral, status="revoked", reason="time_over")
    assert world.again() == [value for _, value in world.entries]


@pytest.mark.parametrize("how", ["given back", "resumed"])
def test_what_goes_unaccepted_again_is_on_offer_for_no_longer_than_is_left_of_its_time(
    world: World, how: str
) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(offer_limits=each(HOUR), referral_limits=each(HOUR))
    referral = world.refer()
    opened_at = world.now
    if how == "given back":
        world.send(accept(referral), "shelter", at=opened_at + 20 * MINUTE)
        world.send(give_back(referral), "shelter", at=opened_at + 5 * HOUR)
    else:
        world.send(hold(referral), "police", at=opened_at + 20 * MINUTE)
        world.send(go_on(referral), "police", at=opened_at + 5 * HOUR)
    assert world.task(referral, 2).expires_at == opened_at + 5 * HOUR + 40 * MINUTE
    assert world.again() == [value for _, value in world.entries]


def test_nothing_is_offered_any_more_once_the_time_of_a_referral_is_over(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(offer_limits=each(HOUR), referral_limits=each(2 * HOUR))
    referral = world.refer()
    assert world.tick(world.now + DAY) == [
        OfferExpired(referral=referral, task=task_id(referral, 1), provider="shelter"),
        ReferralClosed(referral=referral, status="revoked", reason="time_over"),
    ]


def test_who_is_taken_over_has_no_limit_within_which_that_must_be(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(offer_limits=each(HOUR), referral_limits=each(HOUR))
    referral = world.refer()
    world.send(accept(referral), "shelter", at=world.now + 59 * MINUTE)
    world.send(propose(referral, "second"), "shelter")
    assert world.task(referral, 2).expires_at == world.now + HOUR


# Business time


def test_reminders_of_an_offer_that_its_referrals_time_cuts_short_come_in_business_time(world: World) -> None:
    world.send(office("office", 9, 17), OPERATIONS)
    limits = {"offer_limits": each(16 * HOUR), "referral_limits": each(30 * HOUR)}
    world.follow(business_time=True, calendar="office", offer_reminders=[50], **limits)
    world.publish(offers("beds"))
    world.now = MIDNIGHT + 5 * HOUR
    referral = world.refer()
    closes = world.now + 30 * HOUR
    assert closes == MIDNIGHT + DAY + 11 * HOUR + 1
    assert world.task(referral).expires_at == closes
    # Eight hours on the first day, and two on the second.
    [reminded] = world.tick(MIDNIGHT + 14 * HOUR)
    assert isinstance(reminded, Reminded) and reminded.due == closes


def test_time_limits_in_business_time_pass_while_who_must_act_is_open(world: World) -> None:
    world.send(office("office", 9, 17), OPERATIONS)
    world.follow(offer_limits=each(4 * HOUR), business_time=True, calendar="office", offer_reminders=[50])
    world.publish(offers("beds"))
    referral = world.refer()
    assert world.task(referral).expires_at == MIDNIGHT + 13 * HOUR
    assert world.tick(MIDNIGHT + 11 * HOUR - 1) == []
    assert kinds(world.tick(MIDNIGHT + 11 * HOUR)) == ["Reminded"]
    assert kinds(world.tick(MIDNIGHT + 13 * HOUR))[0] == "OfferExpired"


def test_the_hours_and_holidays_of_who_must_act_come_before_those_of_the_protocol(world: World) -> None:
    world.send(office("office", 9, 17), OPERATIONS)
    world.send(office("late", 12, 20, "2023-11-15"), OPERATIONS)
    body = organisation("shelter", 2)
    assert body.organisation is not None
    theirs = body.organisation.model_copy(update={"calendar": "late"})
    world.send(body.model_copy(update={"organisation": theirs}), OPERATIONS)
    world.follow(offer_limits=each(4 * HOUR), business_time=True, calendar="office", broadcast_width=2)
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer(mode="broadcast")
    ends = {task.provider: task.expires_at for task in world.state.referrals[referral].tasks}
    assert ends == {"clinic": MIDNIGHT + 13 * HOUR, "shelter": MIDNIGHT + DAY + 16 * HOUR}


def test_a_new_version_of_a_calendar_counts_for_the_next_offer_and_not_for_one_that_is_made(
    world: World,
) -> None:
    world.send(office("office", 9, 17), OPERATIONS)
    world.follow(offer_limits=each(4 * HOUR), business_time=True, calendar="office")
    world.publish(offers("beds", total=2))
    first = world.refer(number=1)
    closing = office("office", 9, 17, "2023-11-15")
    assert closing.calendar is not None
    later = closing.calendar.model_copy(update={"version": 2})
    world.send(closing.model_copy(update={"version": 2, "calendar": later}), OPERATIONS)
    second = world.refer(number=2)
    assert world.task(first).expires_at == MIDNIGHT + 13 * HOUR
    assert world.task(second).expires_at == MIDNIGHT + DAY + 13 * HOUR


def keeps(world: World, name: str, opens: int, closes: int, *holidays: str) -> None:
    """The organisation has a calendar of its own."""
    world.send(office(f"of-{name}", opens, closes, *holidays), OPERATIONS)
    body = organisation(name, 2)
    assert body.organisation is not None
    theirs = body.organisation.model_copy(update={"calendar": f"of-{name}"})
    world.send(body.model_copy(update={"organisation": theirs}), OPERATIONS)


def told(events: list[Any]) -> list[tuple[str, str, int]]:
    """Whom of what, after what share of its time."""
    return [(one.party, one.step, one.percent) for one in events if isinstance(one, Reminded)]


def in_office_hours(world: World, **changes: Any) -> str:
    """A referral on offer from Wednesday at nine on, for eight hours from nine to five, of an agency that opens at noon."""
    world.send(office("office", 9, 17), OPERATIONS)
    keeps(world, "police", 12, 20)
    world.now = MIDNIGHT + 9 * HOUR - 100
    return offered(
        world,
        **{"offer_limits": each(8 * HOUR), "business_time": True, "calendar": "office", **changes},
    )


def test_an_agency_that_must_answer_a_question_is_reminded_in_its_own_hours_and_the_offers_end_stays(
    world: World,
) -> None:
    referral = in_office_hours(world, offer_reminders=[20, 50])
    ends_at = MIDNIGHT + 17 * HOUR
    assert world.task(referral).expires_at == ends_at
    world.send(ask(referral), "shelter")
    # Of the five hours that its agency is open till then a fifth is over at one, and a half at half past two.
    assert world.tick(MIDNIGHT + 13 * HOUR - 1000) == []
    assert told(world.tick(MIDNIGHT + 13 * HOUR)) == [("police", "accept", 20)]
    assert world.tick(MIDNIGHT + 14 * HOUR + 29 * MINUTE) == []
    [second] = world.tick(MIDNIGHT + 14 * HOUR + 30 * MINUTE)
    assert isinstance(second, Reminded) and (second.party, second.due) == ("police", ends_at)
    assert kinds(world.tick(ends_at))[0] == "OfferExpired"
    assert world.again() == [value for _, value in world.entries]


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_provider_whose_question_is_answered_is_reminded_in_its_own_hours_again(
    world: World, looked_at: bool
) -> None:
    referral = in_office_hours(world, offer_reminders=[25, 60, 90])
    for asks_at, answers_at in ((10, 12), (15, 16)):
        world.send(ask(referral), "shelter", at=MIDNIGHT + asks_at * HOUR)
        if looked_at:
            world.state.next_due()
        world.send(reply(referral), "police", at=MIDNIGHT + answers_at * HOUR)
        if asks_at == 10:
            # Its first would have been at eleven, while its agency was to answer; the second comes when it would have come.
            assert world.tick(MIDNIGHT + 13 * HOUR + 48 * MINUTE - 1000) == []
            assert told(world.tick(MIDNIGHT + 13 * HOUR + 49 * MINUTE)) == [("shelter", "accept", 60)]
    assert told(world.tick(MIDNIGHT + 17 * HOUR - 1000)) == [("shelter", "accept", 90)]
    assert world.again() == [value for _, value in world.entries]


def test_a_reminder_that_is_due_when_a_question_is_asked_goes_to_the_agency_where_both_keep_the_same_hours(
    world: World,
) -> None:
    referral = offered(world, offer_reminders=[50])
    world.send(ask(referral), "shelter", at=world.now + 6 * MINUTE)
    assert told(world.tick(world.now)) == [("police", "accept", 50)]


def test_a_handoff_is_due_once_it_is_so_by_the_hours_of_both_and_so_are_its_reminders(world: World) -> None:
    referral = in_office_hours(world, steps=[step("handoff", 4 * HOUR, 50)])
    world.send(accept(referral), "shelter", at=MIDNIGHT + 9 * HOUR)
    # By the provider's hours at eleven and one, by its agency's at two and four.
    assert world.tick(MIDNIGHT + 14 * HOUR - 1) == []
    assert told(world.tick(MIDNIGHT + 14 * HOUR)) == [("police", "handoff", 50), ("shelter", "handoff", 50)]
    due = MIDNIGHT + 16 * HOUR
    assert world.tick(due - 1) == []
    assert world.tick(due) == [
        Escalated(referral=referral, task=task_id(referral, 1), step="handoff", due=due)
    ]
    assert world.again() == [value for _, value in world.entries]


def test_a_handoff_waits_for_the_hours_of_a_provider_that_opens_later_than_its_agency(world: World) -> None:
    keeps(world, "shelter", 14, 20)
    referral = in_office_hours(world, steps=[step("handoff", 4 * HOUR, 50)])
    world.send(accept(referral), "shelter", at=MIDNIGHT + 9 * HOUR)
    assert told(world.tick(MIDNIGHT + 18 * HOUR - 1)) == [
        ("police", "handoff", 50),
        ("shelter", "handoff", 50),
    ]
    assert kinds(world.tick(MIDNIGHT + 18 * HOUR)) == ["Escalated"]


FRIDAY = MIDNIGHT + 2 * DAY
MONDAY = FRIDAY + 3 * DAY


@pytest.mark.parametrize("name", ["acknowledge", "handoff", "start", "outcome"])
def test_a_steps_time_and_its_reminders_stand_still_over_the_weekend(world: World, name: str) -> None:
    world.send(office("office", 9, 17), OPERATIONS)
    world.now = FRIDAY + 15 * HOUR - 10
    referral = offered(
        world,
        steps=[step(name, 4 * HOUR, 75)],
        offer_limits=each(40 * HOUR),
        business_time=True,
        calendar="office",
    )
    begins = FRIDAY + 15 * HOUR
    if name != "acknowledge":
        world.send(accept(referral), "shelter", at=begins)
    if name == "outcome":
        world.send(start(referral, begins), "shelter", at=begins)
    ends_at = MONDAY + 11 * HOUR
    assert world.tick(MONDAY + 10 * HOUR - 1000) == []
    parties = ["police", "shelter"] if name == "handoff" else ["shelter"]
    assert told(world.tick(MONDAY + 10 * HOUR)) == [(party, name, 75) for party in parties]
    assert world.tick(ends_at - 1000) == []
    assert kinds(world.tick(ends_at)) == ["Escalated"]


# Clocks that are wrong


def lively(world: World) -> None:
    """Something of everything that falls due."""
    world.follow(
        steps=[step("acknowledge", SECONDS), step("start", DAY), step("outcome", 2 * DAY)],
        offer_reminders=[50],
        referral_limits=each(3 * DAY),
        follow_up_days=[30, 90],
        maximum_offers=9,
    )
    world.publish(offers("beds", total=5), offers("rooms", "clinic"), offers("halls", "pantry"))
    for number in range(1, 5):
        world.refer(number=number)
    names = list(world.state.referrals)
    for name in names[:3]:
        world.send(accept(name), world.task(name).provider)
    world.send(start(names[0], world.now), world.task(names[0]).provider)
    world.send(outcome(names[1]), world.task(names[1]).provider)
    world.send(hold(names[2], world.now + 5 * DAY), world.task(names[2]).provider)
    world.refer(number=6, mode="broadcast")
    world.send(withdraw(of(number=77)), "police")


def nothing_is_left_of_offers(world: World) -> None:
    for local in ("beds", "rooms", "halls"):
        assert world.places(local)[1] == 0


def test_a_clock_that_jumps_a_hundred_days_sees_to_everything_that_fell_due_in_its_order(
    world: World,
) -> None:
    lively(world)
    events = world.tick(world.now + 100 * DAY)
    assert kinds(events).count("FollowUpDue") == 2
    for name in {one.referral for one in events if isinstance(one, OfferExpired)}:
        of_it = [
            kind
            for one, kind in zip(events, kinds(events), strict=True)
            if getattr(one, "referral", "") == name
        ]
        assert of_it.index("Reminded") < of_it.index("OfferExpired")
    assert world.tick(world.now) == []
    nothing_is_left_of_offers(world)
    assert world.again() == [value for _, value in world.entries]


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_region_that_slept_for_a_year_still_asks_how_it_is(world: World, snapshot: bool) -> None:
    referral = accepted(world, follow_up_days=[30, 90])
    world.send(outcome(referral), "shelter")
    at = world.now
    events = world.tick(at + 60 * DAY)
    if snapshot:
        world.refer(number=2)
        world.state.forget_old()
    events += world.tick(at + 400 * DAY)
    assert [one.days for one in events if isinstance(one, FollowUpDue)] == [30, 90]


def test_what_was_put_off_is_due_for_as_long_as_it_would_have_been(codec: Codec) -> None:
    kept, gone = set(), set()
    for seed in range(3):
        lives = Lives(codec, seed, windows=seed == 2)
        state = lives.world.state
        for _ in range(60):
            lives.steps(4)
            for due in state.due:
                is_due = state._still_due(due)
                assert state._still_due(due._replace(at=due.at + HOUR, put_off=HOUR)) is is_due, due
                (kept if is_due else gone).add(due.kind)
    between_regions = {"reserve", "lent"}
    assert set(get_args(DueKind)) - between_regions <= kept
    assert gone


def test_ticks_one_by_one_and_one_tick_after_a_jump_end_the_same(world: World) -> None:
    other = World(world.codec)
    for one in (world, other):
        lively(one)
    end = world.now + 100 * DAY
    while (due := world.state.next_due()) is not None and due.at <= end:
        world.tick(due.at)
    other.tick(end)
    assert set(kinds(world.events)) == set(kinds(other.events))
    assert world.state.referrals.keys() == other.state.referrals.keys()
    assert world.state.closed.keys() == other.state.closed.keys()


def test_a_clock_that_stands_still_does_nothing_twice(world: World) -> None:
    world.step = 0
    lively(world)
    assert world.tick(world.now) == []
    assert "OfferExpired" in kinds(world.tick(world.now + 10 * MINUTE))
    sequence = world.state.sequence
    assert [world.tick(world.now) for _ in range(3)] == [[], [], []]
    assert world.state.sequence == sequence


def test_a_clock_that_runs_backwards_ends_nothing_early_and_shortens_no_limit(world: World) -> None:
    world.publish(offers("beds", total=2))
    first = world.refer(number=1)
    latest = world.now
    world.now -= DAY
    second = world.refer(number=2)
    assert world.state.now == latest
    assert world.task(second).expires_at == world.task(first).expires_at == latest + 10 * MINUTE
    assert world.tick(latest - HOUR) == []
    assert isinstance(world.send(accept(second), "shelter")[0], OfferAccepted)


def test_after_a_clock_that_jumped_ahead_and_back_the_region_goes_on(world: World) -> None:
    world.publish(offers("beds", total=2))
    wrong = world.now + 60 * DAY
    world.tick(wrong)
    world.send(withdraw(of(number=77)), "police", at=wrong)
    world.now = START + HOUR
    referral = world.refer()
    # Its limit is counted from the latest time the region has seen; an answer is judged by its own.
    assert world.task(referral).expires_at == wrong + 10 * MINUTE
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)
