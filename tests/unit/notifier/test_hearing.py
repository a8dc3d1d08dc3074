"""Who hears what."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.inbox import AcceptOffer, ReportCapacity, SubmitReferral
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Admitted,
    CapacityChanged,
    Certificate,
    Entry,
    Event,
    KeyDestroyed,
    MatchDecided,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
)
from services.notifier.hearing import Sender, UnheardOf, hearers
from services.notifier.standing import ReferralStanding, after, opened

REFERRAL = referral_id("north", "main", "police", "s-1")
TASK = task_id(REFERRAL, 1)
SECOND = task_id(REFERRAL, 2)
SUBJECT = "sj-" + "a" * 26
SERVICE = "sv-north-beds"
NOW = 1_700_000_000_000

OPENED = ReferralOpened(
    referral=REFERRAL,
    subject=SUBJECT,
    agency="police",
    urgency="urgent",
    purpose="care_coordination",
    protocol="simple",
    protocol_version=1,
    sealed_facts=b"facts",
    sealed_identity=b"identity",
)
OFFER = OfferMade(
    referral=REFERRAL,
    task=TASK,
    service=SERVICE,
    unit="un-north-beds",
    provider="shelter",
    expires_at=NOW + 1,
)


def entry(event: Event, source: str | None = None, type: str = "", sequence: int = 7) -> Entry:
    admitted = None
    if source is not None:
        admitted = Admitted(
            type=type,
            id="sent-1",
            source=source,
            digest=b"",
            sent_at=NOW,
            partition=0,
            offset=3,
            append_time=NOW,
            value=b"x",
        )
    meta = Meta(
        region="north",
        sequence=sequence,
        prev_hash=GENESIS_HASH,
        decided_through=3,
        now=NOW,
        rules=1,
        submission=admitted,
    )
    return Entry(meta, event)


def told(event: Event, standing: ReferralStanding | None, **given: Any) -> list[tuple[str, str]]:
    return [(heard.organisation, heard.role) for heard in hearers(entry(event, **given), standing, None)]


def matched(service: str | None) -> MatchDecided:
    certificate = Certificate(
        policy="plain", policy_version=1, considered=0, eliminated=[], best=[], misses=[], digest=bytes(32)
    )
    return MatchDecided(referral=REFERRAL, attempt=1, service=service, certificate=certificate)


OFFERED = after(opened(OPENED), OFFER)
ACCEPTED = after(OFFERED, OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter"))
BOTH = [("police", "agency"), ("shelter", "provider")]


@pytest.mark.parametrize(
    ("event", "standing", "expected"),
    [
        (OPENED, opened(OPENED), [("police", "agency")]),
        (matched(None), opened(OPENED), [("police", "agency")]),
        (matched(SERVICE), opened(OPENED), []),
        (OFFER, opened(OPENED), BOTH),
        (OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter"), OFFERED, BOTH),
        (
            OfferDeclined(referral=REFERRAL, task=TASK, provider="shelter", reason="no_capacity"),
            OFFERED,
            BOTH,
        ),
        (OfferExpired(referral=REFERRAL, task=TASK, provider="shelter"), OFFERED, BOTH),
        (ReferralWithdrawn(referral=REFERRAL, reason="other", task=TASK), OFFERED, BOTH),
        (ReferralWithdrawn(referral=REFERRAL, reason="other", task=TASK), ACCEPTED, BOTH),
        (ReferralWithdrawn(referral=REFERRAL, reason="other"), opened(OPENED), [("police", "agency")]),
        (ServiceStarted(referral=REFERRAL, task=TASK, started_at=NOW), ACCEPTED, BOTH),
        (OutcomeReported(referral=REFERRAL, task=TASK, result="need_met"), ACCEPTED, BOTH),
        (ReferralClosed(referral=REFERRAL, status="completed", reason="outcome_reported"), ACCEPTED, BOTH),
        (
            ReferralClosed(referral=REFERRAL, status="revoked", reason="offers_exhausted"),
            OFFERED,
            [("police", "agency")],
        ),
        (KeyDestroyed(subject=SUBJECT), None, []),
        (
            CapacityChanged(unit="un-north-beds", service=SERVICE, total=2, available=1, true_at=NOW),
            None,
            [],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_agency_hears_of_its_referral_and_provider_of_its_offer(
    event: Event, standing: ReferralStanding | None, expected: list[tuple[str, str]]
) -> None:
    assert told(event, standing) == expected


def test_a_provider_that_declined_hears_nothing_of_the_next_offer() -> None:
    declined = after(
        OFFERED, OfferDeclined(referral=REFERRAL, task=TASK, provider="shelter", reason="no_capacity")
    )
    second = OfferMade(
        referral=REFERRAL,
        task=SECOND,
        service=SERVICE,
        unit="un-north-beds",
        provider="clinic",
        expires_at=NOW + 2,
    )
    assert told(second, declined) == [("clinic", "provider"), ("police", "agency")]
    offered = after(declined, second)
    assert offered.offers == {SECOND: "clinic"}
    assert told(ReferralWithdrawn(referral=REFERRAL, reason="other", task=SECOND), offered) == [
        ("clinic", "provider"),
        ("police", "agency"),
    ]


def test_an_organisation_on_both_sides_hears_in_both_roles() -> None:
    event = OFFER.model_copy(update={"provider": "police"})
    assert told(event, opened(OPENED)) == [("police", "agency"), ("police", "provider")]


def test_a_refusal_is_heard_by_who_sent_it_and_by_nobody_else() -> None:
    refused = SubmissionRefused(reason="not_your_offer", about=TASK)
    [heard] = hearers(entry(refused, source="clinic", type=AcceptOffer.event_type()), OFFERED, None)
    assert (heard.organisation, heard.role, heard.reason) == ("clinic", "provider", "not_your_offer")
    assert (heard.referral, heard.task, heard.submission) == (REFERRAL, TASK, "sent-1")


@pytest.mark.parametrize(
    ("type", "role"), [(SubmitReferral.event_type(), "agency"), (ReportCapacity.event_type(), "provider")]
)
def test_a_refusal_is_heard_in_the_role_the_submission_was_made_in(type: str, role: str) -> None:
    [heard] = hearers(entry(SubmissionRefused(reason="too_old"), source="both", type=type), None, None)
    assert heard.role == role


def test_a_parked_submission_is_said_to_wait_and_its_late_refusal_reaches_its_sender() -> None:
    parked = SubmissionParked(waiting_for=TASK, until=NOW + 5)
    [waits] = hearers(entry(parked, source="shelter", type=AcceptOffer.event_type()), None, None)
    assert (waits.organisation, waits.expires_at, waits.task) == ("shelter", NOW + 5, TASK)
    late = SubmissionRefused(reason="unknown_task", about=TASK, parked=7)
    [refused] = hearers(entry(late), None, Sender("shelter", "sent-1", "provider"))
    assert (refused.organisation, refused.submission) == ("shelter", "sent-1")


def test_only_the_sender_is_told_which_submission_is_answered() -> None:
    accepted = OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter")
    heard = hearers(entry(accepted, source="shelter", type=AcceptOffer.event_type()), OFFERED, None)
    assert {one.organisation: one.submission for one in heard} == {"police": None, "shelter": "sent-1"}


def test_an_event_of_an_unknown_kind_stops() -> None:
    class Invented(Event):
        pass

    with pytest.raises(UnheardOf, match="Invented"):
        hearers(entry(Invented()), None, None)


def test_a_closed_referral_has_no_open_offers() -> None:
    closed = after(OFFERED, ReferralClosed(referral=REFERRAL, status="revoked", reason="withdrawn"))
    assert closed.offers == {}
