"""What happened to a referral: one row for each of its events, without anything of the person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from referral_bus.contracts.ledger import (
    Entry,
    Event,
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
from services.projections.views.need import Need


def needs(_: Entry) -> Iterator[Need]:
    """Nothing: an event's row follows from the event alone."""
    return iter(())


def changes(entry: Entry, _: Known) -> Iterator[Put]:
    """The event's row, where it is about one referral."""
    event, meta = entry.event, entry.meta
    detail = _detail(event)
    if detail is None:
        return
    yield Put(
        "events",
        {
            "referral": getattr(event, "referral"),  # noqa: B009 - what has a detail is about a referral
            "sequence": meta.sequence,
            "type": type(event).__name__,
            "at": meta.now,
            "task": getattr(event, "task", None),
            "detail": detail,
        },
    )


def _detail(event: Event) -> dict[str, Any] | None:
    match event:
        case ReferralOpened():
            return {
                "agency": event.agency,
                "urgency": event.urgency,
                "purpose": event.purpose,
                "protocol": event.protocol,
                "protocol_version": event.protocol_version,
            }
        case MatchDecided():
            return {"attempt": event.attempt, "service": event.service}
        case OfferMade():
            return {
                "provider": event.provider,
                "service": event.service,
                "unit": event.unit,
                "expires_at": event.expires_at,
            }
        case OfferAccepted() | OfferExpired():
            return {"provider": event.provider}
        case OfferDeclined():
            return {"provider": event.provider, "reason": event.reason}
        case ReferralWithdrawn():
            return {"reason": event.reason}
        case ServiceStarted():
            return {"started_at": event.started_at}
        case OutcomeReported():
            return {"result": event.result}
        case ReferralClosed():
            return {"status": event.status, "reason": event.reason}
        case _:
            return None
