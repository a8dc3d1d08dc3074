"""Each attempt to have a referral fulfilled: the provider's inbox, and the queue of what waits for somebody.

``status`` is FHIR's Task.status and moves only as the protocol's transitions allow; ``business_status`` says it in the bus's own
words. ``waits_for`` names what has to come next (``answer``, ``start``, ``outcome``), ``due_at`` until when, where a limit is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from referral_bus.contracts.ledger import (
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ServiceStarted,
)
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need, the

_LATER = OfferAccepted | OfferDeclined | OfferExpired | ReferralWithdrawn | ServiceStarted | OutcomeReported
_DONE: dict[str, Any] = {"waits_for": None, "waits_since": None, "due_at": None}


def needs(entry: Entry) -> Iterator[Need]:
    """The task's row."""
    event = entry.event
    if isinstance(event, _LATER) and event.task is not None:
        yield Need("tasks", "task", event.task)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The task's row as it is after the event."""
    event, now = entry.event, entry.meta.now
    match event:
        case OfferMade():
            yield Put(
                "tasks",
                {
                    "task": event.task,
                    "referral": event.referral,
                    "region": entry.meta.region,
                    "provider": event.provider,
                    "service": event.service,
                    "unit": event.unit,
                    "status": "requested",
                    "business_status": "offered",
                    "reason": None,
                    "expires_at": event.expires_at,
                    "offered_at": now,
                    "accepted_at": None,
                    "started_at": None,
                    "ended_at": None,
                    "waits_for": "answer",
                    "waits_since": now,
                    "due_at": event.expires_at,
                },
            )
        case _ if isinstance(event, _LATER) and event.task is not None:
            yield Put("tasks", {**the(known, "tasks", event.task), **_change(event, now)})


def _change(event: Event, now: int) -> dict[str, Any]:
    match event:
        case OfferAccepted():
            return {
                "status": "accepted",
                "business_status": "accepted",
                "accepted_at": now,
                "waits_for": "start",
                "waits_since": now,
                "due_at": None,
            }
        case OfferDeclined():
            return {**_ended("rejected", "declined", now), "reason": event.reason}
        case OfferExpired():
            return _ended("cancelled", "expired", now)
        case ReferralWithdrawn():
            return _ended("cancelled", "withdrawn", now)
        case ServiceStarted():
            return {
                "status": "in-progress",
                "business_status": "started",
                "started_at": event.started_at,
                "waits_for": "outcome",
                "waits_since": now,
                "due_at": None,
            }
        case _:
            return _ended("completed", "completed", now)


def _ended(status: str, business_status: str, now: int) -> dict[str, Any]:
    return {"status": status, "business_status": business_status, "ended_at": now, **_DONE}
