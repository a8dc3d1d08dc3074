"""A ledger of two regions in which something of everything happens that anybody hears of."""

from __future__ import annotations

from collections.abc import Sequence

from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.ledger import Entry
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.vocabulary import Role
from referral_bus.wire.codec import Codec
from services.notifier.fold import Located
from tests.support.deciding import (
    DAY,
    HOUR,
    OPERATIONS,
    REGION,
    World,
    accept,
    ask,
    contact,
    decline,
    forget,
    go_on,
    handoff,
    hold,
    of,
    offers,
    outcome,
    propose,
    reply,
    start,
    subject_of,
    transfer,
    withdraw,
)


def lively_ledger(codec: Codec) -> list[Located]:
    """The events, as they stand one after the other on one partition."""
    north, south = World(codec), World(codec, region="south")
    for world in (north, south):
        world.send(operations(version=1), OPERATIONS)
    _serve(north)
    _change_their_minds(north)
    _say_what_is_refused(north)
    south.follow(silence="escalates", referral_limits={"crisis": DAY, "urgent": DAY, "routine": DAY})
    south.publish(offers("cots", "pantry", region="south"))
    for number in (1, 2):
        south.refer(agency="hospital", number=number)
    for world in (north, south):
        world.tick(world.now + HOUR)
    return located(_in_turn(north.entries, south.entries))


def operations(version: int, *roles: Role) -> AdoptReference:
    content = Organisation(
        organisation=OPERATIONS,
        version=version,
        name="Operations",
        kind="operations",
        roles=list(roles) or ["operations"],
        home_region=REGION,
    )
    return AdoptReference(kind="organisation", reference=OPERATIONS, version=version, organisation=content)


def _serve(north: World) -> None:
    north.publish_in_order("beds", "clinic:rooms")
    served = north.accepted(number=1)
    for said, by in (
        (start(served), "shelter"),
        (contact(served), "shelter"),
        (handoff(served), "shelter"),
        (handoff(served), "police"),
        (outcome(served), "shelter"),
    ):
        north.send(said, by)
    north.send(forget(subject_of(1)), OPERATIONS)


def _change_their_minds(north: World) -> None:
    north.send(decline(north.refer(number=2)), "shelter")
    north.send(hold(of(number=2)), "police")
    north.send(go_on(of(number=2)), "police")
    north.send(ask(north.refer(number=3)), "shelter")
    north.send(reply(of(number=3)), "police")
    north.send(transfer(of(number=3)), "police")
    north.send(propose(north.refer(number=4), "rooms"), "shelter")
    north.send(withdraw(of(number=4)), "police")
    north.send(forget(subject_of(3)), OPERATIONS)


def _say_what_is_refused(north: World) -> None:
    referral = north.refer(number=5)
    north.send(withdraw(referral), "hospital", id="not-its-own")
    north.send(accept(referral), "clinic", id="not-offered-to-it")
    north.send(hold(referral), OPERATIONS, id="no-part-in-it")
    north.send(accept(of(number=88)), "clinic", id="too-early")  # it waits for what never comes


def located(entries: Sequence[Entry]) -> list[Located]:
    """At every second offset: those between are the markers of transactions."""
    return [Located(entry, 0, 2 * place) for place, entry in enumerate(entries)]


def _in_turn(*regions: Sequence[tuple[Entry, bytes]]) -> list[Entry]:
    """Some of the one region, some of the other."""
    left = [[entry for entry, _ in entries] for entries in regions]
    merged: list[Entry] = []
    while any(left):
        for entries in left:
            merged += entries[:3]
            del entries[:3]
    return merged
