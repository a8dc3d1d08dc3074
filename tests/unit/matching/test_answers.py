"""What a provider answers to an offer: acknowledging, asking, proposing another service, declining, giving back."""

from __future__ import annotations

from typing import get_args

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AcceptOffer
from referral_bus.contracts.ledger import (
    InformationAsked,
    InformationGiven,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferMade,
    ReferralClosed,
    ReferralHeld,
    Reminded,
    ServiceProposed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DECLINES, UNKEPT, DeclineReason
from services.matching.core.state import Reliability
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    PROTOCOL,
    World,
    accept,
    acknowledge,
    ask,
    decline,
    give_back,
    kinds,
    offers,
    offers_in,
    outcome,
    picture,
    propose,
    refused,
    reply,
    service_of,
    start,
)

REASONS: tuple[DeclineReason, ...] = get_args(DeclineReason)
PARKING = [reason for reason in REASONS if DECLINES[reason].then == "park"]
LATER = [reason for reason in REASONS if DECLINES[reason].then == "later"]
DATED = [reason for reason in REASONS if DECLINES[reason].dated]
NEVER = [reason for reason in REASONS if DECLINES[reason].then == "never"]
ELSEWHERE = [reason for reason in REASONS if DECLINES[reason].then == "elsewhere"]


def offered(world: World) -> str:
    world.publish(offers("beds"))
    return world.refer()


def moving(world: World) -> str:
    """A person who was accepted by the first, which proposed the second."""
    world.publish_in_order("first", "clinic:second", "pantry:third")
    world.follow(maximum_offers=9)
    referral = world.accepted()
    world.send(propose(referral, "second"), "shelter")
    return referral


# Acknowledging and asking


def test_an_acknowledged_offer_waits_for_its_answer_as_long_as_before(world: World) -> None:
    referral = offered(world)
    expires_at = world.task(referral).expires_at
    assert world.send(acknowledge(referral), "shelter") == [
        OfferAcknowledged(referral=referral, task=task_id(referral, 1), provider="shelter")
    ]
    task = world.task(referral)
    assert (task.status, task.business, task.expires_at) == ("requested", "acknowledged", expires_at)
    assert kinds(world.tick(expires_at))[0] == "OfferExpired"


def test_a_question_and_its_answer_go_between_provider_and_agency_sealed_while_the_time_runs(
    world: World,
) -> None:
    referral = offered(world)
    task, expires_at = task_id(referral, 1), world.task(referral).expires_at
    assert world.send(ask(referral), "shelter") == [
        InformationAsked(
            referral=referral, task=task, provider="shelter", sealed_question=b"a sealed question"
        )
    ]
    assert world.task(referral).business == "screening"
    assert world.send(reply(referral), "police") == [
        InformationGiven(referral=referral, task=task, provider="shelter", sealed_answer=b"a sealed answer")
    ]
    assert world.task(referral).business == "acknowledged"
    assert world.task(referral).expires_at == expires_at
    assert kinds(world.send(ask(referral), "shelter")) == ["InformationAsked"]


def test_each_question_is_answered_and_the_offer_waits_for_its_agency_until_all_are(world: World) -> None:
    world.follow(offer_reminders=[50, 90])
    referral = offered(world)
    reliability = world.state.reliability.copy()
    for _ in range(2):
        world.send(ask(referral), "shelter")
    assert kinds(world.send(reply(referral), "police")) == ["InformationGiven"]
    assert world.task(referral).business == "screening"
    [reminded] = world.tick(world.now + 6 * MINUTE)
    assert isinstance(reminded, Reminded)
    assert reminded.party == "police"
    assert kinds(world.send(reply(referral), "police")) == ["InformationGiven"]
    assert world.task(referral).business == "acknowledged"
    assert refused(world.send(reply(referral), "police")) == "nothing_asked"
    world.send(ask(referral), "shelter")
    assert "OfferExpired" in kinds(world.tick(world.now + HOUR))
    assert world.state.reliability == reliability, "it was the agency that did not answer"


def test_an_answer_nobody_asked_for_or_from_somebody_else_is_refused(world: World) -> None:
    referral = offered(world)
    assert refused(world.send(reply(referral), "police")) == "nothing_asked"
    world.send(ask(referral), "shelter")
    assert refused(world.send(reply(referral), "hospital")) == "not_your_referral"
    world.send(accept(referral), "shelter")
    assert refused(world.send(reply(referral), "police")) == "offer_not_open"


def test_a_question_after_the_answer_to_the_offer_is_refused(world: World) -> None:
    referral = offered(world)
    world.send(accept(referral), "shelter")
    assert refused(world.send(ask(referral), "shelter")) == "offer_not_open"
    assert refused(world.send(acknowledge(referral), "shelter")) == "offer_not_open"


# Accepting


def test_an_acceptance_may_say_when_the_service_starts(world: World) -> None:
    referral = offered(world)
    starts_at = world.now + DAY
    assert world.send(accept(referral, starts_at=starts_at), "shelter") == [
        OfferAccepted(referral=referral, task=task_id(referral, 1), provider="shelter", starts_at=starts_at)
    ]
    assert (world.task(referral).status, world.task(referral).business) == ("accepted", "scheduled")


@pytest.mark.parametrize("ahead", [-HOUR, PROTOCOL.longest_hold_ms + 1000])
def test_a_start_in_the_past_or_too_far_ahead_is_refused(world: World, ahead: int) -> None:
    referral = offered(world)
    body = accept(referral, starts_at=world.now + ahead)
    assert refused(world.send(body, "shelter")) == "time_out_of_range"
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)


# Declining


@pytest.mark.parametrize("reason", REASONS)
def test_a_decline_says_why_and_frees_the_place(world: World, reason: DeclineReason) -> None:
    referral = offered(world)
    until = world.now + DAY if reason in DATED else None
    events = world.send(decline(referral, 1, reason, until), "shelter")
    assert events[0] == OfferDeclined(
        referral=referral, task=task_id(referral, 1), provider="shelter", reason=reason, until=until
    )
    assert world.places() == (0 if reason in UNKEPT else 1, 0, 0)


@pytest.mark.parametrize("reason", ELSEWHERE)
def test_after_a_decline_for_now_the_service_is_asked_again_only_in_a_new_round(
    world: World, reason: DeclineReason
) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(maximum_offers=9)
    referral = world.refer()
    [made] = offers_in(world.send(decline(referral, 1, reason), "shelter"))
    assert made.service == service_of("second")
    world.send(decline(referral, 2, PARKING[0], world.now + DAY), "clinic")
    [again] = offers_in(world.tick(world.now + DAY))
    assert again.service == service_of("first")


@pytest.mark.parametrize("reason", NEVER)
def test_after_a_decline_for_good_the_service_is_never_asked_again(
    world: World, reason: DeclineReason
) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(maximum_offers=9)
    referral = world.refer()
    world.send(decline(referral, 1, reason), "shelter")
    world.send(decline(referral, 2, PARKING[0], world.now + DAY), "clinic")
    [again] = offers_in(world.tick(world.now + DAY))
    assert again.service == service_of("second")


@pytest.mark.parametrize("reason", PARKING)
def test_after_a_decline_until_a_date_the_referral_rests_and_goes_on_then(
    world: World, reason: DeclineReason
) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.refer()
    until = world.now + DAY
    events = world.send(decline(referral, 1, reason, until), "shelter")
    assert events[-1:] == [ReferralHeld(referral=referral, reason="declined", until=until)]
    assert world.tick(until - 1) == []
    [made] = offers_in(world.tick(until))
    assert made.service == service_of("first")


@pytest.mark.parametrize("reason", LATER)
def test_after_a_decline_until_a_date_that_is_the_services_own_the_next_is_asked_and_it_rests_only_when_nobody_is_left(
    world: World, reason: DeclineReason
) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.refer()
    until = world.now + 30 * DAY
    [made] = offers_in(world.send(decline(referral, 1, reason, until), "shelter"))
    assert made.service == service_of("second")
    events = world.send(decline(referral, 2), "clinic")
    assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=until)
    assert world.tick(until - 1) == []
    [again] = offers_in(world.tick(until))
    assert again.service == service_of("first")


@pytest.mark.parametrize("reason", LATER)
def test_who_is_given_back_until_a_date_of_the_services_own_is_offered_to_the_next(
    world: World, reason: DeclineReason
) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.accepted()
    [made] = offers_in(world.send(give_back(referral, 1, reason, world.now + DAY), "shelter"))
    assert made.service == service_of("second")


def test_who_went_somewhere_after_it_was_said_that_they_are_not_ready_does_not_rest_for_that_any_more(
    world: World,
) -> None:
    world.follow(broadcast_width=2, maximum_offers=9)
    world.publish_in_order("first", "clinic:second", "pantry:third")
    referral = world.refer(mode="broadcast")
    world.send(decline(referral, 1, "person_not_ready", world.now + 30 * DAY), "shelter")
    world.send(accept(referral, 2), "clinic")
    [made] = offers_in(world.send(give_back(referral, 2), "clinic"))
    assert made.service == service_of("third")


# How often a referral is offered


def test_what_a_person_who_is_not_ready_yet_was_offered_counts_for_nothing(world: World) -> None:
    world.follow(maximum_offers=1)
    world.publish(offers("beds"))
    referral = world.refer()
    for attempt in (1, 2, 3):
        until = world.now + 30 * DAY
        world.send(decline(referral, attempt, "person_not_ready", until), "shelter")
        assert kinds(world.tick(until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]
    assert kinds(world.send(decline(referral, 4), "shelter")) == ["OfferDeclined", "ReferralClosed"]


def test_what_a_person_was_accepted_for_and_given_back_as_not_ready_counts_for_nothing(world: World) -> None:
    world.follow(maximum_offers=1)
    world.publish(offers("beds"))
    referral = world.accepted()
    until = world.now + 30 * DAY
    world.send(give_back(referral, 1, "person_not_ready", until), "shelter")
    assert "OfferMade" in kinds(world.tick(until))


def test_a_referral_that_was_offered_as_often_as_it_may_be_does_not_rest_first(world: World) -> None:
    world.follow(maximum_offers=1)
    world.publish(offers("beds"))
    referral = world.refer()
    events = world.send(decline(referral, 1, "full_until", world.now + DAY), "shelter")
    assert events[-1] == ReferralClosed(referral=referral, status="revoked", reason="offers_exhausted")


@pytest.mark.parametrize("reason", DATED)
def test_a_date_that_is_missing_over_or_too_far_ahead_is_refused_and_the_offer_stays(
    world: World, reason: DeclineReason
) -> None:
    referral = offered(world)
    assert refused(world.send(decline(referral, 1, reason), "shelter")) == "date_missing"
    for until in (world.now - HOUR, world.now + PROTOCOL.longest_hold_ms + 1000):
        body = decline(referral, 1, reason, until)
        assert refused(world.send(body, "shelter")) == "time_out_of_range"
    assert world.task(referral).is_open


# Giving back


def test_a_no_that_comes_after_the_acceptance_gives_nobody_back_unless_it_says_so(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    assert refused(world.send(decline(referral), "shelter")) == "offer_not_open"
    assert world.task(referral).status == "accepted"


def test_an_offer_that_is_open_is_declined_and_not_given_back(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert refused(world.send(give_back(referral), "shelter")) == "not_accepted"
    world.send(decline(referral), "shelter")
    assert refused(world.send(give_back(referral), "shelter")) == "referral_closed"


def test_who_is_asked_to_take_a_person_over_cannot_give_them_back(world: World) -> None:
    referral = moving(world)
    assert refused(world.send(give_back(referral, 2), "clinic")) == "not_accepted"
    assert kinds(world.send(decline(referral, 2), "clinic")) == ["OfferDeclined"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_person_who_is_given_back_is_offered_to_the_next_and_the_place_is_free(
    world: World, begun: bool
) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.accepted()
    if begun:
        world.send(start(referral, world.now), "shelter")
    events = world.send(give_back(referral, 1, "could_not_reach"), "shelter")
    assert events[0] == TaskCancelled(
        referral=referral,
        task=task_id(referral, 1),
        provider="shelter",
        reason="given_back",
        because="could_not_reach",
    )
    [made] = offers_in(events)
    assert (made.service, made.transfer) == (service_of("second"), False)
    assert world.places("first") == (10, 0, 0)
    assert world.task(referral).business == "given-back"


def test_who_is_given_back_until_a_date_rests_and_goes_on_then(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    until = world.now + DAY
    assert kinds(world.send(give_back(referral, 1, "person_not_ready", until), "shelter")) == [
        "TaskCancelled",
        "ReferralHeld",
    ]
    assert kinds(world.tick(until)) == ["ReferralResumed", "MatchDecided", "OfferMade"]


def test_who_is_given_back_for_good_is_not_offered_there_again(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    events = world.send(give_back(referral, 1, "not_eligible"), "shelter")
    assert events[-1] == ReferralClosed(referral=referral, status="revoked", reason="offers_exhausted")
    assert world.send(world.reopening(referral), "police")[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="no_match"
    )


def test_the_start_at_the_next_provider_is_reported_anew(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.accepted()
    world.send(start(referral), "shelter")
    world.send(give_back(referral), "shelter")
    world.send(accept(referral, 2), "clinic")
    world.send(outcome(referral), "clinic")
    assert kinds(world.send(start(referral), "clinic")) == ["ServiceStarted"]


def test_who_is_given_back_may_go_unaccepted_for_what_was_left_of_that_time(world: World) -> None:
    world.follow(referral_limits={"crisis": HOUR, "urgent": HOUR, "routine": HOUR}, silence="escalates")
    world.publish_in_order("first", "clinic:second")
    referral = world.refer()
    world.send(accept(referral), "shelter", at=world.now + 20 * MINUTE)
    assert world.tick(world.now + 5 * HOUR) == []
    world.send(give_back(referral), "shelter")
    back_at = world.now
    assert "ReferralClosed" not in kinds(world.tick(back_at + 40 * MINUTE - 1))
    assert world.tick(back_at + 40 * MINUTE)[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="time_over"
    )
    assert world.again() == [value for _, value in world.entries]


# Proposing another service


def test_instead_of_the_offer_it_has_a_provider_may_propose_another_service(world: World) -> None:
    world.publish_in_order("first", "clinic:second", "pantry:third")
    referral = world.refer()
    events = world.send(propose(referral, "third"), "shelter")
    assert events[0] == ServiceProposed(
        referral=referral, task=task_id(referral, 1), provider="shelter", service=service_of("third")
    )
    [made] = offers_in(events)
    assert (made.service, made.transfer) == (service_of("third"), False)
    assert (world.task(referral).status, world.task(referral).business) == ("rejected", "proposed-elsewhere")
    assert world.places("first") == (10, 0, 0)


@pytest.mark.parametrize(
    ("local", "reason"),
    [("nowhere", "unknown_service"), ("first", "service_unavailable"), ("full", "service_unavailable")],
)
def test_a_proposal_that_cannot_be_leaves_the_offer_open(world: World, local: str, reason: str) -> None:
    world.publish_in_order("first")
    world.publish(offers("full", "clinic", total=1, available=0))
    referral = world.refer()
    assert refused(world.send(propose(referral, local), "shelter")) == reason
    assert isinstance(world.send(accept(referral), "shelter")[0], OfferAccepted)


def test_a_person_who_was_accepted_stays_until_the_proposed_service_accepts(world: World) -> None:
    referral = moving(world)
    made = world.events[-1]
    assert isinstance(made, OfferMade)
    assert (made.service, made.transfer) == (service_of("second"), True)
    assert world.task(referral, 1).is_taken
    assert world.places("first") == (9, 0, 1)
    assert world.send(accept(referral, 2), "clinic") == [
        OfferAccepted(referral=referral, task=task_id(referral, 2), provider="clinic"),
        TaskCancelled(referral=referral, task=task_id(referral, 1), provider="shelter", reason="transferred"),
    ]
    assert world.places("first") == (10, 0, 0)
    assert world.task(referral, 1).business == "transferred"
    assert kinds(world.send(outcome(referral), "clinic")) == ["OutcomeReported", "ReferralClosed"]


@pytest.mark.parametrize("no", ["declined", "expired"])
def test_a_transfer_that_is_declined_or_not_answered_leaves_everything_as_it_was(
    world: World, no: str
) -> None:
    referral = moving(world)
    events = (
        world.send(decline(referral, 2, "full_until", world.now + DAY), "clinic")
        if no == "declined"
        else world.tick(world.now + 10 * MINUTE)
    )
    assert kinds(events) == (["OfferDeclined", "CapacityDoubted"] if no == "declined" else ["OfferExpired"])
    assert world.task(referral, 1).is_taken
    assert not world.state.referrals[referral].on_hold
    assert kinds(world.send(start(referral, world.now), "shelter")) == ["ServiceStarted"]


def test_who_is_asked_to_take_a_person_over_may_propose_another_which_takes_them_over_as_well(
    world: World,
) -> None:
    referral = moving(world)
    [made] = offers_in(world.send(propose(referral, "third", 2), "clinic"))
    assert (made.service, made.transfer) == (service_of("third"), True)
    world.send(accept(referral, 3), "pantry")
    assert [world.task(referral, number).business for number in (1, 2, 3)] == [
        "transferred",
        "proposed-elsewhere",
        "accepted",
    ]


def test_an_outcome_ends_a_transfer_under_way(world: World) -> None:
    referral = moving(world)
    events = world.send(outcome(referral), "shelter")
    assert kinds(events) == ["OutcomeReported", "TaskCancelled", "ReferralClosed"]
    assert world.places("second")[1] == 0
    assert refused(world.send(accept(referral, 2), "clinic")) == "referral_closed"


def test_when_a_provider_gives_back_whom_it_wants_to_transfer_the_transfer_goes_on(world: World) -> None:
    referral = moving(world)
    assert kinds(world.send(give_back(referral, 1), "shelter")) == ["TaskCancelled"]
    world.send(decline(referral, 2), "clinic")
    assert world.task(referral, 3).service == service_of("third")


@pytest.mark.parametrize("ending", ["declined", "expired"])
def test_who_was_given_back_until_a_date_rests_once_nobody_is_left_to_take_them_over(
    world: World, ending: str
) -> None:
    world.publish_in_order("first", "clinic:second")
    world.follow(maximum_offers=9)
    referral = world.accepted()
    world.send(propose(referral, "second"), "shelter")
    until = world.now + DAY
    assert kinds(world.send(give_back(referral, 1, "person_not_ready", until), "shelter")) == [
        "TaskCancelled"
    ]
    ends = {
        "declined": lambda: world.send(decline(referral, 2), "clinic"),
        "expired": lambda: world.tick(world.task(referral, 2).expires_at),
    }
    events = ends[ending]()
    assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=until)
    assert "OfferMade" in kinds(world.tick(until))
    assert world.again() == [value for _, value in world.entries]


def test_who_was_given_back_until_a_date_is_taken_over_all_the_same(world: World) -> None:
    referral = moving(world)
    world.send(give_back(referral, 1, "person_not_ready", world.now + DAY), "shelter")
    world.send(accept(referral, 2), "clinic")
    assert world.task(referral, 2).is_taken
    assert world.tick(world.now + DAY) == []


# How reliable a service is


def test_what_a_service_says_of_its_places_is_tallied_by_how_it_answers(world: World) -> None:
    world.publish(offers("beds", total=9))
    for number in range(1, 7):
        world.refer(number=number)
    one, two, three, four, five, six = world.state.referrals
    world.send(accept(one), "shelter")
    world.send(accept(two), "shelter")
    world.send(decline(three, 1, "no_capacity"), "shelter")
    world.send(decline(four, 1, "full_until", world.now + DAY), "shelter")
    world.send(decline(five, 1, "not_eligible"), "shelter")
    assert world.state.reliability[service_of("beds")] == Reliability(kept=2, broken=2)
    world.tick(world.now + 10 * MINUTE)
    assert six not in world.state.referrals
    assert world.state.reliability[service_of("beds")] == Reliability(kept=2, broken=3)


def test_an_acceptance_that_is_given_back_for_want_of_a_place_was_not_kept_after_all(world: World) -> None:
    world.publish(offers("beds", total=9))
    for number in range(1, 5):
        world.refer(number=number)
    one, two, three, four = world.state.referrals
    for referral in (one, two, three, four):
        world.send(accept(referral), "shelter")
    world.send(give_back(one, 1, "no_capacity"), "shelter")
    world.send(give_back(two, 1, "full_until", world.now + DAY), "shelter")
    world.send(give_back(three, 1, "person_declined"), "shelter")
    assert world.state.reliability[service_of("beds")] == Reliability(kept=2, broken=2)
    assert picture(world.folded().state) == picture(world.state)


def test_an_offer_that_expires_while_the_agency_owes_an_answer_says_nothing_of_the_service(
    world: World,
) -> None:
    world.publish(offers("beds", total=9))
    for number in (1, 2, 3):
        world.refer(number=number)
    asked, told, _ = world.state.referrals
    world.send(ask(asked), "shelter")
    world.send(ask(told), "shelter")
    world.send(reply(told), "police")
    world.tick(world.now + 10 * MINUTE)
    assert world.state.reliability[service_of("beds")] == Reliability(kept=0, broken=2)


def test_the_first_answer_counts_when_two_cross(world: World) -> None:
    referral = offered(world)
    body = AcceptOffer(task=task_id(referral, 1))
    assert isinstance(world.send(body, "shelter", id="one")[0], OfferAccepted)
    assert kinds(world.send(body, "shelter", id="one")) == ["SubmissionRepeated"]
    assert refused(world.send(body, "shelter", id="two")) == "offer_not_open"
