"""Mode *waitlist*: who finds no place waits in a fair order, and is called when one comes free."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
from pydantic import ValidationError

from referral_bus.contracts.facts import Need, PlaceFact, TextFact
from referral_bus.contracts.inbox import AmendReferral, SubmitReferral
from referral_bus.contracts.ledger import (
    Event,
    MatchDecided,
    ReferralCalled,
    ReferralClosed,
    ReferralWaitlisted,
)
from referral_bus.contracts.reference import ReachLimit
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.services import Unit
from referral_bus.contracts.vocabulary import DeclineReason, Mode, Urgency
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    PROTOCOL,
    World,
    accept,
    ask,
    decline,
    forget,
    give_back,
    hold,
    kinds,
    offers,
    offers_in,
    outcome,
    picture,
    policy,
    propose,
    publish,
    report,
    service_of,
    stated_area,
    subject_of,
    transfer,
    unit_of,
    withdraw,
)

NEAR = ReachLimit(urgency="urgent", travel="walk", metres=1000)
REVIEW = PROTOCOL.waitlist_review_ms


def waiting(world: World, number: int, urgency: Urgency = "urgent", **more: object) -> str:
    referral = world.refer(number=number, urgency=urgency, mode="waitlist", **more)  # type: ignore[arg-type]
    assert world.state.referrals[referral].waits_for is not None
    return referral


def full(world: World) -> str:
    """The one place is taken; by whom, is returned."""
    world.publish(offers("beds"))
    return world.accepted(number=1)


def called(events: list[Event]) -> list[str]:
    return [event.referral for event in events if isinstance(event, ReferralCalled)]


def line(world: World, local: str = "beds") -> list[str]:
    return [name for _, _, name in world.state.waitlist.get(service_of(local), [])]


def test_who_finds_no_place_waits_for_those_who_would_take_them(world: World) -> None:
    full(world)
    world.publish(offers("far", areas=["elsewhere"]), offers("food", needs=["food"]))
    _, matched, waitlisted = world.send(world.submission(number=2, mode="waitlist"), "police")
    assert isinstance(matched, MatchDecided)
    assert matched.service is None
    assert waitlisted == ReferralWaitlisted(
        referral=world.submission(number=2).referral,
        services=[service_of("beds")],
        review=world.now + REVIEW,
    )


def test_who_finds_a_place_does_not_wait(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer(mode="waitlist")
    assert len(world.state.referrals[referral].offers) == 1


def test_who_waits_for_a_named_service_waits_for_no_other(world: World) -> None:
    world.publish(offers("beds"))
    first = world.accepted(number=1)
    world.publish(offers("other", "clinic", total=5))
    named = waiting(world, 2, service=service_of("beds"))
    assert world.state.referrals[named].waits_for == (service_of("beds"),)
    world.publish(offers("new", "clinic", total=5))
    world.tick(world.now + REVIEW)
    assert world.state.referrals[named].waits_for == (service_of("beds"),)
    [made] = offers_in(world.send(outcome(first), "shelter"))
    assert (made.referral, made.service) == (named, service_of("beds"))


def test_who_waited_for_a_named_service_alone_does_so_again_once_the_referral_is_reopened(
    world: World,
) -> None:
    served = full(world)
    world.publish(offers("other", "clinic", total=5))
    named = waiting(world, 2, service=service_of("beds"))
    world.send(withdraw(named), "police")
    assert offers_in(world.send(world.reopening(named), "police")) == []
    assert line(world) == [named]
    [made] = offers_in(world.send(outcome(served), "shelter"))
    assert (made.referral, made.service) == (named, service_of("beds"))


@pytest.mark.parametrize("gives_back", [False, True])
def test_who_waits_for_a_named_service_alone_that_never_takes_them_waits_no_longer(
    world: World, gives_back: bool
) -> None:
    world.publish(offers("beds"), offers("other", "clinic"))
    named = world.refer(mode="waitlist", service=service_of("beds"))
    if gives_back:
        world.send(accept(named), "shelter")
    no = give_back if gives_back else decline
    assert world.send(no(named, 1, "conflict_of_interest"), "shelter")[-1] == ReferralClosed(
        referral=named, status="revoked", reason="offers_exhausted"
    )
    assert world.again() == [value for _, value in world.entries]


def test_who_is_never_taken_by_one_service_waits_on_for_the_others(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer(mode="waitlist")
    world.send(decline(referral, 1, "conflict_of_interest"), "shelter")
    assert world.state.referrals[referral].waits_for == ()
    [made] = offers_in(world.send(publish(offers("other", "clinic")), "clinic"))
    assert made.referral == referral


def test_a_reopened_referral_does_not_wait_for_a_named_service_that_it_is_never_to_be_offered_to_again(
    world: World,
) -> None:
    world.publish(offers("beds"), offers("other", "clinic"))
    named = world.refer(mode="waitlist", service=service_of("beds"))
    world.send(decline(named, 1, "not_eligible"), "shelter")
    [made] = offers_in(world.send(world.reopening(named), "police"))
    assert made.service == service_of("other")


def test_a_named_service_that_has_a_place_is_asked_at_once(world: World) -> None:
    world.publish_in_order("first", "clinic:second")
    referral = world.refer(mode="waitlist", service=service_of("second"))
    assert world.task(referral).service == service_of("second")


def test_a_named_service_that_does_not_take_the_person_yet_is_waited_for_until_it_does(world: World) -> None:
    world.publish(offers("far", areas=["elsewhere"]))
    referral = waiting(world, 1, service=service_of("far"))
    assert world.state.referrals[referral].waits_for == ()
    [made] = offers_in(world.send(publish(offers("far")), "shelter"))
    assert (made.referral, made.service) == (referral, service_of("far"))


@pytest.mark.parametrize(
    ("mode", "named", "taken"),
    [
        ("match", True, False),
        ("match", False, True),
        ("direct", True, True),
        ("direct", False, False),
        ("broadcast", True, False),
        ("waitlist", True, True),
        ("waitlist", False, True),
    ],
)
def test_a_service_is_named_where_its_mode_lets_one_be(
    world: World, mode: Mode, named: bool, taken: bool
) -> None:
    request: dict[str, object] = {"subject": "one", "urgency": "urgent", "facts": HOUSING, "mode": mode}
    request |= {"service": service_of("beds")} if named else {}
    told = world.submission().model_dump() | {"mode": mode, "service": request.get("service")}
    for form, content in ((ReferralRequest, request), (SubmitReferral, told)):
        with nullcontext() if taken else pytest.raises(ValidationError, match="a service is named in mode"):
            form.model_validate(content)


FREEING: dict[str, tuple[Callable[[World], object], Callable[[World, str], list[Event]]]] = {
    "a decline": (
        lambda world: world.refer(number=1),
        lambda world, first: world.send(decline(first), "shelter"),
    ),
    "an expiry": (
        lambda world: world.refer(number=1),
        lambda world, _: world.tick(world.now + 10 * MINUTE),
    ),
    "a withdrawal before the answer": (
        lambda world: world.refer(number=1),
        lambda world, first: world.send(withdraw(first), "police"),
    ),
    "a withdrawal after it": (
        lambda world: world.accepted(number=1),
        lambda world, first: world.send(withdraw(first), "police"),
    ),
    "a hold": (
        lambda world: world.refer(number=1),
        lambda world, first: world.send(hold(first), "police"),
    ),
    "an outcome": (
        lambda world: world.accepted(number=1),
        lambda world, first: world.send(outcome(first), "shelter"),
    ),
    "giving back": (
        lambda world: world.accepted(number=1),
        lambda world, first: world.send(give_back(first, 1, "person_declined"), "shelter"),
    ),
    "a new count": (
        lambda world: world.accepted(number=1),
        lambda world, _: world.send(report("beds", 3, 2, world.now), "shelter"),
    ),
    "a unit that is added": (
        lambda world: world.accepted(number=1),
        lambda world, _: world.send(
            publish(
                offers(
                    "beds",
                    units=[
                        Unit(unit=unit_of("beds"), name="places", total=1, available=0),
                        Unit(unit=unit_of("annex"), name="annex", total=1, available=1),
                    ],
                )
            ),
            "shelter",
        ),
    ),
}


@pytest.mark.parametrize(("before", "freeing"), FREEING.values(), ids=FREEING)
def test_who_waits_is_called_and_offered_the_place_that_comes_free_by(
    world: World, before: Callable[[World], str], freeing: Callable[[World, str], list[Event]]
) -> None:
    world.publish(offers("beds"))
    first = before(world)
    second = waiting(world, 2)
    events = freeing(world, first)
    assert kinds(events)[-3:] == ["ReferralCalled", "MatchDecided", "OfferMade"]
    assert events[-3] == ReferralCalled(referral=second, service=service_of("beds"))
    assert [one.referral for one in offers_in(events)] == [second]
    assert line(world) == []


def test_the_more_urgent_is_called_first_then_who_has_waited_longer(world: World) -> None:
    first = full(world)
    urgencies: list[Urgency] = ["routine", "urgent", "urgent", "crisis"]
    routine, urgent, later, crisis = (waiting(world, 2 + n, one) for n, one in enumerate(urgencies))
    assert line(world) == [crisis, urgent, later, routine]
    order = called(world.send(outcome(first), "shelter"))
    for _ in range(3):
        [offer] = [world.state.referrals[one] for one in order[-1:]]
        assert len(offer.offers) == 1
        order += called(world.send(withdraw(order[-1]), "police"))
    assert order == [crisis, urgent, later, routine]


def test_an_amended_urgency_changes_the_place_in_line(world: World) -> None:
    first = full(world)
    early, late = waiting(world, 2), waiting(world, 3)
    events = world.send(AmendReferral(referral=late, urgency="crisis"), "police")
    assert kinds(events) == ["ReferralAmended", "MatchDecided", "ReferralWaitlisted"]
    assert line(world) == [late, early]
    assert called(world.send(outcome(first), "shelter")) == [late]


def test_amended_facts_change_what_is_waited_for(world: World) -> None:
    full(world)
    world.publish(offers("rooms", "clinic", areas=["harbour"]))
    referral = waiting(world, 2)
    moved = HOUSING.model_copy(update={"area": stated_area("harbour")})
    sealed = world.seal(moved, subject_of(2))
    events = world.send(AmendReferral(referral=referral, sealed_facts=sealed), "police")
    assert [one.service for one in offers_in(events)] == [service_of("rooms")]
    assert line(world) == []


def test_as_many_are_called_as_there_are_places(world: World) -> None:
    full(world)
    names = [waiting(world, number) for number in (2, 3, 4)]
    events = world.send(report("beds", 3, 2, world.now), "shelter")
    assert called(events) == names[:2]
    assert line(world) == names[2:]
    assert world.places() == (0, 2, 1)


def test_who_is_called_and_declined_makes_room_for_the_next_and_is_not_asked_there_again_at_once(
    world: World,
) -> None:
    first = full(world)
    second, third = waiting(world, 2), waiting(world, 3)
    world.send(outcome(first), "shelter")
    events = world.send(decline(second), "shelter")
    assert called(events) == [third]
    known = world.state.referrals[second]
    assert known.waits_for == ()


@pytest.mark.parametrize("reason", ["no_capacity", "full_until"])
def test_who_is_called_and_refused_for_want_of_a_place_keeps_the_place_in_line(
    world: World, reason: DeclineReason
) -> None:
    served = full(world)
    first, second = waiting(world, 2), waiting(world, 3)
    assert called(world.send(outcome(served), "shelter")) == [first]
    until = world.now + 5 * DAY if reason == "full_until" else None
    assert called(world.send(decline(first, 1, reason, until), "shelter")) == []
    assert line(world) == [first, second]
    assert called(world.send(report("beds", 1, 1, world.now + MINUTE), "shelter")) == [first]
    assert world.task(first, 2).service == service_of("beds")
    assert line(world) == [second]
    assert picture(world.folded().state) == picture(world.state)


def test_who_is_refused_until_a_date_waits_in_the_other_lines_too_and_is_called_on_the_date(
    world: World,
) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    served = {world.task(one).service: one for one in (world.accepted(number=8), world.accepted(number=9))}
    first, second = waiting(world, 1), waiting(world, 2)
    world.send(outcome(served[service_of("beds")]), "shelter")
    until = world.now + 3 * HOUR
    world.send(decline(first, 1, "full_until", until), "shelter")
    assert line(world, "beds") == line(world, "rooms") == [first, second]
    assert called(world.send(outcome(served[service_of("rooms")]), "clinic")) == [first]
    world.send(decline(first, 2), "clinic")
    world.send(accept(second), "clinic")
    assert world.task(second).service == service_of("rooms")
    assert line(world, "beds") == [first]
    assert called(world.tick(until)) == [first]


def test_who_is_given_back_for_want_of_a_place_waits_for_one_there(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer(mode="waitlist")
    world.send(accept(referral), "shelter")
    world.send(give_back(referral, 1, "no_capacity"), "shelter")
    assert line(world) == [referral]
    assert called(world.send(report("beds", 1, 1, world.now + MINUTE), "shelter")) == [referral]


def test_who_is_not_answered_keeps_the_place_in_line_and_the_next_are_asked_about_that_place_once(
    world: World,
) -> None:
    served = full(world)
    first, second = waiting(world, 2), waiting(world, 3)
    world.send(outcome(served), "shelter")
    assert called(world.tick(world.task(first).expires_at)) == [second]
    assert line(world) == [first]
    assert called(world.tick(world.task(second).expires_at)) == []
    assert line(world) == [first, second]
    assert world.tick(world.now + HOUR) == []
    assert called(world.send(report("beds", 1, 1, world.now), "shelter")) == [first]
    assert picture(world.folded().state) == picture(world.state)
    assert world.again() == [value for _, value in world.entries]


def test_who_was_not_answered_is_called_before_the_others_once_another_place_comes_free(world: World) -> None:
    world.publish(offers("beds", total=2))
    one, other = world.accepted(number=8), world.accepted(number=9)
    first, second, third = (waiting(world, number) for number in (1, 2, 3))
    world.send(outcome(one), "shelter")
    world.tick(world.task(first).expires_at)
    assert world.task(second).is_open
    assert called(world.send(outcome(other), "shelter")) == [first]
    assert line(world) == [third]


def test_who_was_refused_by_a_provider_that_is_not_believed_is_called_for_the_next_place(
    world: World,
) -> None:
    world.send(policy(POLICY.model_copy(update={"version": 2, "full_ms": 0})), OPERATIONS)
    served = full(world)
    first, second = waiting(world, 2), waiting(world, 3)
    world.send(outcome(served), "shelter")
    assert called(world.send(decline(first, 1, "no_capacity"), "shelter")) == [second]
    assert called(world.send(decline(second, 1, "no_capacity"), "shelter")) == []
    assert called(world.send(report("beds", 2, 2, world.now + MINUTE), "shelter")) == [first, second]


def test_who_did_not_answer_what_a_provider_asked_does_not_wait_for_it_in_this_round(world: World) -> None:
    served = full(world)
    first = waiting(world, 2)
    world.send(outcome(served), "shelter")
    world.send(ask(first), "shelter")
    world.tick(world.task(first).expires_at)
    assert line(world) == []


def test_who_would_not_be_taken_there_any_more_does_not_wait_there(world: World) -> None:
    served = full(world)
    first = waiting(world, 2)
    world.send(outcome(served), "shelter")
    world.publish(offers("beds", areas=["elsewhere"]))
    world.send(decline(first, 1, "no_capacity"), "shelter")
    assert world.state.referrals[first].waits_for == ()


def test_who_named_a_service_waits_for_no_other_that_it_was_proposed_to(world: World) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer(mode="waitlist", service=service_of("beds"))
    world.send(propose(referral, "rooms"), "shelter")
    world.send(decline(referral, 2, "no_capacity"), "clinic")
    assert world.state.referrals[referral].waits_for == ()


def test_a_newcomer_does_not_come_before_who_waits(world: World) -> None:
    first = full(world)
    second = waiting(world, 2)
    world.send(outcome(first), "shelter")
    world.refer(number=3)
    assert isinstance(world.events[-1], ReferralClosed)
    assert len(world.state.referrals[second].offers) == 1


def test_who_waits_for_several_services_is_called_by_the_first_that_has_a_place_and_leaves_every_line(
    world: World,
) -> None:
    first = full(world)
    world.publish(offers("rooms", "clinic", total=1, available=0))
    second = waiting(world, 2)
    assert line(world, "beds") == line(world, "rooms") == [second]
    world.send(outcome(first), "shelter")
    assert line(world, "beds") == line(world, "rooms") == []
    assert called(world.send(report("rooms", 1, 1, world.now), "clinic")) == []


def test_who_would_be_taken_by_a_new_service_lines_up_for_it_and_the_first_are_called(world: World) -> None:
    full(world)
    late, first = waiting(world, 2), waiting(world, 3, "crisis")
    review = world.state.referrals[late].review_at
    elsewhere = world.refer(
        HOUSING.model_copy(update={"needs": [Need(code="food")]}), number=4, mode="waitlist"
    )
    events = world.send(publish(offers("rooms", "clinic")), "clinic")
    assert kinds(events) == [
        "ServicePublished",
        *["ReferralWaitlisted"] * 2,
        *["ReferralCalled", "MatchDecided", "OfferMade"],
    ]
    assert events[2] == ReferralWaitlisted(
        referral=late, services=[service_of("beds"), service_of("rooms")], review=review
    )
    assert called(events) == [first]
    assert offers_in(events)[0].service == service_of("rooms")
    assert line(world, "rooms") == [late]
    assert world.state.referrals[elsewhere].waits_for == ()
    assert picture(world.folded().state) == picture(world.state)
    assert called(world.send(withdraw(first), "police")) == [late]


def test_nobody_is_called_twice_for_a_new_service_nor_to_one_they_are_not_to_be_asked_at(
    world: World,
) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer(number=2, mode="waitlist")
    first = world.task(referral)
    world.send(decline(referral, 1), first.provider)
    world.send(decline(referral, 2), world.task(referral, 2).provider)
    assert world.state.referrals[referral].waits_for == ()
    for name, provider in (("beds", "shelter"), ("rooms", "clinic")):
        events = world.send(publish(offers(name, provider, total=3)), provider)
        assert kinds(events) == ["ServicePublished"]


def test_who_waits_lines_up_for_a_service_that_is_offered_again_or_takes_more_people_than_before(
    world: World,
) -> None:
    world.publish(offers("beds", active=False), offers("rooms", "clinic", areas=["harbour"]))
    one = waiting(world, 1)
    assert called(world.send(publish(offers("beds")), "shelter")) == [one]
    two = waiting(world, 2)
    assert called(world.send(publish(offers("rooms", "clinic")), "clinic")) == [two]
    assert kinds(world.send(publish(offers("rooms", "clinic")), "clinic")) == ["ServicePublished"]


def test_who_is_forgotten_does_not_line_up_for_a_new_service(world: World) -> None:
    full(world)
    forgotten, other = waiting(world, 2), waiting(world, 3)
    world.send(forget(subject_of(2)), "operations")
    assert called(world.send(publish(offers("rooms", "clinic")), "clinic")) == [other]
    assert line(world) == [forgotten]


def test_a_new_service_decided_again_is_the_same_bytes(world: World) -> None:
    full(world)
    for number in (2, 3, 4):
        waiting(world, number)
    world.publish(offers("rooms", "clinic", total=2))
    assert world.again() == [value for _, value in world.entries]


def test_what_else_has_changed_is_found_when_who_waits_is_looked_at_anew(world: World) -> None:
    world.send(policy(POLICY.model_copy(update={"version": 2, "reach": [NEAR]})), OPERATIONS)
    world.publish(offers("beds", places=[{"latitude": 41_000_000, "longitude": -87_000_000}]))
    here = PlaceFact(status="stated", latitude=40_000_000, longitude=-87_000_000)
    walks = HOUSING.model_copy(update={"place": here, "travel": TextFact(status="stated", value="walk")})
    referral = waiting(world, 2, facts=walks)
    since = world.now
    world.send(policy(POLICY.model_copy(update={"version": 3})), OPERATIONS)
    assert world.tick(since + REVIEW - 1) == []
    events = world.tick(since + REVIEW)
    assert kinds(events) == ["ReferralCalled", "MatchDecided", "OfferMade"]
    assert events[0] == ReferralCalled(referral=referral)
    assert offers_in(events)[0].service == service_of("beds")


def test_who_is_looked_at_anew_in_vain_waits_on_and_keeps_the_place_in_line(world: World) -> None:
    full(world)
    early = waiting(world, 2)
    later = waiting(world, 3)
    assert (
        kinds(world.tick(world.now + REVIEW)) == ["ReferralCalled", "MatchDecided", "ReferralWaitlisted"] * 2
    )
    assert line(world) == [early, later]
    assert world.state.referrals[early].review_at == world.now + REVIEW


def test_to_be_looked_at_anew_is_a_new_round_but_not_for_who_is_never_to_be_asked_again(
    world: World,
) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer(mode="waitlist")
    first, other = world.task(referral), {"beds": "rooms", "rooms": "beds"}
    local = first.service.rpartition("-")[2]
    world.send(decline(referral, 1, "not_eligible"), first.provider)
    second = world.task(referral, 2)
    world.send(decline(referral, 2), second.provider)
    assert world.state.referrals[referral].waits_for == ()
    [again] = offers_in(world.tick(world.now + REVIEW))
    assert again.service == service_of(other[local])


def test_who_is_looked_at_anew_can_be_offered_to_everybody_in_the_new_round(world: World) -> None:
    world.follow(maximum_offers=9)
    world.publish_in_order("first", "clinic:second")
    referral = world.refer(mode="waitlist")
    world.send(decline(referral, 1), "shelter")
    world.send(decline(referral, 2), "clinic")
    [first] = offers_in(world.tick(world.now + REVIEW))
    [second] = offers_in(world.send(decline(referral, 3), "shelter"))
    assert [first.service, second.service] == [service_of("first"), service_of("second")]


def test_a_place_that_is_gone_before_anybody_is_called_is_not_remembered_and_never_was_to_a_reader(
    world: World,
) -> None:
    full(world)
    waiting(world, 2)
    assert called(world.send(report("beds", 2, 0, world.now), "shelter")) == []
    assert picture(world.folded().state) == picture(world.state)
    world.send(report("beds", 2, 3, world.now), "shelter")
    assert not world.state.freed


def test_who_rests_is_withdrawn_or_forgotten_is_not_called(world: World) -> None:
    first = full(world)
    resting, withdrawn, forgotten, last = (waiting(world, number) for number in (2, 3, 4, 5))
    world.send(hold(resting), "police")
    world.send(withdraw(withdrawn), "police")
    assert line(world) == [forgotten, last]
    world.send(forget(subject_of(4)), "operations")
    events = world.send(outcome(first), "shelter")
    assert called(events) == [forgotten, last]
    assert ReferralClosed(referral=forgotten, status="revoked", reason="facts_unavailable") in events
    assert [one.referral for one in offers_in(events)] == [last]


def test_who_waits_longer_than_the_protocol_lets_a_referral_go_unaccepted_is_told_so(world: World) -> None:
    limits = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}
    world.follow(referral_limits=limits)
    full(world)
    referral = waiting(world, 2)
    [closed] = world.tick(world.now + HOUR)
    assert closed == ReferralClosed(referral=referral, status="revoked", reason="time_over")
    assert line(world) == []


def test_a_transfer_keeps_the_place_in_line(world: World) -> None:
    full(world)
    early, later = waiting(world, 2), waiting(world, 3)
    world.send(transfer(early), "police")
    assert line(world) == [early, later]


def test_a_place_at_a_service_that_is_no_longer_offered_calls_nobody(world: World) -> None:
    first = full(world)
    referral = waiting(world, 2)
    world.send(publish(offers("beds", active=False)), "shelter")
    assert called(world.send(outcome(first), "shelter")) == []
    assert called(world.send(publish(offers("beds")), "shelter")) == [referral]


def test_a_broadcast_does_not_wait(world: World) -> None:
    full(world)
    referral = world.refer(number=2, mode="broadcast")
    assert world.events[-1] == ReferralClosed(referral=referral, status="revoked", reason="no_match")
    assert world.tick(world.now + DAY) == []


def test_the_calls_decided_again_are_the_same_bytes(world: World) -> None:
    first = full(world)
    for number in (2, 3, 4):
        waiting(world, number)
    world.send(outcome(first), "shelter")
    world.tick(world.now + 10 * MINUTE)
    world.tick(world.now + DAY)
    second = next(name for name, known in world.state.referrals.items() if known.offers)
    world.send(accept(second, world.state.referrals[second].offers[0]), "shelter")
    assert world.again() == [value for _, value in world.entries]
