"""A repeat is recognised by source, id and digest for ninety days, and answered with the first answer's place."""

from __future__ import annotations

import pytest

from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.ledger import SubmissionParked, SubmissionRefused, SubmissionRepeated
from services.matching.core.state import HORIZON_MS
from tests.support.deciding import (
    DAY,
    MINUTE,
    OPERATIONS,
    PROTOCOL,
    REGION,
    World,
    accept,
    forget,
    kinds,
    of,
    offers,
    publish,
    refused,
    report,
    subject_of,
    withdraw,
)


def test_a_repeat_is_answered_with_the_place_of_the_first_answer(world: World) -> None:
    world.publish(offers("beds", total=2))
    body = world.submission()
    world.send(body, "police", id="s-1")
    first = next(entry.meta.sequence for entry, _ in world.entries if entry.event == world.events[-3])
    assert world.send(body, "police", id="s-1") == [SubmissionRepeated(first=first)]
    assert world.send(body, "police", id="s-1") == [SubmissionRepeated(first=first)]
    assert world.state.units["un-north-beds"].held == 1


def test_the_same_id_with_another_body_is_refused_and_the_first_answer_stays(world: World) -> None:
    body, other = world.submission(), world.submission(urgency="crisis")
    world.send(body, "police", id="s-1")
    first = world.state.sequence - 2
    assert refused(world.send(other, "police", id="s-1")) == "id_reused"
    assert world.send(body, "police", id="s-1") == [SubmissionRepeated(first=first)]
    assert refused(world.send(other, "police", id="s-1")) == "id_reused"


def test_the_same_id_of_another_source_is_another_submission(world: World) -> None:
    world.publish(offers("beds", total=3))
    world.send(world.submission(agency="police", number=1), "police", id="s-1")
    events = world.send(world.submission(agency="hospital", number=1), "hospital", id="s-1")
    assert kinds(events) == ["ReferralOpened", "MatchDecided", "OfferMade"]


def test_a_repeat_of_a_refused_submission_is_not_decided_anew(world: World) -> None:
    world.publish(offers("beds"))
    early = report("beds", 1, 2, world.now)
    assert refused(world.send(early, "shelter", id="c-1")) == "capacity_above_total"
    assert world.send(early, "shelter", id="c-1") == [SubmissionRepeated(first=world.state.sequence - 1)]


def test_a_repeat_of_a_parked_submission_does_not_wait_again(world: World) -> None:
    body = withdraw(of())
    assert isinstance(world.send(body, "police", id="w-1")[0], SubmissionParked)
    parked = world.state.sequence
    assert world.send(body, "police", id="w-1") == [SubmissionRepeated(first=parked)]
    assert list(world.state.parked) == [parked]
    world.tick(world.now + PROTOCOL.parking_ms)
    assert world.send(body, "police", id="w-1") == [SubmissionRepeated(first=parked)]


def test_a_repeat_of_a_resumed_submission_names_where_it_was_parked(world: World) -> None:
    world.publish(offers("beds"))
    world.send(accept(of()), "shelter", id="a-1")
    parked = world.state.sequence
    world.refer()
    assert world.send(accept(of()), "shelter", id="a-1") == [SubmissionRepeated(first=parked)]


def test_what_operations_repeat_is_recognised_too(world: World) -> None:
    world.send(forget(subject_of(1)), OPERATIONS, id="forget-1")
    assert kinds(world.send(forget(subject_of(1)), OPERATIONS, id="forget-1")) == ["SubmissionRepeated"]


def test_a_tick_is_never_a_repeat(world: World) -> None:
    world.publish(offers("beds", total=2))
    world.refer(number=1, urgency="crisis")
    due = world.state.referrals[of(number=1)].tasks[0].expires_at
    assert kinds(world.tick(due))[0] == "OfferExpired"
    world.refer(number=2, urgency="crisis")
    later = world.state.referrals[of(number=2)].tasks[0].expires_at
    again = world.received(Tick(region=REGION, due=due), "matching", id=f"tick.{REGION}.{due}", at=later)
    assert kinds(world.take(again))[0] == "OfferExpired"


@pytest.mark.parametrize(("after", "answer"), [(0, "SubmissionRepeated"), (1, "SubmissionRefused")])
def test_beyond_the_horizon_a_repeat_is_too_old(world: World, after: int, answer: str) -> None:
    body = withdraw(of())
    world.send(body, "police", id="w-1")
    sent = world.now
    events = world.send(body, "police", id="w-1", sent_at=sent, at=sent + HORIZON_MS + after)
    assert kinds(events) == [answer]
    if after:
        assert refused(events) == "too_old"


@pytest.mark.parametrize("ahead", [1, 10 * MINUTE, -10 * MINUTE])
@pytest.mark.parametrize("after", [-1, 0, 1, 5 * MINUTE, 10 * MINUTE, 11 * MINUTE])
def test_with_any_clock_a_repeat_is_recognised_or_too_old_and_never_decided_twice(
    world: World, ahead: int, after: int
) -> None:
    world.publish(offers("beds", total=9))
    body = publish(offers("beds", total=9))
    sent_at = world.now + 1 + ahead
    world.send(body, "shelter", id="p-1", sent_at=sent_at)
    events = world.send(body, "shelter", id="p-1", sent_at=sent_at, at=world.now + HORIZON_MS + after)
    assert kinds(events) in (["SubmissionRepeated"], ["SubmissionRefused"])
    if isinstance(events[0], SubmissionRefused):
        assert events[0].reason == "too_old"


def test_what_is_sent_older_than_the_horizon_is_refused_unseen(world: World) -> None:
    assert refused(world.send(withdraw(of()), "police", sent_at=world.now - HORIZON_MS)) == "too_old"


def test_letting_go_of_what_is_beyond_the_horizon_changes_no_decision(world: World) -> None:
    world.publish(offers("beds", total=9))
    for number in range(1, 5):
        world.refer(number=number)
        world.send(withdraw(of(number=number)), "police", id=f"w-{number}")
        world.now += 40 * DAY
    kept = world.folded().state
    kept.forget_old()
    assert len(kept.answered) < len(world.state.answered)
    assert len(kept.closed) < len(world.state.closed)
    for number in range(1, 5):
        referral, id = of(number=number), f"w-{number}"
        received = world.received(withdraw(referral), "police", id=id)
        for now in (world.now, kept.now):
            assert kept.first_answer(received.admitted, now) == world.state.first_answer(
                received.admitted, now
            )
            assert kept.was_closed(referral, now) == world.state.was_closed(referral, now)
