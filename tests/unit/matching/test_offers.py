"""From a referral to its end: offered, answered, withdrawn, served, closed. And what each step does to the places."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServiceStarted,
    SubmissionRefused,
)
from referral_bus.contracts.vocabulary import Urgency
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    POLICY,
    PROTOCOL,
    World,
    accept,
    acknowledge,
    ask,
    decline,
    kinds,
    of,
    offers,
    outcome,
    policy,
    propose,
    protocol,
    refused,
    reply,
    service_of,
    start,
    unit_of,
    withdraw,
)


def places(world: World, local: str = "beds") -> tuple[int, int, int]:
    """Free, held and taken places of a unit."""
    unit = world.state.units[unit_of(local)]
    return unit.free, unit.held, unit.taken


def in_order(world: World, *locals: str, **more: object) -> None:
    """Publish services that rank in the order they are named in: each has a heavier load than the one before."""
    world.send(policy(POLICY.model_copy(update={"version": 2, "rank_by": ["load", "lottery"]})), "operations")
    for number, local in enumerate(locals):
        world.publish(offers(local, total=10, available=10 - number, **more))  # type: ignore[arg-type]


def offered(world: World, referral: str) -> str:
    """The service the referral is on offer to."""
    known = world.state.referrals[referral]
    [number] = known.offers
    return known.attempt(number).service


def test_a_referral_is_opened_matched_and_offered_with_a_place_held(world: World) -> None:
    world.publish(offers("beds", total=2))
    body = world.submission()
    opened, matched, made = world.send(body, "police")
    assert isinstance(opened, ReferralOpened)
    assert (opened.referral, opened.agency, opened.subject) == (body.referral, "police", body.subject)
    assert (opened.protocol, opened.protocol_version) == (PROTOCOL.protocol, PROTOCOL.version)
    assert opened.sealed_facts == body.sealed_facts
    assert isinstance(matched, MatchDecided)
    assert (matched.attempt, matched.service) == (1, service_of("beds"))
    assert isinstance(made, OfferMade)
    assert (made.task, made.service, made.unit, made.provider) == (
        task_id(body.referral, 1),
        service_of("beds"),
        unit_of("beds"),
        "shelter",
    )
    assert places(world) == (1, 1, 0)


@pytest.mark.parametrize(
    ("urgency", "limit"), [("crisis", MINUTE), ("urgent", 10 * MINUTE), ("routine", HOUR)]
)
def test_an_offer_holds_for_as_long_as_the_protocol_gives_its_urgency(
    world: World, urgency: Urgency, limit: int
) -> None:
    world.publish(offers("beds"))
    referral = world.refer(urgency=urgency)
    assert world.state.referrals[referral].tasks[0].expires_at == world.now + limit


def test_a_referral_nobody_can_take_is_closed_with_its_certificate(world: World) -> None:
    world.publish(offers("meals", needs=["food"]))
    opened, matched, closed = world.send(world.submission(), "police")
    assert isinstance(opened, ReferralOpened)
    assert isinstance(matched, MatchDecided)
    assert matched.service is None
    assert matched.certificate.considered == 1
    assert closed == ReferralClosed(referral=of(), status="revoked", reason="no_match")
    assert world.state.referrals == {}


def test_the_last_place_is_offered_once(world: World) -> None:
    world.publish(offers("beds", total=1))
    world.refer(number=1)
    second = world.refer(number=2)
    assert world.events[-1] == ReferralClosed(referral=second, status="revoked", reason="no_match")
    assert places(world) == (0, 1, 0)


def test_of_a_services_units_the_one_with_most_free_places_is_offered(world: World) -> None:
    one, other = offers("few", total=1).units[0], offers("many", total=4).units[0]
    world.publish(offers("house", units=[one, other]))
    referral = world.refer()
    assert world.state.referrals[referral].tasks[0].unit == unit_of("many")


def test_acceptance_takes_the_held_place(world: World) -> None:
    world.publish(offers("beds", total=2))
    referral = world.refer()
    assert world.send(accept(referral), "shelter") == [
        OfferAccepted(referral=referral, task=task_id(referral, 1), provider="shelter")
    ]
    assert places(world) == (1, 0, 1)
    assert world.state.next_due() is None


def test_the_first_answer_to_an_offer_counts_and_no_later_one(world: World) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.accepted()
    provider = world.state.referrals[referral].tasks[0].provider
    assert refused(world.send(accept(referral), provider)) == "offer_not_open"
    assert kinds(world.events).count("OfferAccepted") == 1


def test_a_declined_referral_is_offered_to_the_next_best(world: World) -> None:
    in_order(world, "first", "second", "third")
    referral = world.refer()
    assert offered(world, referral) == service_of("first")
    declined, matched, made = world.send(decline(referral, reason="out_of_area"), "shelter")
    assert declined == OfferDeclined(
        referral=referral, task=task_id(referral, 1), provider="shelter", reason="out_of_area"
    )
    assert isinstance(matched, MatchDecided)
    assert matched.attempt == 2
    assert isinstance(made, OfferMade)
    assert (made.task, made.service) == (task_id(referral, 2), service_of("second"))
    assert places(world, "first") == (10, 0, 0)
    assert places(world, "second") == (8, 1, 1)


def test_an_expired_offer_goes_to_the_next_best_with_a_new_limit(world: World) -> None:
    in_order(world, "first", "second")
    referral = world.refer()
    expires_at = world.state.referrals[referral].tasks[0].expires_at
    expired, _, made = world.tick(expires_at)
    assert expired == OfferExpired(referral=referral, task=task_id(referral, 1), provider="shelter")
    assert isinstance(made, OfferMade)
    assert (made.service, made.expires_at) == (service_of("second"), expires_at + 10 * MINUTE)
    assert places(world, "first") == (10, 0, 0)


def test_nothing_is_offered_twice_to_the_same_service(world: World) -> None:
    world.publish(offers("beds", total=5))
    referral = world.refer()
    declined, matched, closed = world.send(decline(referral), "shelter")
    assert isinstance(declined, OfferDeclined)
    assert isinstance(matched, MatchDecided)
    assert matched.service is None
    assert [(one.criterion, one.services) for one in matched.certificate.eliminated] == [
        ("already_offered", 1)
    ]
    assert closed == ReferralClosed(referral=referral, status="revoked", reason="offers_exhausted")


def test_after_the_protocols_most_offers_a_referral_is_closed_though_more_could_take_it(world: World) -> None:
    in_order(world, "first", "second", "third", "fourth")
    referral = world.refer()
    world.send(decline(referral, 1), "shelter")
    world.send(decline(referral, 2), "shelter")
    assert world.send(decline(referral, 3), "shelter")[1:] == [
        ReferralClosed(referral=referral, status="revoked", reason="offers_exhausted")
    ]
    assert [places(world, one)[1] for one in ("first", "second", "third", "fourth")] == [0, 0, 0, 0]


def test_a_referral_keeps_the_protocol_it_was_opened_under(world: World) -> None:
    in_order(world, "first", "second", "third")
    referral = world.refer(urgency="crisis")
    longer = PROTOCOL.offer_limits.model_copy(update={"crisis": 5 * MINUTE})
    stricter = PROTOCOL.model_copy(update={"version": 2, "maximum_offers": 1, "offer_limits": longer})
    world.send(protocol(stricter), "operations")
    world.send(decline(referral), "shelter")
    assert world.state.referrals[referral].tasks[1].expires_at == world.now + MINUTE
    newer = world.refer(number=2, urgency="crisis")
    opened = world.events[-3]
    assert isinstance(opened, ReferralOpened)
    assert opened.protocol_version == 2
    assert world.state.referrals[newer].tasks[0].expires_at == world.now + 5 * MINUTE


@pytest.mark.parametrize(("late_by", "in_time"), [(-1, True), (0, False), (1, False)])
def test_an_acceptance_is_judged_by_when_it_was_admitted(world: World, late_by: int, in_time: bool) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    limit = world.state.referrals[referral].tasks[0].expires_at
    events = world.send(accept(referral), "shelter", at=limit + late_by)
    assert isinstance(events[0], OfferAccepted) is in_time
    if not in_time:
        assert refused(events) == "offer_expired"


@pytest.mark.parametrize("silence", ["declines", "escalates"])
@pytest.mark.parametrize("late_by", [-1, 0, 30 * MINUTE])
@pytest.mark.parametrize("said", ["acknowledge", "accept", "decline", "ask", "propose", "reply"])
def test_whatever_is_said_of_an_offer_after_its_limit_is_too_late_though_no_tick_came(
    world: World, said: str, late_by: int, silence: str
) -> None:
    world.follow(silence=silence, referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY})
    in_order(world, "beds", "rooms")
    referral = world.refer()
    if said == "reply":
        world.send(ask(referral), "shelter")
    task = world.task(referral)
    body = {
        "acknowledge": acknowledge(referral),
        "accept": accept(referral),
        "decline": decline(referral),
        "ask": ask(referral),
        "propose": propose(referral, "rooms"),
        "reply": reply(referral),
    }[said]
    events = world.send(body, "police" if said == "reply" else "shelter", at=task.expires_at + late_by)
    if late_by < 0 or silence == "escalates":
        assert not isinstance(events[0], SubmissionRefused)
    else:
        assert refused(events) == "offer_expired"
        assert world.task(referral) == task
        assert kinds(world.tick(world.now))[0] == "OfferExpired"


@pytest.mark.parametrize("ticked_first", [True, False])
def test_at_the_very_limit_an_acceptance_is_late_whether_or_not_the_tick_came_first(
    world: World, ticked_first: bool
) -> None:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    limit = world.state.referrals[referral].tasks[0].expires_at
    if ticked_first:
        world.tick(limit)
    assert refused(world.send(accept(referral), "shelter", at=limit)) == "offer_expired"


def test_an_acceptance_in_time_counts_though_it_is_decided_when_the_regions_clock_is_past_the_limit(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.refer(urgency="crisis")
    limit = world.state.referrals[referral].tasks[0].expires_at
    world.send(withdraw(of("police", 9)), "police", at=limit + HOUR)
    assert isinstance(world.send(accept(referral), "shelter", at=limit - 1)[0], OfferAccepted)


def test_an_acceptance_after_the_tick_that_expired_the_offer_is_too_late(world: World) -> None:
    in_order(world, "first", "second")
    referral = world.refer()
    world.tick(world.state.referrals[referral].tasks[0].expires_at)
    assert refused(world.send(accept(referral, 1), "shelter")) == "offer_expired"
    assert refused(world.send(decline(referral, 1), "shelter")) == "offer_expired"
    assert isinstance(world.send(accept(referral, 2), "shelter")[0], OfferAccepted)


def test_a_tick_before_the_limit_decides_nothing_and_leaves_no_trace(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    sequence, now = world.state.sequence, world.state.now
    assert world.tick(world.state.referrals[referral].tasks[0].expires_at - 1) == []
    assert (world.state.sequence, world.state.now) == (sequence, now)


def test_each_call_of_a_tick_decides_one_due_item_and_the_tick_is_carried_by_each(world: World) -> None:
    world.publish(offers("beds", total=3))
    for number in (1, 2, 3):
        world.refer(number=number)
    before = len(world.entries)
    assert kinds(world.tick(world.now + HOUR)) == ["OfferExpired", "MatchDecided", "ReferralClosed"] * 3
    carried = [entry.meta.submission is not None for entry, _ in world.entries[before:]]
    assert carried == [True, False, False] * 3


def test_offers_due_together_expire_in_the_order_of_their_times_then_ids(world: World) -> None:
    world.publish(offers("beds", total=4))
    world.step = 0
    same = sorted(world.refer(number=number) for number in (1, 2, 3))
    world.step = 1
    later = world.refer(number=4)
    expired = [event for event in world.tick(world.now + HOUR) if isinstance(event, OfferExpired)]
    assert [one.referral for one in expired] == [*same, later]


def test_a_place_freed_by_one_expiry_serves_the_next_of_the_same_tick(world: World) -> None:
    world.publish(offers("beds"), offers("rooms"))
    world.step = 0
    first, second = sorted(world.refer(number=number) for number in (1, 2))
    other = offered(world, first)
    events = world.tick(world.now + HOUR)
    assert events[2] == ReferralClosed(referral=first, status="revoked", reason="offers_exhausted")
    made = events[-1]
    assert isinstance(made, OfferMade)
    assert (made.referral, made.service) == (second, other)


def test_withdrawal_of_an_offered_referral_frees_the_held_place(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert world.send(withdraw(referral), "police") == [
        ReferralWithdrawn(referral=referral, reason="moved_away", task=task_id(referral, 1)),
        ReferralClosed(referral=referral, status="revoked", reason="withdrawn"),
    ]
    assert places(world) == (1, 0, 0)
    assert world.tick(world.now + HOUR) == []


def test_withdrawal_of_an_accepted_referral_frees_the_taken_place(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    assert places(world) == (0, 0, 1)
    withdrawn, _ = world.send(withdraw(referral), "police")
    assert isinstance(withdrawn, ReferralWithdrawn)
    assert withdrawn.task == task_id(referral, 1)
    assert places(world) == (1, 0, 0)


def test_a_referral_entered_in_error_is_closed_as_that(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    assert world.send(withdraw(referral, "entered_in_error"), "police")[1] == ReferralClosed(
        referral=referral, status="entered-in-error", reason="withdrawn"
    )


def test_a_started_service_is_recorded_once(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    started_at = world.now - HOUR
    assert world.send(start(referral, started_at), "shelter") == [
        ServiceStarted(referral=referral, task=task_id(referral, 1), started_at=started_at)
    ]
    assert refused(world.send(start(referral, started_at), "shelter")) == "already_started"


def test_an_outcome_closes_the_referral_and_frees_the_place(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    assert world.send(outcome(referral), "shelter") == [
        OutcomeReported(referral=referral, task=task_id(referral, 1), result="need_met"),
        ReferralClosed(referral=referral, status="completed", reason="outcome_reported", result="need_met"),
    ]
    assert places(world) == (1, 0, 0)
    assert referral not in world.state.referrals


def test_an_outcome_names_the_task_that_was_accepted(world: World) -> None:
    in_order(world, "first", "second")
    referral = world.refer()
    world.send(decline(referral), "shelter")
    world.send(accept(referral, 2), "shelter")
    reported = world.send(outcome(referral), "shelter")[0]
    assert isinstance(reported, OutcomeReported)
    assert reported.task == task_id(referral, 2)


def test_a_freed_place_is_offered_again(world: World) -> None:
    world.publish(offers("beds"))
    world.send(outcome(world.accepted(number=1)), "shelter")
    assert offered(world, world.refer(number=2)) == service_of("beds")
