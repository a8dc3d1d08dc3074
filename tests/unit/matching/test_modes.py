"""Modes *direct* and *broadcast*: the agency names the service, or several are asked at once and the first acceptance wins."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DeclineReason
from tests.support.deciding import (
    DAY,
    HOUR,
    World,
    accept,
    decline,
    kinds,
    offers,
    offers_in,
    outcome,
    propose,
    refused,
    report,
    service_of,
)


def asked(world: World, referral: str) -> list[str]:
    """The services whose answer is waited for."""
    known = world.state.referrals[referral]
    return [known.attempt(number).service for number in known.offers]


def broadcast(world: World, *named: str, width: int = 3, most: int = 9) -> str:
    world.follow(broadcast_width=width, maximum_offers=most)
    world.publish_in_order(*named)
    return world.refer(mode="broadcast")


def test_the_service_its_agency_names_is_asked_though_another_ranks_before_it(world: World) -> None:
    world.publish_in_order("first", "second")
    opened, matched, made = world.send(
        world.submission(mode="direct", service=service_of("second")), "police"
    )
    assert isinstance(opened, ReferralOpened)
    assert (opened.mode, opened.service) == ("direct", service_of("second"))
    assert isinstance(matched, MatchDecided)
    assert [(one.criterion, one.services) for one in matched.certificate.eliminated] == [("not_named", 1)]
    [offer] = offers_in([made])
    assert offer.service == service_of("second")


def test_when_the_named_service_declines_nobody_else_is_asked(world: World) -> None:
    world.publish_in_order("first", "second")
    referral = world.refer(mode="direct", service=service_of("second"))
    assert world.send(decline(referral), "shelter")[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="offers_exhausted"
    )


def test_when_the_named_service_is_full_the_referral_is_closed_and_not_offered_elsewhere(
    world: World,
) -> None:
    world.publish(offers("first"), offers("second", total=1, available=0))
    referral = world.refer(mode="direct", service=service_of("second"))
    assert world.events[-1] == ReferralClosed(referral=referral, status="revoked", reason="no_match")


def test_a_direct_referral_that_is_reopened_is_matched_like_any_other(world: World) -> None:
    world.publish_in_order("first", "second")
    referral = world.refer(mode="direct", service=service_of("second"))
    world.send(accept(referral), "shelter")
    world.send(outcome(referral), "shelter")
    [offer] = offers_in(world.send(world.reopening(referral), "police"))
    assert (offer.service, offer.task) == (service_of("first"), task_id(referral, 2))


def test_a_broadcast_asks_as_many_of_the_best_at_once_as_the_protocol_says_each_with_a_place_held(
    world: World,
) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", width=2)
    made = offers_in(world.events)
    assert [(one.task, one.service) for one in made] == [
        (task_id(referral, 1), service_of("a")),
        (task_id(referral, 2), service_of("b")),
    ]
    assert len({one.expires_at for one in made}) == 1
    assert [world.places(one)[1] for one in "abc"] == [1, 1, 0]


def test_a_broadcast_asks_more_than_a_certificate_shows_where_the_protocol_says_so(world: World) -> None:
    names = [f"{number}" for number in range(6)]
    broadcast(world, *names, width=5)
    assert [one.service for one in offers_in(world.events)] == [service_of(name) for name in names[:5]]
    [matched] = [event for event in world.events if isinstance(event, MatchDecided)]
    assert [one.service for one in matched.certificate.best] == [service_of(name) for name in names[:3]]


def test_a_broadcast_asks_no_more_than_are_left_of_the_protocols_most_offers(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", width=2, most=3)
    world.send(decline(referral, 1), "shelter")
    assert [one.service for one in offers_in(world.send(decline(referral, 2), "clinic"))] == [service_of("c")]
    assert kinds(world.send(decline(referral, 3), "pantry")) == ["OfferDeclined", "ReferralClosed"]


def test_of_a_broadcast_the_first_acceptance_wins_and_the_others_are_told_at_once(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c")
    assert world.send(accept(referral, 2), "clinic") == [
        OfferAccepted(referral=referral, task=task_id(referral, 2), provider="clinic"),
        TaskCancelled(
            referral=referral, task=task_id(referral, 1), provider="shelter", reason="taken_elsewhere"
        ),
        TaskCancelled(
            referral=referral, task=task_id(referral, 3), provider="pantry", reason="taken_elsewhere"
        ),
    ]
    assert [world.places(one)[1] for one in "abc"] == [0, 0, 0]
    assert [world.task(referral, number).business for number in (1, 2, 3)] == [
        "taken-elsewhere",
        "accepted",
        "taken-elsewhere",
    ]


def test_a_second_acceptance_of_a_broadcast_is_refused_and_takes_no_place(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b")
    world.send(accept(referral, 2), "clinic")
    assert refused(world.send(accept(referral, 1), "shelter")) == "offer_not_open"
    assert world.places("a") == (10, 0, 0)


def test_who_declines_a_broadcast_leaves_it_to_the_others(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b")
    assert kinds(world.send(decline(referral, 1), "shelter")) == ["OfferDeclined"]
    assert asked(world, referral) == [service_of("b")]


def test_when_the_last_of_a_broadcast_declines_the_next_are_asked(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", "clinic:d", width=2)
    world.send(decline(referral, 1), "shelter")
    world.send(decline(referral, 2), "clinic")
    assert asked(world, referral) == [service_of("c"), service_of("d")]


def test_when_a_broadcast_expires_the_next_are_asked_once(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", "clinic:d", width=2)
    events = world.tick(world.task(referral).expires_at)
    assert kinds(events) == ["OfferExpired", "OfferExpired", "MatchDecided", "OfferMade", "OfferMade"]
    assert isinstance(events[0], OfferExpired)
    assert asked(world, referral) == [service_of("c"), service_of("d")]


def test_who_is_full_for_a_while_is_not_asked_again_while_the_rest_of_a_broadcast_goes_on(
    world: World,
) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", width=2)
    world.send(decline(referral, 1, "full_until", world.now + DAY), "shelter")
    events = world.send(decline(referral, 2), "clinic")
    assert isinstance(events[0], OfferDeclined)
    assert [one.service for one in offers_in(events)] == [service_of("c")]


@pytest.mark.parametrize("first", [1, 2])
def test_a_date_that_one_of_a_broadcast_declines_until_is_kept_whoever_declines_last(
    world: World, first: int
) -> None:
    world.publish(offers("a"), offers("b", "clinic"))
    referral = world.refer(mode="broadcast")
    until = world.now + 3 * DAY
    providers = [task.provider for task in world.state.referrals[referral].tasks]
    said = {1: ("person_not_ready", until), 2: ("could_not_reach", None)}
    for number in (first, 3 - first):
        reason, date = said[number]
        events = world.send(decline(referral, number, reason, date), providers[number - 1])  # type: ignore[arg-type]
    assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=until)
    assert world.tick(until - 1) == []
    assert "OfferMade" in kinds(world.tick(until))


Said = tuple[DeclineReason, int]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize(
    ("said", "asked_next"),
    [
        ((("full_until", 30), ("other", 0)), True),
        ((("full_until", 30), ("full_until", 3)), True),
        ((("person_not_ready", 30), ("other", 0)), False),
        ((("person_not_ready", 30), ("full_until", 60)), False),
        ((("person_not_ready", 30), ("person_not_ready", 3)), False),
    ],
)
def test_what_becomes_of_a_broadcast_that_all_decline_does_not_depend_on_who_declines_first(
    world: World, order: tuple[int, int], said: tuple[Said, Said], asked_next: bool
) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", width=2)
    until = world.now + 30 * DAY
    for number in order:
        reason, days = said[number - 1]
        date = until + (days - 30) * DAY if days else None
        events = world.send(decline(referral, number, reason, date), "shelter" if number == 1 else "clinic")
    if asked_next:
        assert [one.service for one in offers_in(events)] == [service_of("c")]
    else:
        assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=until)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("reason", ["full_until", "person_not_ready"])
def test_of_two_dates_the_later_counts_whichever_is_said_first(
    world: World, order: tuple[int, int], reason: DeclineReason
) -> None:
    referral = broadcast(world, "a", "clinic:b")
    dates = {1: world.now + 30 * DAY, 2: world.now + 3 * DAY}
    for number in order:
        no = decline(referral, number, reason, dates[number])
        events = world.send(no, "shelter" if number == 1 else "clinic")
    assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=dates[1])


def test_until_when_a_service_is_full_is_not_forgotten_because_the_person_was_not_ready_before(
    world: World,
) -> None:
    referral = broadcast(world, "a", "clinic:b")
    ready, until = world.now + 3 * DAY, world.now + 30 * DAY
    world.send(decline(referral, 1, "person_not_ready", ready), "shelter")
    world.send(decline(referral, 2, "full_until", until), "clinic")
    assert [one.service for one in offers_in(world.tick(ready))] == [service_of("a")]
    events = world.send(decline(referral, 3), "shelter")
    assert events[-1] == ReferralHeld(referral=referral, reason="declined", until=until)
    assert service_of("b") in [one.service for one in offers_in(world.tick(until))]


def test_until_when_a_service_was_full_counts_for_nothing_once_it_was_asked_again(world: World) -> None:
    referral = broadcast(world, "a", "clinic:b")
    ready, until = world.now + 3 * DAY, world.now + 30 * DAY
    world.send(decline(referral, 1, "person_not_ready", ready), "shelter")
    world.send(decline(referral, 2, "full_until", until), "clinic")
    world.send(report("b", 5, 5, world.now + DAY), "clinic", at=world.now + DAY)
    assert len(offers_in(world.tick(ready))) == 2
    world.send(decline(referral, 3), world.task(referral, 3).provider)
    last = world.send(decline(referral, 4), world.task(referral, 4).provider)
    assert kinds(last)[-1] == "ReferralClosed"


def test_a_broadcast_whose_last_offer_expires_rests_until_the_date_somebody_declined_until(
    world: World,
) -> None:
    world.publish(offers("a"), offers("b", "clinic"))
    referral = world.refer(mode="broadcast")
    until = world.now + 3 * DAY
    provider = world.task(referral).provider
    world.send(decline(referral, 1, "full_until", until), provider)
    assert world.tick(world.now + HOUR)[-1] == ReferralHeld(referral=referral, reason="declined", until=until)


def test_one_of_a_broadcast_that_proposes_another_service_brings_it_in_beside_the_others(
    world: World,
) -> None:
    referral = broadcast(world, "a", "clinic:b", "pantry:c", width=2)
    world.send(propose(referral, "c", 1), "shelter")
    assert asked(world, referral) == [service_of("b"), service_of("c")]
    world.send(accept(referral, 3), "pantry")
    assert asked(world, referral) == []
    assert world.tick(world.now + HOUR) == []
