"""Routine referrals of a window are decided together: more are served than in the order they came, and nothing is sold twice."""

from __future__ import annotations

from random import Random

import pytest

from referral_bus.contracts.facts import Facts, Need, PlaceFact, TextFact
from referral_bus.contracts.inbox import AmendReferral, HoldReferral
from referral_bus.contracts.ledger import (
    MatchDecided,
    OfferMade,
    ReferralClosed,
    ReferralQueued,
    WindowClosed,
)
from referral_bus.contracts.reference import ReachLimit
from referral_bus.wire.codec import Codec
from services.matching.core.decide import call, wanted_for
from services.matching.core.decide import gathering as windows
from services.matching.core.state import Call
from tests.support.deciding import (
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    decline,
    forget,
    kinds,
    of,
    offers,
    offers_in,
    picture,
    policy,
    report,
    service_of,
    stated_age,
    subject_of,
    withdraw,
)

GATHERING = POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE})
OLD = HOUSING.model_copy(update={"age": stated_age(70)})


@pytest.fixture
def gathering(world: World) -> World:
    """Windows of ten minutes; one place for everybody, and one for the young."""
    world.send(policy(GATHERING), OPERATIONS)
    world.publish(offers("any"), offers("young", "clinic", ages={"maximum": 40}))
    return world


def refer(world: World, number: int, facts: Facts = HOUSING) -> str:
    return world.refer(facts, number=number, urgency="routine")


def test_what_comes_once_a_window_is_full_is_decided_on_its_arrival(
    gathering: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MOST_GATHERED", 2)
    first, second, third = (refer(gathering, number) for number in (1, 2, 3))
    assert gathering.state.window == [first, second]
    assert made(gathering).keys() == {third}


def made(world: World) -> dict[str, str]:
    return {event.referral: event.service for event in world.events if isinstance(event, OfferMade)}


def test_a_routine_referral_waits_for_its_window(gathering: World) -> None:
    first, second = refer(gathering, 1), refer(gathering, 2)
    queued = [event for event in gathering.events if isinstance(event, ReferralQueued)]
    assert [event.referral for event in queued] == [first, second]
    assert queued[0].until == queued[1].until == gathering.now - 1 + 10 * MINUTE
    assert made(gathering) == {}


def test_more_are_served_together_than_in_the_order_they_came(gathering: World) -> None:
    first, second = refer(gathering, 1), refer(gathering, 2, OLD)
    [closed, *follows] = gathering.tick(gathering.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert kinds(follows) == ["ReferralCalled", "MatchDecided", "OfferMade"] * 2
    assert made(gathering) == {first: service_of("young"), second: service_of("any")}


def test_who_is_left_without_a_place_is_closed_with_a_certificate(gathering: World) -> None:
    numbers = [refer(gathering, number, OLD) for number in (1, 2, 3)]
    events = gathering.tick(gathering.now + 10 * MINUTE)
    assert [event.service for event in events if isinstance(event, OfferMade)] == [service_of("any")]
    ended = [event for event in events if isinstance(event, ReferralClosed)]
    assert [event.reason for event in ended] == ["no_match", "no_match"]
    assert {event.referral for event in ended} < set(numbers)


def certificates(world: World) -> dict[str, MatchDecided]:
    return {event.referral: event for event in world.events if isinstance(event, MatchDecided)}


def test_the_certificate_of_who_was_assigned_judges_all_services(gathering: World) -> None:
    gathering.publish(offers("third", "pantry", ages={"minimum": 95}))
    first, second = refer(gathering, 1), refer(gathering, 2, OLD)
    gathering.tick(gathering.now + 10 * MINUTE)
    decided = certificates(gathering)[first]
    shown = decided.certificate
    assert (shown.considered, shown.in_window, decided.service) == (3, True, service_of("young"))
    assert [(one.criterion, one.services) for one in shown.eliminated] == [("age", 1)]
    assert {one.service for one in shown.best} == {service_of("young"), service_of("any")}
    assert [one.service for one in shown.misses] == [service_of("third")]
    assert certificates(gathering)[second].certificate.in_window


@pytest.mark.parametrize("best", [1, 2, 20])
def test_the_certificate_shows_what_was_assigned_last_where_it_is_not_among_the_best(
    world: World, best: int
) -> None:
    world.send(policy(GATHERING.model_copy(update={"best": best, "rank_by": ["load"]})), OPERATIONS)
    locals_ = [f"s{number:02}" for number in range(25)]
    world.publish(*(offers(local, total=100, available=100 - n) for n, local in enumerate(locals_)))
    name = refer(world, 1)
    given = service_of(locals_[-1])
    events = call(
        world.state, Call(name, given), world.now, world.open(wanted_for(world.state, Call(name, given)))
    )
    assert not any(event.certificate.in_window for event in events if isinstance(event, MatchDecided))
    world.state.assigned[name] = given
    _, decided, offered = call(
        world.state, Call(name, given), world.now, world.open(wanted_for(world.state, Call(name, given)))
    )
    assert isinstance(decided, MatchDecided) and isinstance(offered, OfferMade)
    assert decided.service == offered.service == given
    shown = [one.service for one in decided.certificate.best]
    assert shown == [*map(service_of, locals_[: min(best, 19)]), given]


@pytest.mark.parametrize("seed", range(12))
def test_offers_are_made_as_the_window_was_assigned_whatever_the_lots_and_the_order(
    codec: Codec, seed: int
) -> None:
    world = World(codec)
    world.send(policy(GATHERING.model_copy(update={"seed": f"seed number {seed}"})), OPERATIONS)
    world.publish(offers("any"), offers("young", "clinic", ages={"maximum": 40}))
    chance = Random(seed)
    for number in range(1, chance.randint(3, 6)):
        refer(world, number, chance.choice((HOUSING, OLD)))
    [closed, *_] = world.tick(world.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert made(world) == {
        placement.referral: placement.service
        for placement in closed.placements
        if placement.service is not None
    }
    assert not world.state.assigned and not world.state.split_off


def test_a_place_that_comes_free_while_a_window_is_called_goes_to_who_was_left_out(
    gathering: World,
) -> None:
    gathering.follow(parking_ms=20 * MINUTE)
    first, second = refer(gathering, 1, OLD), refer(gathering, 2, OLD)
    # It waits for the offer it declines.
    for referral in (first, second):
        gathering.send(decline(referral), "shelter")
    events = gathering.tick(gathering.now + 10 * MINUTE)
    assert [event.service for event in offers_in(events)] == [service_of("any")] * 2
    assert {event.referral for event in offers_in(events)} == {first, second}


def test_who_is_assigned_a_place_that_is_gone_when_called_is_matched_with_what_there_is(
    gathering: World,
) -> None:
    first = refer(gathering, 1)
    gathering.state.assigned[first] = service_of("young")
    gathering.publish(offers("young", "clinic", ages={"maximum": 20}))
    [_, matched, offer] = call(
        gathering.state,
        Call(first, service_of("young")),
        gathering.now,
        gathering.open(wanted_for(gathering.state, Call(first, None))),
    )
    assert isinstance(matched, MatchDecided) and isinstance(offer, OfferMade)
    assert matched.service == offer.service == service_of("any")


def test_who_becomes_urgent_leaves_the_window_and_is_matched_at_once(gathering: World) -> None:
    first, second = refer(gathering, 1), refer(gathering, 2)
    events = gathering.send(AmendReferral(referral=first, urgency="crisis"), "police")
    assert kinds(events) == ["ReferralAmended", "MatchDecided", "OfferMade"]
    assert gathering.state.window == [second]
    gathering.send(accept(first), gathering.task(first).provider)
    [closed, *_] = gathering.tick(gathering.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert [placement.referral for placement in closed.placements] == [second]
    assert picture(gathering.folded().state) == picture(gathering.state)


def test_who_becomes_urgent_is_matched_as_far_as_the_urgent_are_sent(world: World) -> None:
    reach = [ReachLimit(urgency="crisis", travel="walk", metres=1000)]
    world.send(policy(GATHERING.model_copy(update={"reach": reach})), OPERATIONS)
    far = offers("far", places=[{"latitude": 41_000_000, "longitude": -87_000_000}])
    near = offers("near", "clinic", places=[{"latitude": 40_000_000, "longitude": -87_000_000}], total=10)
    world.publish(far, near)
    world.send(report("near", 10, 1, world.now), "clinic")
    here = PlaceFact(status="stated", latitude=40_000_000, longitude=-87_000_000)
    walks = HOUSING.model_copy(update={"place": here, "travel": TextFact(status="stated", value="walk")})
    first = refer(world, 1, walks)
    world.send(AmendReferral(referral=first, urgency="crisis"), "police")
    assert made(world) == {first: service_of("near")}


def test_corrected_facts_count_when_the_window_closes(gathering: World) -> None:
    first = refer(gathering, 1, HOUSING.model_copy(update={"needs": [Need(code="food")]}))
    sealed = gathering.seal(OLD, subject_of(1))
    assert kinds(gathering.send(AmendReferral(referral=first, sealed_facts=sealed), "police")) == [
        "ReferralAmended"
    ]
    gathering.tick(gathering.now + 10 * MINUTE)
    assert made(gathering) == {first: service_of("any")}


def test_crisis_and_urgent_are_decided_on_arrival(gathering: World) -> None:
    assert isinstance(gathering.send(gathering.submission(), "police")[-1], OfferMade)


def test_who_is_withdrawn_or_held_is_not_in_the_window_any_more(gathering: World) -> None:
    first, second, third = (refer(gathering, number) for number in (1, 2, 3))
    gathering.send(withdraw(first), "police")
    gathering.send(HoldReferral(referral=second, reason="other"), "police")
    [closed, *_] = gathering.tick(gathering.now + 10 * MINUTE)
    assert isinstance(closed, WindowClosed)
    assert [placement.referral for placement in closed.placements] == [third]


def test_a_window_that_everybody_left_closes_without_a_word(gathering: World) -> None:
    gathering.send(withdraw(refer(gathering, 1)), "police")
    assert gathering.tick(gathering.now + 10 * MINUTE) == []


def test_a_person_who_was_forgotten_meanwhile_gets_no_service(gathering: World) -> None:
    first = refer(gathering, 1)
    gathering.send(forget(subject_of(1)), OPERATIONS)
    events = gathering.tick(gathering.now + 10 * MINUTE)
    assert events[-1] == ReferralClosed(referral=first, status="revoked", reason="facts_unavailable")


def test_the_next_window_begins_with_the_next_referral(gathering: World) -> None:
    refer(gathering, 1)
    gathering.tick(gathering.now + 10 * MINUTE)
    gathering.now += 60 * MINUTE
    refer(gathering, 2)
    queued = gathering.events[-1]
    assert isinstance(queued, ReferralQueued)
    assert queued.until == gathering.now + 10 * MINUTE


def test_decided_again_it_is_the_same_and_folded_too(gathering: World) -> None:
    for number in (1, 2, 3, 4):
        refer(gathering, number, OLD if number % 2 else HOUSING)
    assert picture(gathering.folded().state) == picture(gathering.state)
    gathering.tick(gathering.now + 10 * MINUTE)
    assert picture(gathering.folded().state) == picture(gathering.state)
    assert gathering.again() == [value for _, value in gathering.entries]
    assert of() in gathering.state.referrals or of() in gathering.state.closed
