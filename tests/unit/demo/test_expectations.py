from __future__ import annotations

from referral_bus.client.answers import Answer
from referral_bus.client.errors import BusError
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    Meta,
    ReferralClosed,
    ReferralOpened,
    SubmissionParked,
    SubmissionRefused,
)
from referral_bus.demo.expectations import Expectations
from referral_bus.demo.watch import Seen

REFERRAL = "rf-north-aaaaaaaaaaaaaaaaaaaa"
ANSWER = Answer(submission="s-1", region="north", token="north.0.1", referral=REFERRAL)


def admitted(id: str) -> Admitted:
    return Admitted(
        type="x.v1",
        id=id,
        source="line-211",
        digest=b"",
        sent_at=1,
        partition=0,
        offset=1,
        append_time=1,
        value=b"",
    )


def entry(event: Event, submission: str | None = None, sequence: int = 1) -> Entry:
    meta = Meta(
        region="north",
        sequence=sequence,
        prev_hash=bytes(32),
        decided_through=0,
        now=1,
        rules=1,
        submission=admitted(submission) if submission else None,
    )
    return Entry(meta, event)


def opened() -> ReferralOpened:
    return ReferralOpened(
        referral=REFERRAL,
        subject="sj-" + "a" * 26,
        agency="line-211",
        urgency="routine",
        purpose="care_coordination",
        protocol="standard",
        protocol_version=1,
        sealed_facts=b"x",
    )


def test_a_referral_is_settled_once_it_is_closed() -> None:
    expected, seen = Expectations(), Seen()
    expected.opened("line-211", "s-1", ANSWER)
    assert "1 referrals are not decided" in expected.missing(seen)

    seen.take(entry(opened()))
    assert not expected.settled(seen)
    assert "1 referrals are still open" in expected.missing(seen) and REFERRAL in expected.missing(seen)

    seen.take(entry(ReferralClosed(referral=REFERRAL, status="completed", reason="outcome_reported")))
    assert expected.settled(seen) and expected.faults == []


def test_a_good_referral_that_is_refused_is_a_fault() -> None:
    expected = Expectations()
    expected.opened("line-211", "s-1", BusError("no", status=422, code="invalid"))
    assert expected.faults == ["line-211: s-1 is a good referral and was answered: 422 invalid"]


def test_a_repeat_must_be_answered_like_the_first() -> None:
    expected = Expectations()
    expected.repeated("line-211", ANSWER, ANSWER)
    assert expected.faults == []

    expected.repeated("line-211", ANSWER, ANSWER.model_copy(update={"token": "north.0.2"}))
    expected.repeated("line-211", ANSWER, BusError("no", status=409, code="id_reused"))
    assert len(expected.faults) == 2 and expected.repeats == 3


def test_what_is_taken_though_bad_must_be_refused_on_the_ledger_for_its_reason() -> None:
    expected, seen = Expectations(), Seen()
    expected.refused("line-211", "s-2", frozenset({"unknown_referral"}), ANSWER)
    assert not expected.settled(seen)

    seen.take(entry(SubmissionParked(waiting_for=REFERRAL, until=9), "s-2", 4))
    seen.take(entry(SubmissionRefused(reason="unknown_referral", parked=4), None, 5))
    assert expected.settled(seen) and expected.wrong_reasons(seen) == []

    seen.refused["line-211", "s-2"] = "referral_closed"
    assert expected.wrong_reasons(seen) == ["line-211: s-2 was refused for referral_closed"]


def test_what_is_refused_at_once_counts_only_for_its_reason() -> None:
    expected = Expectations()
    reused = frozenset({"id_reused"})
    expected.refused("line-211", "s-3", reused, BusError("no", status=409, code="id_reused"))
    expected.refused("line-211", "s-4", reused, BusError("no", status=500, code="internal"))
    assert expected.refused_at_once == {"id_reused": 1}
    assert len(expected.faults) == 1 and "500 internal" in expected.faults[0]


def test_records_of_an_outbox_that_nobody_can_read_must_be_refused_on_the_feed() -> None:
    expected, seen = Expectations(), Seen()
    expected.unread["not_sealed"] = 1
    assert "1 unreadable records" in expected.missing(seen)

    seen.take_refusal(
        AdmissionRefused(
            organisation="school-district",
            outbox_partition=0,
            outbox_offset=0,
            at=1,
            status=400,
            reason="not_sealed",
            detail="Seal it.",
        )
    )
    assert expected.settled(seen)
