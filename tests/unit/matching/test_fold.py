"""The fold of the ledger: it stops at what it does not know, and notices what is missing, moved or changed."""

from __future__ import annotations

import pytest

from referral_bus.contracts.inbox import Submission
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    Meta,
    Received,
    ReferralOpened,
    SubmissionParked,
)
from services.matching.chain import Chain, LedgerDamaged
from services.matching.core.decide import decide
from services.matching.core.fold import UnknownEvent, fold
from services.matching.core.state import Region
from tests.support.deciding import (
    REGION,
    START,
    World,
    decline,
    of,
    offers,
    outcome,
    picture,
    report,
    start,
    subject_of,
    withdraw,
)


class Invented(Event):
    """An event of a later version."""


class Unheard(Submission):
    """A submission of a later version."""


def meta(sequence: int, submission: Admitted | None = None) -> Meta:
    return Meta(
        region=REGION,
        sequence=sequence,
        prev_hash=bytes(32),
        decided_through=0,
        now=START,
        rules=1,
        submission=submission,
    )


def busy(world: World) -> World:
    """A region in which a little of everything has happened."""
    world.publish(offers("beds", total=3), offers("rooms", "clinic", ages=None), offers("law", active=False))
    for number in range(1, 6):
        world.refer(number=number)
    tasks = {number: world.state.referrals[of(number=number)].tasks[0] for number in (1, 2)}
    world.send(decline(of(number=1)), tasks[1].provider)
    world.accepted(number=7)
    world.send(start(of(number=7)), world.state.referrals[of(number=7)].tasks[-1].provider)
    world.send(withdraw(of(number=3)), "police")
    world.send(withdraw(of(number=99)), "police")
    world.send(report("beds", 9, 6, world.now), "shelter")
    world.send(outcome(of(number=2)), "shelter")
    return world


def test_the_fold_of_the_ledger_is_the_state_that_was_lived(world: World) -> None:
    busy(world)
    folded = world.folded()
    assert picture(folded.state) == picture(world.state)
    assert folded.prev_hash == world.chain.prev_hash


def test_the_ledger_decided_again_is_the_same_byte_for_byte(world: World) -> None:
    busy(world)
    assert world.again() == [value for _, value in world.entries]


def test_an_event_of_a_later_version_stops_the_fold(world: World) -> None:
    with pytest.raises(UnknownEvent, match="Invented at sequence 8 of region north: upgrade matching"):
        fold(world.state, Entry(meta(8), Invented()))


def test_a_submission_of_a_later_version_is_not_decided(world: World) -> None:
    known = world.received(withdraw(of()), "police")
    with pytest.raises(TypeError, match="Unheard"):
        decide(world.state, Received(known.admitted, Unheard()), world.now)


def test_a_parking_without_its_submission_is_a_damaged_ledger(world: World) -> None:
    with pytest.raises(UnknownEvent, match="damaged"):
        fold(world.state, Entry(meta(8), SubmissionParked(waiting_for="court", until=START)))


def test_a_referral_under_a_protocol_that_is_not_in_force_is_a_damaged_ledger(world: World) -> None:
    opened = ReferralOpened(
        referral=of(),
        subject=subject_of(1),
        agency="police",
        urgency="urgent",
        purpose="care_coordination",
        protocol="simple",
        protocol_version=2,
        sealed_facts=b"sealed",
    )
    with pytest.raises(UnknownEvent, match="protocol"):
        fold(world.state, Entry(meta(8), opened))


def test_a_missing_event_is_noticed(world: World) -> None:
    chain = Chain(Region(REGION))
    values = [value for _, value in world.entries]
    chain.take(world.codec.decode_entry(values[0]), values[0])
    with pytest.raises(LedgerDamaged, match="sequence 3 follows 1"):
        chain.take(world.codec.decode_entry(values[2]), values[2])


def test_a_changed_event_is_noticed_at_the_next(world: World) -> None:
    chain = Chain(Region(REGION))
    (first, _), (second, value) = world.entries[:2]
    forged = world.codec.encode_entry(
        Entry(first.meta.model_copy(update={"now": first.meta.now + 1}), first.event)
    )
    chain.take(world.codec.decode_entry(forged), forged)
    with pytest.raises(LedgerDamaged, match="before sequence 2 is not the one"):
        chain.take(second, value)


def test_the_first_event_of_each_decision_alone_carries_the_submission(world: World) -> None:
    busy(world)
    offsets = [entry.meta.submission.offset for entry, _ in world.entries if entry.meta.submission]
    assert offsets == sorted(set(offsets))
    through = [entry.meta.decided_through for entry, _ in world.entries]
    assert through == sorted(through)
    assert [entry.meta.sequence for entry, _ in world.entries] == list(range(1, len(world.entries) + 1))


def test_the_regions_clock_never_runs_backwards(world: World) -> None:
    world.refer(number=1)
    ahead = world.now
    world.send(withdraw(of(number=9)), "police", at=ahead - 10_000)
    assert world.state.now == ahead
    assert world.entries[-1][0].meta.now == ahead
