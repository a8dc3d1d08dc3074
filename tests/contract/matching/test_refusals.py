"""Every reason code of the vocabulary is reached by just what it says, and a refusal changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from referral_bus.contracts.inbox import Submission
from referral_bus.contracts.ledger import Event, Received, SubmissionRefused
from referral_bus.contracts.vocabulary import REFUSALS
from referral_bus.wire.codec import Codec
from tests.support.deciding import (
    DAY,
    HOUR,
    MINUTE,
    OPERATIONS,
    PROTOCOL,
    World,
    accept,
    decline,
    forget,
    of,
    offers,
    organisation,
    outcome,
    picture,
    policy,
    protocol,
    publish,
    report,
    rules,
    service_of,
    start,
    subject_of,
    unit_of,
    withdraw,
)

Scenario = Callable[[World], list[Event]]


def offered(world: World, number: int = 1) -> str:
    world.publish(offers("beds", total=3))
    return world.refer(number=number)


def accepted(world: World) -> str:
    world.publish(offers("beds", total=3))
    return world.accepted()


def closed(world: World) -> str:
    referral = accepted(world)
    world.send(outcome(referral), "shelter")
    return referral


def unadopted(world: World) -> World:
    bare = World(world.codec, adopted=False)
    bare.send(organisation("police"), OPERATIONS)
    return bare


def waited_for(world: World, body: Submission, source: str) -> list[Event]:
    """Send what comes too early, and let its time run out."""
    world.send(body, source)
    return world.tick(world.now + PROTOCOL.parking_ms)


def _same_id_other_body(world: World) -> list[Event]:
    world.publish(offers("beds"))
    world.send(report("beds", 1, 1, world.now), "shelter", id="one")
    return world.send(report("beds", 1, 0, world.now), "shelter", id="one")


def _same_referral_id(world: World) -> list[Event]:
    offered(world)
    return world.send(world.submission(), "police", id="another-id")


def _same_referral_id_after_its_end(world: World) -> list[Event]:
    closed(world)
    return world.send(world.submission(), "police", id="another-id")


def _expired_before_the_tick(world: World) -> list[Event]:
    return world.send(accept(offered(world)), "shelter", at=world.now + HOUR)


def _expired_by_the_tick(world: World) -> list[Event]:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    world.tick(world.now + 10 * MINUTE)
    return world.send(accept(referral), "shelter")


def _decline_after_the_tick(world: World) -> list[Event]:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    world.tick(world.now + 10 * MINUTE)
    return world.send(decline(referral), "shelter")


def _started_twice(world: World) -> list[Event]:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    return world.send(start(referral), "shelter")


def _below_held(world: World) -> list[Event]:
    offered(world)
    return world.send(report("beds", 3, 0, world.now), "shelter")


def _above_total(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 3, world.now), "shelter")


def _outdated(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 2, world.now - DAY), "shelter")


def _count_in_future(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 2, world.now + HOUR), "shelter")


def _unreadable(world: World) -> list[Event]:
    body = world.submission()
    world.unreadable.add(body.sealed_facts)
    return world.send(body, "police")


def _key_destroyed(world: World) -> list[Event]:
    world.destroyed[subject_of(1)] = 0
    return world.send(world.submission(), "police")


def _forgotten(world: World) -> list[Event]:
    world.send(forget(subject_of(1)), OPERATIONS)
    return world.send(world.submission(), "police")


def _other_service_of_mine(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("cots", units=list(offers("beds").units))), "shelter")


def _service_of_another(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("beds", "clinic")), "clinic")


def _service_given_away(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("beds", "clinic")), "shelter")


def _units_elsewhere(world: World) -> list[Event]:
    definition = offers("beds").model_copy(update={"service": "sv-south-beds"})
    return world.send(publish(definition), "shelter")


def _referral_for_elsewhere(world: World) -> list[Event]:
    return world.send(world.submission().model_copy(update={"region": "south"}), "police")


def _referral_id_of_elsewhere(world: World) -> list[Event]:
    referral = of().replace("north", "south")
    return world.send(world.submission().model_copy(update={"referral": referral}), "police")


def _no_policy(world: World) -> list[Event]:
    bare = unadopted(world)
    bare.send(protocol(), OPERATIONS)
    return bare.send(bare.submission(), "police")


def _no_protocol(world: World) -> list[Event]:
    bare = unadopted(world)
    bare.send(policy(), OPERATIONS)
    return bare.send(bare.submission(), "police")


def _nothing_waits_without_a_protocol(world: World) -> list[Event]:
    return unadopted(world).send(withdraw(of()), "police")


SCENARIOS: Final[Sequence[tuple[str, str, Scenario]]] = [
    ("id_reused", "same id, other body", _same_id_other_body),
    ("id_reused", "same referral under another id", _same_referral_id),
    ("id_reused", "same referral after its end", _same_referral_id_after_its_end),
    (
        "too_old",
        "sent before the horizon",
        lambda w: w.send(withdraw(of()), "police", sent_at=w.now - 91 * DAY),
    ),
    (
        "unknown_organisation",
        "never adopted",
        lambda w: waited_for(w, offers_of_a_stranger(), "stranger"),
    ),
    (
        "unknown_organisation",
        "an id that begins like a unit's",
        lambda w: waited_for(w, offers_of_a_stranger(), "un-habitat"),
    ),
    ("unknown_referral", "withdrawn, never submitted", lambda w: waited_for(w, withdraw(of()), "police")),
    ("unknown_referral", "started, never submitted", lambda w: waited_for(w, start(of()), "shelter")),
    ("unknown_referral", "ended, never submitted", lambda w: waited_for(w, outcome(of()), "shelter")),
    ("unknown_referral", "nothing waits without a protocol", _nothing_waits_without_a_protocol),
    ("unknown_task", "accepted, never offered", lambda w: waited_for(w, accept(of()), "shelter")),
    (
        "unknown_task",
        "a later attempt than there was",
        lambda w: waited_for(w, decline(offered(w), 2), "shelter"),
    ),
    (
        "unknown_unit",
        "counted, never published",
        lambda w: waited_for(w, report("beds", 1, 1, w.now), "shelter"),
    ),
    ("not_your_referral", "another agency's", lambda w: w.send(withdraw(offered(w)), "hospital")),
    ("not_your_offer", "accepted by another", lambda w: w.send(accept(offered(w)), "clinic")),
    ("not_your_offer", "declined by another", lambda w: w.send(decline(offered(w)), "clinic")),
    ("not_your_offer", "started by another", lambda w: w.send(start(accepted(w)), "clinic")),
    ("not_your_offer", "ended by another", lambda w: w.send(outcome(accepted(w)), "clinic")),
    ("not_your_service", "a unit of another's service", lambda w: _count_of_another(w)),
    ("not_your_service", "a unit of another service", _other_service_of_mine),
    ("not_your_service", "published by another", _service_of_another),
    ("not_your_service", "given to another", _service_given_away),
    (
        "not_your_service",
        "in another's name",
        lambda w: w.send(publish(offers("beds", "clinic")), "shelter"),
    ),
    ("offer_expired", "before the tick", _expired_before_the_tick),
    ("offer_expired", "after the tick", _expired_by_the_tick),
    ("offer_expired", "declined after the tick", _decline_after_the_tick),
    ("offer_not_open", "accepted twice", lambda w: w.send(accept(accepted(w)), "shelter")),
    ("offer_not_open", "declined after acceptance", lambda w: w.send(decline(accepted(w)), "shelter")),
    ("referral_closed", "withdrawn", lambda w: w.send(withdraw(closed(w)), "police")),
    ("referral_closed", "accepted", lambda w: w.send(accept(closed(w)), "shelter")),
    ("referral_closed", "declined", lambda w: w.send(decline(closed(w)), "shelter")),
    ("referral_closed", "started", lambda w: w.send(start(closed(w)), "shelter")),
    ("referral_closed", "ended", lambda w: w.send(outcome(closed(w)), "shelter")),
    ("not_accepted", "started", lambda w: w.send(start(offered(w)), "shelter")),
    ("not_accepted", "ended", lambda w: w.send(outcome(offered(w)), "shelter")),
    ("already_started", "started twice", _started_twice),
    ("capacity_below_held", "fewer than are held", _below_held),
    ("capacity_above_total", "more than there are", _above_total),
    ("capacity_outdated", "counted before the last count", _outdated),
    ("time_in_future", "counted", _count_in_future),
    ("time_in_future", "started", lambda w: w.send(start(accepted(w), w.now + HOUR), "shelter")),
    ("facts_unreadable", "sealed with another key", _unreadable),
    ("subject_erased", "the key store says so", _key_destroyed),
    ("subject_erased", "the ledger says so", _forgotten),
    ("region_mismatch", "a referral for another region", _referral_for_elsewhere),
    ("region_mismatch", "a referral id of another region", _referral_id_of_elsewhere),
    ("region_mismatch", "a service of another region", _units_elsewhere),
    ("not_adopted", "no policy", _no_policy),
    ("not_adopted", "no protocol", _no_protocol),
    ("reference_outdated", "the same version", lambda w: w.send(protocol(), OPERATIONS)),
    ("reference_outdated", "rules in force", lambda w: w.send(rules(1), OPERATIONS)),
    ("rules_unsupported", "rules of a later version", lambda w: w.send(rules(99), OPERATIONS)),
]


EACH: Final = pytest.mark.parametrize(
    ("reason", "scenario"),
    [(reason, scenario) for reason, _, scenario in SCENARIOS],
    ids=[f"{reason}: {name}" for reason, name, _ in SCENARIOS],
)


def offers_of_a_stranger() -> Submission:
    return publish(offers("beds", "stranger"))


def _count_of_another(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 1, 1, world.now), "clinic")


@EACH
def test_each_refusal_gives_its_reason(world: World, reason: str, scenario: Scenario) -> None:
    [event] = scenario(world)
    assert isinstance(event, SubmissionRefused)
    assert event.reason == reason


def test_each_reason_of_the_vocabulary_is_reached(codec: Codec) -> None:
    assert {reason for reason, _, _ in SCENARIOS} == set(REFUSALS)


@EACH
def test_a_refusal_changes_nothing_but_what_was_answered(
    world: World, reason: str, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[tuple[World, dict[str, Any]]] = []
    take = World.take

    def taken(self: World, received: Received) -> list[Event]:
        before.append((self, picture(self.state)))
        return take(self, received)

    monkeypatch.setattr(World, "take", taken)
    [refusal] = scenario(world)
    assert isinstance(refusal, SubmissionRefused)
    decider, left = before[-1]
    came = picture(decider.state)
    waited = () if refusal.parked is None else ("parked", "waiting", "_due")
    for passing in ("now", "sequence", "decided_through", "answered", *waited):
        del left[passing], came[passing]
    assert came == left


@EACH
def test_a_refused_ledger_decides_again_to_the_same_bytes(
    world: World, reason: str, scenario: Scenario
) -> None:
    scenario(world)
    assert world.again() == [value for _, value in world.entries]


def test_a_refusal_names_what_it_is_about_and_never_who(world: World) -> None:
    for _, _, scenario in SCENARIOS:
        fresh = World(world.codec)
        for event in scenario(fresh):
            assert isinstance(event, SubmissionRefused)
            assert event.about is None or not event.about.startswith("sj-")


def test_the_ids_of_unpublished_things_are_what_the_refusal_is_about(world: World) -> None:
    parked = world.state.sequence + 1
    [event] = waited_for(world, report("cots", 1, 1, world.now), "shelter")
    assert event == SubmissionRefused(reason="unknown_unit", about=unit_of("cots"), parked=parked)
    [event] = world.send(publish(offers("beds", "clinic")), "shelter")
    assert event == SubmissionRefused(reason="not_your_service", about=service_of("beds"))
