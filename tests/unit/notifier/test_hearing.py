"""Who hears what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AmendReferral,
    AnswerQuestion,
    HoldReferral,
    ReportCapacity,
    ReportOutcome,
    SubmitReferral,
    TransferReferral,
)
from referral_bus.contracts.ledger import (
    EVENTS,
    GENESIS_HASH,
    AcceptanceClaimed,
    Admitted,
    AgencyReminded,
    CapacityChanged,
    CapacityDenied,
    CapacityDoubted,
    CapacityFreed,
    CapacityLent,
    CapacityListed,
    CapacityOffered,
    CapacityRequested,
    CapacityReturned,
    CapacityTaken,
    CapacityTrusted,
    Certificate,
    ContactReported,
    DuePutOff,
    Entry,
    Escalated,
    Event,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    JoinedOutcomeCorrected,
    KeyDestroyed,
    MatchDecided,
    Meta,
    NoShowReported,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferenceAdopted,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralQueued,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
    ReferralWithdrawn,
    Reminded,
    ReportRetracted,
    RoomOf,
    RulesActivated,
    ServiceListed,
    ServiceProposed,
    ServicePublished,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
    WindowClosed,
)
from referral_bus.contracts.vocabulary import CancelReason
from services.notifier.hearing import Roles, Sender, UnheardOf, hearers, needs_roles
from services.notifier.standing import ReferralStanding, after, opened

REFERRAL = referral_id("north", "main", "police", "s-1")
TASK = task_id(REFERRAL, 1)
SECOND = task_id(REFERRAL, 2)
SUBJECT = "sj-" + "a" * 26
SERVICE = "sv-north-beds"
UNIT = "un-north-beds"
OTHER = referral_id("north", "main", "police", "s-2")
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


ACCEPTING = OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter")
OFFERED = after(opened(OPENED), OFFER)
ACCEPTED = after(OFFERED, ACCEPTING)
BROADCAST = after(OFFERED, OFFER.model_copy(update={"task": SECOND, "provider": "clinic"}))
ROLES: Roles = {
    "operations": frozenset({"operations"}),
    "desk": frozenset({"agency", "operations"}),
    "shelter": frozenset({"provider"}),
    "police": frozenset({"agency"}),
}
AGENCY, PROVIDER = ("police", "agency"), ("shelter", "provider")
BOTH = [AGENCY, PROVIDER]


def of(kind: type[Event], **fields: Any) -> Event:
    """An event about the referral, its first task, and whom that is offered to, as far as it has these fields."""
    usual = {"referral": REFERRAL, "task": TASK, "provider": "shelter"}
    return kind(**{name: value for name, value in usual.items() if name in kind.model_fields} | fields)


TABLE: list[tuple[Event, ReferralStanding | None, list[tuple[str, str]], str | None, int | None]] = [
    (OPENED, opened(OPENED), [AGENCY], None, None),
    (of(ReferralAmended, sealed_facts=b"new"), opened(OPENED), [AGENCY], None, None),
    (of(ReferralAmended, sealed_facts=b"new"), BROADCAST, [("clinic", "provider"), *BOTH], None, None),
    (of(ReferralAmended, sealed_identity=b"new"), ACCEPTED, BOTH, None, None),
    (of(ReferralHeld, reason="person_asked", until=NOW), opened(OPENED), [AGENCY], "person_asked", NOW),
    (of(ReferralResumed), opened(OPENED), [AGENCY], None, None),
    (of(ReferralWaitlisted, services=[SERVICE], review=NOW), opened(OPENED), [AGENCY], None, NOW),
    (of(ReferralQueued, until=NOW), opened(OPENED), [AGENCY], None, NOW),
    (of(AgencyReminded, agency="police", percent=80, due=NOW), opened(OPENED), [AGENCY], None, NOW),
    (WindowClosed(placements=[], prices=[]), None, [], None, None),
    (of(ReferralCalled, service=SERVICE), opened(OPENED), [], None, None),
    (of(CapacityRequested, service=SERVICE, unit=UNIT, until=NOW), opened(OPENED), [], None, None),
    (of(TaskCancelled, reason="no_place"), opened(OPENED), [], None, None),
    (of(TaskCancelled, reason="no_answer"), opened(OPENED), [], None, None),
    (of(AcceptanceClaimed, unit=UNIT), OFFERED, BOTH, None, None),
    (of(TaskCancelled, reason="no_place"), OFFERED, BOTH, "no_place", None),
    (of(CapacityReturned, unit=UNIT), OFFERED, [], None, None),
    (of(CapacityLent, unit=UNIT, until=NOW, total=1, room=1), None, [], None, None),
    (of(CapacityDenied, unit=UNIT, reason="no_place", total=1, room=0), None, [], None, None),
    (of(CapacityTaken, unit=UNIT, total=1, room=0), None, [], None, None),
    (of(CapacityFreed, unit=UNIT, because="expired", total=1, room=1), None, [], None, None),
    (
        CapacityOffered(unit=UNIT, total=1, rooms=[RoomOf(region="south", room=1)], true_at=NOW),
        None,
        [],
        None,
        None,
    ),
    (
        CapacityListed(unit=UNIT, service=SERVICE, total=1, room=1, true_at=NOW, home_sequence=1),
        None,
        [],
        None,
        None,
    ),
    (of(ReferralSplit, parts=[REFERRAL, OTHER]), opened(OPENED), [AGENCY], None, None),
    (
        of(ReferralReopened, reason="need_returned", sealed_facts=b"new"),
        ACCEPTED,
        [AGENCY],
        "need_returned",
        None,
    ),
    (matched(None), opened(OPENED), [AGENCY], None, None),
    (matched(SERVICE), opened(OPENED), [], None, None),
    (OFFER, opened(OPENED), BOTH, None, OFFER.expires_at),
    (of(OfferAcknowledged), OFFERED, BOTH, None, None),
    (ACCEPTING, OFFERED, BOTH, None, None),
    (of(OfferDeclined, reason="no_capacity"), OFFERED, BOTH, "no_capacity", None),
    (of(OfferExpired), OFFERED, BOTH, None, None),
    *(
        (of(TaskCancelled, reason=reason), OFFERED, BOTH, reason, None)
        for reason in get_args(CancelReason)
        if reason not in ("given_back", "no_place", "no_answer")
    ),
    (of(InformationAsked, sealed_question=b"q"), OFFERED, BOTH, None, None),
    (of(InformationGiven, sealed_answer=b"a"), OFFERED, BOTH, None, None),
    (of(ServiceProposed, service=SERVICE), OFFERED, BOTH, None, None),
    (of(ReferralWithdrawn, reason="other"), OFFERED, BOTH, "other", None),
    (of(ReferralWithdrawn, reason="other"), ACCEPTED, BOTH, "other", None),
    (of(ReferralWithdrawn, reason="other", task=None, serving=TASK), ACCEPTED, BOTH, "other", None),
    (of(ReferralWithdrawn, reason="other", task=None), opened(OPENED), [AGENCY], "other", None),
    (of(TaskEnteredInError), ACCEPTED, BOTH, None, None),
    (of(TaskEnteredInError), opened(OPENED), BOTH, None, None),
    (of(ServiceStarted, started_at=NOW), ACCEPTED, BOTH, None, None),
    (of(ServiceStarted, started_at=NOW, late=True), ACCEPTED, BOTH, None, None),
    (of(TaskHeld, reason="hospital_stay", until=NOW), ACCEPTED, BOTH, "hospital_stay", NOW),
    (of(TaskResumed), ACCEPTED, BOTH, None, None),
    (of(NoShowReported, missed_at=NOW), ACCEPTED, BOTH, None, None),
    (of(ContactReported, tried_at=NOW, channel="phone", reached=False), ACCEPTED, BOTH, None, None),
    (
        of(HandoffConfirmed, by="police", means="phone", confirmed_at=NOW, complete=False),
        ACCEPTED,
        BOTH,
        "by_agency",
        None,
    ),
    (
        of(HandoffConfirmed, by="shelter", means="phone", confirmed_at=NOW, complete=False),
        ACCEPTED,
        BOTH,
        "by_provider",
        None,
    ),
    (
        of(HandoffConfirmed, by="shelter", means="phone", confirmed_at=NOW, complete=True),
        ACCEPTED,
        BOTH,
        "by_both",
        None,
    ),
    (of(ServiceStarted, started_at=NOW, corrects=9), ACCEPTED, BOTH, "corrected", None),
    (of(ReportRetracted, report="no_show", corrects=9), ACCEPTED, BOTH, "no_show", None),
    (of(ReportRetracted, report="contact", corrects=9, late=True), ACCEPTED, BOTH, "contact", None),
    (of(HandoffRetracted, by="police", corrects=9), ACCEPTED, BOTH, "by_agency", None),
    (of(HandoffRetracted, by="shelter", corrects=9), ACCEPTED, BOTH, "by_provider", None),
    (of(OutcomeReported, result="need_met"), ACCEPTED, BOTH, None, None),
    (of(OutcomeReported, result="not_met", corrects=9), ACCEPTED, BOTH, None, None),
    (
        of(JoinedOutcomeCorrected, part=OTHER, result="not_met", corrects=9),
        opened(OPENED),
        [AGENCY],
        None,
        None,
    ),
    (of(FollowUpDue, days=30), ACCEPTED, BOTH, "after_30_days", None),
    (of(FollowedUp, days=90, by="shelter", result="need_met"), ACCEPTED, BOTH, "after_90_days", None),
    (of(Reminded, step="accept", party="shelter", percent=50, due=NOW), OFFERED, [PROVIDER], "accept", NOW),
    (of(Reminded, step="handoff", party="police", percent=50, due=NOW), ACCEPTED, [AGENCY], "handoff", NOW),
    (
        of(Escalated, step="accept", due=NOW),
        OFFERED,
        [("desk", "operations"), ("operations", "operations"), AGENCY],
        "accept",
        NOW,
    ),
    (of(Escalated, step="start", to="desk", due=NOW), ACCEPTED, [("desk", "operations")], "start", NOW),
    (of(Escalated, step="handoff", to="police", due=NOW), ACCEPTED, [AGENCY], "handoff", NOW),
    (of(Escalated, step="start", to="shelter", due=NOW), ACCEPTED, [PROVIDER], "start", NOW),
    (
        of(ReferralClosed, status="completed", reason="outcome_reported"),
        ACCEPTED,
        BOTH,
        "outcome_reported",
        None,
    ),
    (
        of(ReferralClosed, status="revoked", reason="offers_exhausted"),
        OFFERED,
        [AGENCY],
        "offers_exhausted",
        None,
    ),
    (
        of(ReferralClosed, status="completed", reason="parts_closed"),
        opened(OPENED),
        [AGENCY],
        "parts_closed",
        None,
    ),
    (KeyDestroyed(subject=SUBJECT), None, [], None, None),
    (CapacityChanged(unit=UNIT, service=SERVICE, total=2, available=1, true_at=NOW), None, [], None, None),
    (
        CapacityDoubted(unit=UNIT, service=SERVICE, task=TASK, places=1, until=NOW),
        None,
        [PROVIDER],
        None,
        NOW,
    ),
    (CapacityTrusted(unit=UNIT, service=SERVICE), None, [PROVIDER], None, None),
    (SubmissionResumed(parked=1), None, [], None, None),
    (SubmissionRepeated(first=1), None, [], None, None),
    (DuePutOff(kind="window", due=NOW, until=NOW + 1), None, [], None, None),
    (ReferenceAdopted(kind="policy", reference="p", version=1), None, [], None, None),
    (RulesActivated(version=1), None, [], None, None),
]


@pytest.mark.parametrize(
    ("event", "standing", "expected", "reason", "moment"),
    TABLE,
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_who_hears_of_an_event_and_in_which_words(
    event: Event,
    standing: ReferralStanding | None,
    expected: list[tuple[str, str]],
    reason: str | None,
    moment: int | None,
) -> None:
    heard = hearers(entry(event), standing, None, ROLES, owner="shelter")
    assert [(one.organisation, one.role) for one in heard] == expected
    assert {(one.type, one.reason, one.expires_at) for one in heard} <= {(event.event_type(), reason, moment)}


def test_who_offers_a_unit_hears_which_of_its_units_is_doubted_and_for_which_task() -> None:
    doubted = CapacityDoubted(unit=UNIT, service=SERVICE, task=TASK, places=1, until=NOW)
    [heard] = hearers(entry(doubted), None, None, owner="shelter")
    assert (heard.unit, heard.task, heard.referral) == (UNIT, TASK, None)
    assert hearers(entry(doubted), None, None) == [], "a service that is not known here"


def test_who_served_before_a_reopening_hears_that_its_correction_was_taken() -> None:
    reopened = after(ACCEPTED, of(ReferralReopened, reason="need_returned", sealed_facts=b"sealed"))
    corrected = of(OutcomeReported, result="need_met", corrects=9)
    heard = hearers(entry(corrected, "shelter", ReportOutcome.event_type()), reopened, None)
    assert [(one.organisation, one.role, one.submission) for one in heard] == [
        (*AGENCY, None),
        (*PROVIDER, "sent-1"),
    ]


def test_no_event_of_the_ledger_is_left_out_of_the_table() -> None:
    elsewhere = {ReferralTransferred, SubmissionRefused, SubmissionParked, ServicePublished, ServiceListed}
    assert {type(row[0]) for row in TABLE} | elsewhere == set(EVENTS)


def test_the_reference_says_of_every_event_who_hears_of_it() -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference" / "notices.md"
    rows = [line.split("|") for line in reference.read_text().splitlines() if line.startswith("| `")]
    listed = {
        row[1].strip(" `"): {
            role
            for role, cell in zip(("agency", "provider"), row[2:4], strict=True)
            if not cell.strip().startswith("no")
        }
        for row in rows
    }
    heard = {
        event.__name__: {role for row in TABLE if type(row[0]) is event for _, role in row[2]}
        - {"operations"}
        for event in EVENTS
    }
    answers = {name: {"agency", "provider"} for name in ("SubmissionRefused", "SubmissionParked")}
    assert listed == heard | answers | {"ReferralTransferred": {"agency"}}


def test_a_loser_of_a_broadcast_hears_that_it_is_taken_and_not_by_whom() -> None:
    won = after(BROADCAST, ACCEPTING)
    lost = of(TaskCancelled, task=SECOND, provider="clinic", reason="taken_elsewhere")
    [loser, agency] = hearers(entry(lost), won, None)
    assert (loser.organisation, loser.task, loser.reason) == ("clinic", SECOND, "taken_elsewhere")
    assert agency.organisation == "police"
    assert "shelter" not in repr(loser)
    assert after(won, lost).offers == {} and after(won, lost).accepted_by == "shelter"


def test_each_provider_hears_of_an_amendment_with_its_own_task() -> None:
    heard = hearers(entry(of(ReferralAmended, sealed_facts=b"new")), BROADCAST, None)
    assert {one.organisation: one.task for one in heard} == {
        "clinic": SECOND,
        "police": None,
        "shelter": TASK,
    }


def test_former_and_new_agency_hear_of_a_transfer_and_from_then_on_the_new_one_alone() -> None:
    transfer = ReferralTransferred(referral=REFERRAL, former="police", agency="hospital")
    heard = hearers(entry(transfer, source="police", type=TransferReferral.event_type()), OFFERED, None)
    assert [(one.organisation, one.role, one.reason, one.submission) for one in heard] == [
        ("hospital", "agency", "transferred_here", None),
        ("police", "agency", "transferred_away", "sent-1"),
    ]
    assert told(ACCEPTING, after(OFFERED, transfer)) == [("hospital", "agency"), PROVIDER]


def test_the_agency_hears_why_a_provider_gave_the_person_back_and_the_provider_has_no_more_part() -> None:
    back = of(TaskCancelled, reason="given_back", because="safety_concern")
    agency, provider = hearers(entry(back), ACCEPTED, None)
    assert (agency.reason, provider.reason) == ("safety_concern", "given_back")
    assert after(ACCEPTED, back).accepted_by is None


def test_a_provider_that_proposed_another_service_keeps_the_person_until_that_one_accepts() -> None:
    proposed = of(ServiceProposed, service=SERVICE)
    assert after(OFFERED, proposed).offers == {}
    moving = after(after(ACCEPTED, proposed), OFFER.model_copy(update={"task": SECOND, "provider": "clinic"}))
    assert (moving.accepted_by, moving.offers) == ("shelter", {SECOND: "clinic"})
    moved = after(moving, of(OfferAccepted, task=SECOND, provider="clinic"))
    former = of(TaskCancelled, reason="transferred")
    assert told(former, moved) == BOTH
    assert after(moved, former).accepted_by == "clinic"


def test_who_served_a_referral_before_it_was_reopened_has_no_part_in_it_any_more() -> None:
    reopened = after(ACCEPTED, of(ReferralReopened, reason="need_returned", sealed_facts=b"new"))
    assert (reopened.accepted_by, reopened.accepted_task, reopened.sealed_facts) == (None, None, b"new")


def test_what_is_amended_replaces_what_was_and_the_rest_stays() -> None:
    amended = after(OFFERED, of(ReferralAmended, sealed_facts=b"new"))
    assert (amended.sealed_facts, amended.sealed_identity) == (b"new", b"identity")


@pytest.mark.parametrize(
    ("source", "standing", "role"),
    [
        ("police", ACCEPTED, "agency"),
        ("shelter", ACCEPTED, "provider"),
        ("shelter", None, "provider"),
        ("desk", None, "agency"),
        ("operations", None, "operations"),
        ("nobody", None, "provider"),
    ],
)
def test_what_either_of_two_may_send_is_answered_in_the_role_it_was_sent_in(
    source: str, standing: ReferralStanding | None, role: str
) -> None:
    refused = SubmissionRefused(reason="time_out_of_range", about=REFERRAL)
    sent = entry(refused, source=source, type=HoldReferral.event_type())
    assert needs_roles(sent)
    [heard] = hearers(sent, standing, None, ROLES)
    assert (heard.organisation, heard.role, heard.submission) == (source, role, "sent-1")


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
    ("type", "role"),
    [
        (SubmitReferral.event_type(), "agency"),
        (AmendReferral.event_type(), "agency"),
        (AnswerQuestion.event_type(), "agency"),
        (ReportCapacity.event_type(), "provider"),
    ],
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


@pytest.mark.parametrize("organisation", ["rf-desk", "tk-desk-1", "shelter"])
def test_an_organisation_whose_id_begins_as_a_referrals_is_not_taken_for_one(organisation: str) -> None:
    refused = SubmissionRefused(reason="unknown_organisation", about=organisation)
    [heard] = hearers(entry(refused, source=organisation, type=AcceptOffer.event_type()), None, None)
    assert (heard.organisation, heard.referral, heard.task) == (organisation, None, None)


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


@pytest.mark.parametrize("source", ["relay", "matching"])
def test_nobody_hears_that_something_of_the_bus_itself_was_refused(source: str) -> None:
    refused = SubmissionRefused(reason="no_longer_wanted", about=TASK)
    assert told(refused, OFFERED, source=source, type="org.referralbus.inbox.AnswerCapacity.v1") == []
