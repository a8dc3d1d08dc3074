"""Where each referral stands: the agency's caseload, and the head of a timeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from referral_bus.contracts.ledger import (
    Entry,
    Event,
    KeyDestroyed,
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServiceStarted,
)
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need, the

_LATER = (
    MatchDecided
    | OfferMade
    | OfferAccepted
    | OfferDeclined
    | OfferExpired
    | ReferralWithdrawn
    | ServiceStarted
    | OutcomeReported
    | ReferralClosed
)


def needs(entry: Entry) -> Iterator[Need]:
    """The referral's row; for an erasure those of the person."""
    event = entry.event
    match event:
        case ReferralOpened():
            yield Need("erasures", "subject", event.subject)
        case KeyDestroyed():
            yield Need("referrals", "subject", event.subject)
        case _ if isinstance(event, _LATER):
            yield Need("referrals", "referral", event.referral)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The referral's row as it is after the event."""
    event, meta = entry.event, entry.meta
    match event:
        case ReferralOpened():
            erased = known.row("erasures", meta.region, event.subject) is not None
            yield Put(
                "referrals",
                {
                    "referral": event.referral,
                    "region": meta.region,
                    "subject": None if erased else event.subject,
                    "erased": erased,
                    "agency": event.agency,
                    "urgency": event.urgency,
                    "purpose": event.purpose,
                    "status": "active",
                    "standing": "opened",
                    "reason": None,
                    "outcome": None,
                    "attempts": 0,
                    "task": None,
                    "service": None,
                    "unit": None,
                    "accepted_task": None,
                    "accepted_by": None,
                    "opened_at": meta.now,
                    "changed_at": meta.now,
                    "sequence": meta.sequence,
                },
            )
        case KeyDestroyed():
            for row in known.rows("referrals", "subject", event.subject):
                if row["region"] == meta.region:
                    yield Put("referrals", {**row, "subject": None, "erased": True})
        case _ if isinstance(event, _LATER):
            row = the(known, "referrals", event.referral)
            yield Put(
                "referrals",
                {**row, **_change(event), "changed_at": meta.now, "sequence": meta.sequence},
            )


def _change(event: Event) -> dict[str, Any]:
    match event:
        case MatchDecided():
            return {"attempts": event.attempt}
        case OfferMade():
            return {"standing": "offered", "task": event.task, "service": event.service, "unit": event.unit}
        case OfferAccepted():
            return {"standing": "accepted", "accepted_task": event.task, "accepted_by": event.provider}
        case OfferDeclined() | OfferExpired():
            return {"standing": "opened", "task": None, "service": None, "unit": None}
        case ServiceStarted():
            return {"standing": "started"}
        case OutcomeReported():
            return {"outcome": event.result}
        case ReferralClosed():
            return {"standing": "closed", "status": event.status, "reason": event.reason}
        case _:
            return {}
