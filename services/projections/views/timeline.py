"""What happened to a referral: one row for each of its events, without anything of the person.

A match's certificate stands beside: its verdicts tell of the facts, so who may not see those is not shown it either.

What an event shows is named here, field by field: a field that is added to an event is not shown until somebody decides that it may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    AgencyReminded,
    CapacityRequested,
    CapacityReturned,
    ContactReported,
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
    MatchDecided,
    NoShowReported,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
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
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
    task_of,
)
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need, the

SHOWN: Final[dict[type[Event], tuple[str, ...]]] = {
    ReferralOpened: (
        "agency",
        "urgency",
        "purpose",
        "protocol",
        "protocol_version",
        "mode",
        "service",
        "part_of",
    ),
    ReferralAmended: ("urgency",),
    ReferralHeld: ("reason", "until"),
    ReferralResumed: (),
    ReferralWaitlisted: ("services", "review"),
    ReferralQueued: ("until",),
    ReferralCalled: ("service",),
    ReferralTransferred: ("former", "agency"),
    ReferralSplit: ("parts",),
    ReferralReopened: ("reason",),
    MatchDecided: ("attempt", "service"),
    OfferMade: ("provider", "service", "unit", "expires_at", "transfer"),
    CapacityRequested: ("provider", "service", "unit", "until", "transfer"),
    AcceptanceClaimed: ("provider", "starts_at"),
    CapacityReturned: ("unit",),
    OfferAcknowledged: ("provider",),
    OfferAccepted: ("provider", "starts_at"),
    OfferDeclined: ("provider", "reason", "until"),
    OfferExpired: ("provider",),
    TaskCancelled: ("provider", "reason", "because"),
    InformationAsked: ("provider",),
    InformationGiven: ("provider",),
    ServiceProposed: ("provider", "service"),
    ReferralWithdrawn: ("reason", "serving"),
    TaskEnteredInError: ("provider",),
    ServiceStarted: ("started_at", "late", "corrects"),
    TaskHeld: ("reason", "until"),
    TaskResumed: (),
    NoShowReported: ("missed_at", "late"),
    ContactReported: ("tried_at", "channel", "reached", "late"),
    HandoffConfirmed: ("by", "means", "confirmed_at", "complete", "late"),
    ReportRetracted: ("report", "corrects", "late"),
    HandoffRetracted: ("by", "corrects", "late"),
    OutcomeReported: ("result", "cause", "corrects", "ended_at"),
    JoinedOutcomeCorrected: ("part", "result", "corrects"),
    FollowUpDue: ("days", "provider"),
    FollowedUp: ("days", "by", "result", "corrects"),
    AgencyReminded: ("agency", "percent", "due"),
    Reminded: ("step", "party", "percent", "due"),
    Escalated: ("step", "to", "due"),
    ReferralClosed: ("status", "reason", "result"),
}
"""The fields of each event about a referral that its timeline shows."""

HEARS: Final = frozenset(SHOWN)

_AFTERWARDS = FollowUpDue | FollowedUp


def needs(entry: Entry) -> Iterator[Need]:
    """Whose service a follow-up asks after; any other event's row follows from the event alone."""
    if isinstance(entry.event, _AFTERWARDS):
        yield Need("referrals", "referral", entry.event.referral)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The event's row."""
    event, meta = entry.event, entry.meta
    fields = SHOWN[type(event)]
    referral: str = getattr(event, "referral")  # noqa: B009 - what has an entry above is about a referral
    task: str | None = (
        the(known, "referrals", referral)["accepted_task"]
        if isinstance(event, _AFTERWARDS)
        else task_of(event)
    )
    detail: dict[str, Any] = {field: getattr(event, field) for field in fields}
    if isinstance(event, ReferralAmended):
        detail["facts"] = event.sealed_facts is not None
        detail["identity"] = event.sealed_identity is not None
    corrects = detail.get("late", False) or detail.get("corrects") is not None
    yield Put(
        "events",
        {
            "referral": referral,
            "sequence": meta.sequence,
            "region": meta.region,
            "type": type(event).__name__,
            "at": meta.now,
            "task": task,
            "correction": corrects,
            "detail": detail,
            "certificate": event.certificate.model_dump_json() if isinstance(event, MatchDecided) else None,
        },
    )
