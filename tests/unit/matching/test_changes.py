"""What the agency changes of a referral under way: amending, transferring, splitting and joining, reopening."""

from __future__ import annotations

from itertools import product

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AmendReferral
from referral_bus.contracts.ledger import (
    JoinedOutcomeCorrected,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralSplit,
    ReferralTransferred,
    ReferralWithdrawn,
    TaskCancelled,
    TaskEnteredInError,
)
from referral_bus.contracts.vocabulary import DECLINES, DeclineReason, OutcomeResult, WithdrawReason
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
    picture,
    propose,
    refused,
    service_of,
    stated_area,
    subject_of,
    transfer,
    withdraw,
)

PARTS = [(8, HOUSING), (9, HOUSING)]
FIRST, SECOND = of(number=8), of(number=9)


def split(world: World, total: int = 5) -> str:
    """A referral that is split into two, both on offer to the same service."""
    world.publish(offers("beds", total=total))
    whole = world.refer()
    world.send(world.parts_of(whole, PARTS), "police")
    return whole


def served(world: World, referral: str, result: OutcomeResult) -> list[object]:
    world.send(accept(referral), "shelter")
    return [*world.send(outcome(referral, result), "shelter")]


# Amending


def test_an_amended_urgency_counts_from_the_next_offer_on(world: World) -> None:
    world.publish_in_order("first", "second")
    referral = world.refer()
    expires_at = world.task(referral).expires_at
    body = AmendReferral(referral=referral, urgency="crisis")
    assert world.send(body, "police") == [ReferralAmended(referral=referral, urgency="crisis")]
    assert world.task(referral).expires_at == expires_at
    world.send(decline(referral), "shelter")
    assert world.task(referral, 2).expires_at == world.now + MINUTE


def test_the_next_match_is_decided_by_the_amended_facts(world: World) -> None:
    world.publish_in_order("first", "second", areas=["riverside"])
    world.publish(offers("third", "clinic", areas=["harbour"]))
    referral = world.refer()
    moved = HOUSING.model_copy(update={"area": stated_area("harbour")})
    world.send(AmendReferral(referral=referral, sealed_facts=world.seal(moved, subject_of(1))), "police")
    [made] = offers_in(world.send(decline(referral), "shelter"))
    assert made.service == service_of("third")


def test_an_amended_urgency_changes_how_long_the_referral_may_go_unaccepted(world: World) -> None:
    world.follow(
        referral_limits={"crisis": HOUR, "urgent": 2 * HOUR, "routine": DAY},
        silence="escalates",
    )
    world.publish(offers("beds"))
    referral = world.refer()
    opened_at = world.now
    world.send(AmendReferral(referral=referral, urgency="routine"), "police")
    assert "ReferralClosed" not in kinds(world.tick(opened_at + 2 * HOUR))
    world.send(AmendReferral(referral=referral, urgency="crisis"), "police")
    assert kinds(world.tick(world.now)) == ["TaskCancelled", "ReferralClosed"]


def test_of_a_split_referral_the_identity_is_amended_and_urgency_and_facts_are_its_parts_own(
    world: World,
) -> None:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    world.send(world.parts_of(whole, PARTS), "police")
    facts = world.seal(HOUSING, subject_of(1))
    for body in (
        AmendReferral(referral=whole, urgency="crisis"),
        AmendReferral(referral=whole, sealed_facts=facts),
        AmendReferral(referral=whole, urgency="crisis", sealed_identity=b"sealed"),
    ):
        assert refused(world.send(body, "police")) == "already_split"
    assert kinds(world.send(AmendReferral(referral=whole, sealed_identity=b"sealed"), "police")) == [
        "ReferralAmended"
    ]
    world.send(AmendReferral(referral=FIRST, urgency="crisis"), "police")
    urgencies = {name: known.urgency for name, known in world.state.referrals.items()}
    assert urgencies == {whole: "urgent", FIRST: "crisis", SECOND: "urgent"}


def test_only_the_agency_that_follows_the_referral_amends_it(world: World) -> None:
    world.publish(offers("beds"))
    body = AmendReferral(referral=world.refer(), urgency="crisis")
    for sender in ("hospital", "shelter"):
        assert refused(world.send(body, sender)) == "not_your_referral"


def test_a_closed_referral_cannot_be_amended(world: World) -> None:
    referral = world.refer()
    body = AmendReferral(referral=referral, urgency="crisis")
    assert refused(world.send(body, "police")) == "referral_closed"


# Transferring to another agency


def test_a_transferred_referral_is_followed_by_the_other_agency_and_keeps_its_offer(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert world.send(transfer(referral), "police") == [
        ReferralTransferred(referral=referral, former="police", agency="hospital")
    ]
    assert len(world.state.referrals[referral].offers) == 1
    assert refused(world.send(withdraw(referral), "police")) == "not_your_referral"
    assert kinds(world.send(withdraw(referral), "hospital")) == ["ReferralWithdrawn", "ReferralClosed"]


def test_a_split_referral_is_transferred_with_its_parts_the_closed_ones_too(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    assert world.send(transfer(whole), "police") == [
        ReferralTransferred(referral=one, former="police", agency="hospital")
        for one in (whole, *sorted([FIRST, SECOND]))
    ]
    assert kinds(world.send(withdraw(SECOND), "hospital"))[0] == "ReferralWithdrawn"
    for body in (world.reopening(FIRST), withdraw(FIRST, "entered_in_error")):
        assert refused(world.send(body, "police")) == "not_your_referral"
    assert kinds(world.send(world.reopening(FIRST), "hospital"))[0] == "ReferralReopened"
    assert picture(world.state) == picture(world.folded().state)


@pytest.mark.parametrize("closed", [False, True])
def test_a_part_that_another_agency_follows_stays_with_it(world: World, closed: bool) -> None:
    whole = split(world)
    world.send(transfer(FIRST), "police")
    if closed:
        served(world, FIRST, "need_met")
    events = world.send(transfer(whole), "police")
    assert [one.referral for one in events if isinstance(one, ReferralTransferred)] == [whole, SECOND]


def test_a_part_that_was_entered_in_error_is_nobodys_to_take_over(world: World) -> None:
    whole = split(world)
    world.send(withdraw(FIRST, "entered_in_error"), "police")
    events = world.send(transfer(whole), "police")
    assert [one.referral for one in events if isinstance(one, ReferralTransferred)] == [whole, SECOND]


# Splitting and joining


def test_a_split_referral_goes_on_as_its_parts_which_are_matched_one_after_the_other(world: World) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    whole = world.refer()
    former = world.task(whole).service
    events = world.send(world.parts_of(whole, PARTS), "police")
    assert kinds(events) == [
        "TaskCancelled",
        "ReferralSplit",
        "ReferralOpened",
        "ReferralOpened",
        *["ReferralCalled", "MatchDecided", "OfferMade"] * 2,
    ]
    assert events[1] == ReferralSplit(referral=whole, parts=[FIRST, SECOND])
    assert [one.part_of for one in events if isinstance(one, ReferralOpened)] == [whole, whole]
    assert [one.referral for one in events if isinstance(one, ReferralCalled)] == [FIRST, SECOND]
    # Each sees the place that the one before it holds, and the whole holds none any more.
    services = [one.service for one in offers_in(events)]
    assert sorted(services) == [service_of("beds"), service_of("rooms")]
    assert former in services


def test_parts_keep_agency_person_purpose_and_the_protocol_version_of_the_whole(world: World) -> None:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    world.follow(maximum_offers=1)
    world.send(world.parts_of(whole, PARTS), "police")
    known, part = world.state.referrals[whole], world.state.referrals[FIRST]
    assert (part.agency, part.subject, part.purpose) == (known.agency, known.subject, known.purpose)
    assert part.protocol == known.protocol == PROTOCOL


def test_parts_of_a_waiting_referral_wait_and_the_whole_does_no_longer(world: World) -> None:
    world.publish(offers("beds"))
    first = world.accepted(number=1)
    whole = world.refer(number=2, mode="waitlist")
    world.send(world.parts_of(whole, PARTS), "police")
    assert [name for _, _, name in world.state.waitlist[service_of("beds")]] == sorted([FIRST, SECOND])
    events = world.send(outcome(first), "shelter")
    assert len(offers_in(events)) == 1


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (one, other, joined)
        for one, other in product(["need_met", "partly_met", "not_met", "no_show"], repeat=2)
        for joined in [
            "need_met"
            if {one, other} == {"need_met"}
            else "partly_met"
            if {one, other} & {"need_met", "partly_met"}
            else "not_met"
        ]
    ],
)
def test_the_whole_is_closed_with_the_last_part_by_what_came_of_all(
    world: World, one: OutcomeResult, other: OutcomeResult, joined: OutcomeResult
) -> None:
    whole = split(world)
    assert len(served(world, FIRST, one)) == 2
    assert whole in world.state.referrals
    assert served(world, SECOND, other)[-1] == ReferralClosed(
        referral=whole, status="completed", reason="parts_closed", result=joined
    )


def test_a_part_nobody_took_counts_as_a_need_that_was_not_met(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    events = world.send(decline(SECOND), "shelter")
    assert events[-2:] == [
        ReferralClosed(referral=SECOND, status="revoked", reason="offers_exhausted"),
        ReferralClosed(referral=whole, status="completed", reason="parts_closed", result="partly_met"),
    ]


def test_a_part_that_is_withdrawn_counts_as_nothing(world: World) -> None:
    whole = split(world)
    world.send(withdraw(FIRST), "police")
    assert served(world, SECOND, "need_met")[-1] == ReferralClosed(
        referral=whole, status="completed", reason="parts_closed", result="need_met"
    )


def test_when_every_part_is_withdrawn_the_whole_is_revoked_without_a_result(world: World) -> None:
    whole = split(world)
    world.send(withdraw(FIRST), "police")
    assert world.send(withdraw(SECOND), "police")[-1] == ReferralClosed(
        referral=whole, status="revoked", reason="parts_closed"
    )


def test_withdrawing_the_whole_withdraws_every_open_part_and_frees_their_places(world: World) -> None:
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    assert world.places() == (3, 1, 1)
    events = world.send(withdraw(whole), "police")
    assert events[0] == ReferralWithdrawn(referral=whole, reason="moved_away")
    first, second = sorted((FIRST, SECOND))
    assert kinds(events[1:]) == ["TaskCancelled", "ReferralClosed"] * 2 + ["ReferralClosed"]
    assert [one.referral for one in events if isinstance(one, TaskCancelled)] == [first, second]
    assert events[-1] == ReferralClosed(referral=whole, status="revoked", reason="withdrawn")
    assert world.places() == (5, 0, 0)
    assert world.state.referrals == {}


def test_a_split_referral_itself_is_never_over_time(world: World) -> None:
    world.follow(referral_limits={"crisis": HOUR, "urgent": HOUR, "routine": HOUR}, silence="escalates")
    whole = split(world)
    world.send(accept(FIRST), "shelter")
    events = world.tick(world.now + HOUR)
    assert [one.referral for one in events if isinstance(one, ReferralClosed)] == [SECOND]
    assert whole in world.state.referrals


def test_a_part_may_go_unaccepted_for_what_the_whole_left_of_that_time(world: World) -> None:
    world.follow(referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY}, silence="escalates")
    world.publish(offers("beds", total=5))
    whole = world.refer()
    opened_at = world.now
    world.tick(opened_at + 23 * HOUR)
    world.send(world.parts_of(whole, PARTS), "police")
    world.tick(opened_at + DAY - 1)
    assert {FIRST, SECOND} <= world.state.referrals.keys()
    world.tick(opened_at + DAY)
    world.tick(opened_at + DAY)
    assert world.state.referrals == {}
    assert world.again() == [value for _, value in world.entries]


def test_a_part_has_the_time_that_the_whole_rested_at_its_agencys_wish(world: World) -> None:
    world.follow(referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY}, silence="escalates")
    world.publish(offers("beds", total=5))
    whole = world.refer()
    opened_at = world.state.now
    world.tick(opened_at + 12 * HOUR)
    world.send(hold(whole), "police")
    waited = world.state.now - opened_at
    world.tick(opened_at + 30 * HOUR)
    world.send(world.parts_of(whole, PARTS), "police")
    assert world.state.referrals[FIRST].limit == world.state.now + DAY - waited


def test_a_part_that_is_reopened_after_the_whole_was_closed_goes_on_for_itself(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    served(world, SECOND, "need_met")
    world.send(world.reopening(FIRST), "police")
    world.send(accept(FIRST, 2), "shelter")
    assert kinds(world.send(outcome(FIRST), "shelter")) == ["OutcomeReported", "ReferralClosed"]
    assert whole in world.state.closed


def test_a_split_ledger_decided_again_is_the_same_bytes(world: World) -> None:
    split(world)
    served(world, FIRST, "need_met")
    world.send(decline(SECOND), "shelter")
    assert world.again() == [value for _, value in world.entries]


def test_a_part_has_the_place_in_line_that_the_whole_had(world: World) -> None:
    world.publish(offers("beds"))
    world.accepted(number=1)
    whole, later = world.refer(number=2, mode="waitlist"), world.refer(number=3, mode="waitlist")
    world.send(world.parts_of(whole, PARTS), "police")
    line = [name for _, _, name in world.state.waitlist[service_of("beds")]]
    assert line == [*sorted([FIRST, SECOND]), later]


@pytest.mark.parametrize("reason", [one for one, no in DECLINES.items() if no.then == "never"])
@pytest.mark.parametrize("how", ["declined", "given back", "reopened"])
def test_who_never_takes_the_person_is_not_asked_for_a_part_either_unless_it_is_for_what_they_need(
    world: World, reason: DeclineReason, how: str
) -> None:
    world.publish_in_order("beds", "clinic:rooms")
    whole = world.refer()
    if how == "given back":
        world.send(accept(whole), "shelter")
        world.send(give_back(whole, 1, reason), "shelter")
    else:
        world.send(decline(whole, 1, reason), "shelter")
    if how == "reopened":
        world.send(withdraw(whole), "police")
        world.send(world.reopening(whole), "police")
    events = world.send(world.parts_of(whole, PARTS), "police")
    first, _ = offers_in(events)
    assert first.service == service_of("beds" if reason == "not_eligible" else "rooms")
    assert world.again() == [value for _, value in world.entries]


def test_who_never_takes_the_person_is_not_asked_for_a_part_that_is_reopened(world: World) -> None:
    world.publish_in_order("beds", "clinic:rooms")
    whole = world.refer()
    world.send(decline(whole, 1, "safety_concern"), "shelter")
    world.send(world.parts_of(whole, PARTS), "police")
    world.send(withdraw(FIRST), "police")
    [made] = offers_in(world.send(world.reopening(FIRST), "police"))
    assert made.service == service_of("rooms")


def test_a_service_is_asked_for_each_part_whatever_it_says_to_the_other(world: World) -> None:
    split(world)
    world.send(decline(FIRST, 1, "person_declined"), "shelter")
    assert world.task(SECOND).is_open


@pytest.mark.parametrize("waits", ["for the date", "for another's answer"])
def test_the_parts_of_who_is_not_ready_before_a_date_are_offered_to_nobody_before(
    world: World, waits: str
) -> None:
    world.follow(broadcast_width=2)
    world.publish_in_order("beds", "clinic:rooms")
    whole = world.refer(mode="broadcast" if waits == "for another's answer" else "match")
    until = world.now + 10 * DAY
    world.send(decline(whole, 1, "person_not_ready", until), "shelter")
    events = world.send(world.parts_of(whole, PARTS), "police")
    assert [one for one in events if isinstance(one, ReferralHeld)] == [
        ReferralHeld(referral=name, reason="declined", until=until) for name in (FIRST, SECOND)
    ]
    assert offers_in(events) == []
    assert world.tick(until - 1) == []
    assert {made.referral for made in offers_in(world.tick(until))} == {FIRST, SECOND}
    assert world.again() == [value for _, value in world.entries]


def test_the_parts_of_who_is_ready_after_all_are_offered_at_once(world: World) -> None:
    world.publish(offers("beds", total=9))
    whole = world.refer()
    world.send(decline(whole, 1, "person_not_ready", world.now + 10 * DAY), "shelter")
    world.send(go_on(whole), "police")
    events = world.send(world.parts_of(whole, PARTS), "police")
    assert len(offers_in(events)) == 2


def test_an_agency_lets_a_part_go_on_before_the_date_until_which_the_person_was_not_ready(
    world: World,
) -> None:
    world.publish(offers("beds", total=9))
    whole = world.refer()
    world.send(decline(whole, 1, "person_not_ready", world.now + 10 * DAY), "shelter")
    world.send(world.parts_of(whole, PARTS), "police")
    [made] = offers_in(world.send(go_on(FIRST), "police"))
    assert made.referral == FIRST


def test_a_corrected_outcome_of_a_part_counts_in_the_whole(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    world.send(outcome(FIRST, "not_met"), "shelter")
    assert served(world, SECOND, "need_met")[-1] == ReferralClosed(
        referral=whole, status="completed", reason="parts_closed", result="partly_met"
    )


def test_a_corrected_outcome_of_a_part_corrects_that_of_the_whole_that_is_closed(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    served(world, SECOND, "need_met")
    closed_at = world.state.sequence
    events = world.send(outcome(FIRST, "not_met"), "shelter")
    assert kinds(events) == ["OutcomeReported", "JoinedOutcomeCorrected"]
    assert events[1] == JoinedOutcomeCorrected(
        referral=whole, part=FIRST, result="partly_met", corrects=closed_at
    )
    corrected_at = world.state.sequence
    assert world.send(outcome(SECOND, "not_met"), "shelter")[1] == JoinedOutcomeCorrected(
        referral=whole, part=SECOND, result="not_met", corrects=corrected_at
    )
    assert world.again() == [value for _, value in world.entries]


def test_a_correction_that_leaves_the_whole_as_it_was_counts_with_the_next(world: World) -> None:
    split(world)
    served(world, FIRST, "need_met")
    served(world, SECOND, "not_met")
    assert kinds(world.send(outcome(FIRST, "partly_met"), "shelter")) == ["OutcomeReported"]
    assert kinds(world.send(outcome(FIRST, "not_met"), "shelter"))[1:] == ["JoinedOutcomeCorrected"]


def test_what_comes_of_a_part_reopened_after_the_whole_was_closed_corrects_only_the_part(
    world: World,
) -> None:
    split(world)
    served(world, FIRST, "need_met")
    served(world, SECOND, "need_met")
    world.send(world.reopening(FIRST), "police")
    assert kinds(world.send(outcome(FIRST, "not_met"), "shelter")) == ["OutcomeReported"]
    world.send(accept(FIRST, 2), "shelter")
    world.send(outcome(FIRST, "need_met"), "shelter")
    assert kinds(world.send(outcome(FIRST, "not_met"), "shelter")) == ["OutcomeReported"]


def test_a_whole_that_was_withdrawn_has_no_outcome_to_correct(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "need_met")
    world.send(withdraw(whole), "police")
    assert kinds(world.send(outcome(FIRST, "not_met"), "shelter")) == ["OutcomeReported"]


def test_a_part_that_is_reopened_while_the_whole_is_open_is_part_of_it_again(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "not_met")
    world.send(world.reopening(FIRST), "police")
    assert world.state.referrals[whole].parts == {FIRST, SECOND}
    served(world, SECOND, "need_met")
    assert whole in world.state.referrals
    world.send(accept(FIRST, 2), "shelter")
    assert world.send(outcome(FIRST, "need_met"), "shelter")[-1] == ReferralClosed(
        referral=whole, status="completed", reason="parts_closed", result="need_met"
    )


def test_a_correction_of_before_a_part_was_reopened_counts_for_nothing_in_the_whole(world: World) -> None:
    whole = split(world)
    served(world, FIRST, "not_met")
    world.send(world.reopening(FIRST), "police")
    world.send(outcome(FIRST, "need_met"), "shelter")
    assert world.state.referrals[whole].results == {}


def test_withdrawing_the_whole_leaves_a_part_that_another_agency_follows_alone(world: World) -> None:
    whole = split(world)
    world.send(transfer(FIRST), "police")
    events = world.send(withdraw(whole), "police")
    assert {getattr(event, "referral", "") for event in events} == {whole, SECOND}
    assert world.state.referrals[FIRST].offers == [1]
    served(world, FIRST, "need_met")
    assert FIRST in world.state.closed


def test_a_referral_that_was_split_is_not_reopened_but_its_parts_are(world: World) -> None:
    whole = split(world)
    for part in (FIRST, SECOND):
        served(world, part, "not_met")
    assert refused(world.send(world.reopening(whole), "police")) == "already_split"
    assert kinds(world.send(world.reopening(FIRST), "police"))[0] == "ReferralReopened"


# Reopening


def closed(world: World) -> str:
    world.publish_in_order("first", "clinic:second")
    referral = world.refer()
    world.send(decline(referral, 1, "not_eligible"), "shelter")
    world.send(accept(referral, 2), "clinic")
    world.send(outcome(referral), "clinic")
    return referral


def test_a_reopened_referral_is_matched_anew_its_attempts_go_on_and_never_stays_never(world: World) -> None:
    referral = closed(world)
    events = world.send(world.reopening(referral, reason="need_returned"), "police")
    assert isinstance(events[0], ReferralReopened)
    assert events[0].reason == "need_returned"
    made = events[-1]
    assert isinstance(made, OfferMade)
    assert (made.task, made.service) == (task_id(referral, 3), service_of("second"))


@pytest.mark.parametrize(("late_by", "in_time"), [(0, True), (1, False)])
def test_a_referral_can_be_reopened_for_as_long_as_its_protocol_says(
    world: World, late_by: int, in_time: bool
) -> None:
    referral = closed(world)
    at = world.state.closed[referral].at + PROTOCOL.reopen_ms + late_by
    events = world.send(world.reopening(referral), "police", at=at)
    assert isinstance(events[0], ReferralReopened) is in_time
    if not in_time:
        assert refused(events) == "reopening_too_late"


def test_a_reopened_referral_has_all_its_offers_and_all_its_time_again(world: World) -> None:
    world.follow(
        maximum_offers=1,
        referral_limits={"crisis": HOUR, "urgent": HOUR, "routine": HOUR},
        silence="escalates",
    )
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(outcome(referral), "shelter", at=world.now + DAY)
    world.send(world.reopening(referral), "police")
    assert len(world.state.referrals[referral].offers) == 1
    assert "ReferralClosed" not in kinds(world.tick(world.now + HOUR - 1))
    assert "ReferralClosed" in kinds(world.tick(world.now + 1))


def test_a_reopened_referral_follows_the_version_of_its_protocol_that_it_was_opened_under(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(outcome(referral), "shelter")
    newest = world.follow(offer_limits={"crisis": DAY, "urgent": DAY, "routine": DAY})
    world.send(world.reopening(referral), "police")
    assert (world.state.referrals[referral].protocol.version, newest.version) == (1, 2)
    assert world.task(referral, 2).expires_at == world.now + PROTOCOL.offer_limits.urgent


def test_whoever_answers_an_offer_of_before_the_reopening_is_told_that_it_is_over(world: World) -> None:
    referral = closed(world)
    world.send(world.reopening(referral), "police")
    assert refused(world.send(accept(referral, 2), "clinic")) == "offer_not_open"


def test_who_served_before_the_reopening_corrects_what_came_of_that_until_it_has_accepted_anew(
    world: World,
) -> None:
    referral = closed(world)
    first = world.state.sequence - 1
    world.send(world.reopening(referral), "police")
    [event] = world.send(outcome(referral, "not_met"), "clinic")
    assert event == OutcomeReported(
        referral=referral, task=task_id(referral, 2), result="not_met", corrects=first
    )
    assert world.state.referrals[referral].offers == [3]
    world.send(withdraw(referral), "police")
    [again] = world.send(outcome(referral, "partly_met"), "clinic")
    assert isinstance(again, OutcomeReported)
    assert again.corrects == world.state.sequence - 3
    assert again.task == task_id(referral, 2)


def test_what_is_reported_once_it_is_accepted_anew_is_of_the_new_service(world: World) -> None:
    referral = closed(world)
    world.send(world.reopening(referral), "police")
    world.send(accept(referral, 3), "clinic")
    event = world.send(outcome(referral), "clinic")[0]
    assert isinstance(event, OutcomeReported)
    assert (event.task, event.corrects) == (task_id(referral, 3), None)


@pytest.mark.parametrize(
    ("reason", "refusal"), [("entered_in_error", "entered_in_error"), ("moved_away", None)]
)
def test_what_was_entered_in_error_is_not_reopened(
    world: World, reason: WithdrawReason, refusal: str | None
) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(withdraw(referral, reason), "police")
    first = world.send(world.reopening(referral), "police")[0]
    assert getattr(first, "reason", None) == (refusal or "need_returned")


def test_what_was_accepted_is_the_task_that_was_entered_in_error_and_not_the_transfer_under_way(
    world: World,
) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.accepted()
    world.send(propose(referral, "second"), "shelter")
    events = world.send(withdraw(referral, "entered_in_error"), "police")
    second = {"referral": referral, "task": task_id(referral, 2), "provider": "clinic"}
    assert events[:3] == [
        ReferralWithdrawn(referral=referral, reason="entered_in_error", task=task_id(referral, 1)),
        TaskCancelled(**second, reason="withdrawn"),
        TaskEnteredInError(**second),
    ]


def test_a_reopened_referral_is_followed_up_after_its_new_end_alone(world: World) -> None:
    world.follow(follow_up_days=[30])
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(outcome(referral), "shelter")
    world.send(world.reopening(referral), "police", at=world.now + 20 * DAY)
    world.send(accept(referral, 2), "shelter")
    world.send(outcome(referral), "shelter")
    assert world.tick(world.now + 29 * DAY) == []
    assert kinds(world.tick(world.now + DAY)) == ["FollowUpDue"]


def test_only_the_agency_that_followed_it_reopens_a_referral(world: World) -> None:
    referral = closed(world)
    for sender in ("hospital", "clinic"):
        assert refused(world.send(world.reopening(referral), sender)) == "not_your_referral"


def test_a_held_referral_can_be_split_and_a_part_of_it_held(world: World) -> None:
    world.publish(offers("beds", total=5))
    whole = world.refer()
    world.send(hold(whole, world.now + DAY), "police")
    world.send(world.parts_of(whole, PARTS), "police")
    world.send(hold(FIRST, world.now + HOUR), "police")
    events = world.tick(world.now + HOUR)
    assert [one.referral for one in offers_in(events)] == [FIRST]
    assert "ReferralResumed" not in kinds(world.tick(world.now + DAY))
