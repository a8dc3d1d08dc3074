"""Each attempt to have a referral fulfilled: the provider's inbox.

``status`` is FHIR's Task.status and ``business_status`` the field's word for where the task stands. Both move just as matching's own fold
moves them; a test folds the same ledgers with both. What somebody must do about a task, and by when, is in :mod:`waits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityRequested,
    Entry,
    Event,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    NoShowReported,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ReportRetracted,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.vocabulary import (
    CANCELLED_AS,
    MET,
    SERVING,
    BusinessStatus,
    TaskStatus,
)
from referral_bus.store.rows import Put, Row
from services.projections.known import Known
from services.projections.views.need import Need, the

TAKEN: Final[frozenset[TaskStatus]] = frozenset({"accepted", "in-progress", "on-hold"})
"""The person was accepted and the service is not over."""

_LATER = (
    OfferAcknowledged
    | AcceptanceClaimed
    | OfferAccepted
    | OfferDeclined
    | OfferExpired
    | InformationAsked
    | InformationGiven
    | ServiceProposed
    | TaskCancelled
    | ReferralWithdrawn
    | TaskEnteredInError
    | ServiceStarted
    | TaskHeld
    | TaskResumed
    | NoShowReported
    | HandoffConfirmed
    | ReportRetracted
    | HandoffRetracted
    | OutcomeReported
)
HEARS: Final[frozenset[type[Event]]] = frozenset({OfferMade, CapacityRequested, *get_args(_LATER)})


def needs(entry: Entry) -> Iterator[Need]:
    """The task's row. An offer may be made for a task that waited for another region to hold the place."""
    event = entry.event
    if isinstance(event, _LATER | OfferMade) and event.task is not None:
        yield Need("tasks", "task", event.task)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The task's row as it is after the event."""
    event, now = entry.event, entry.meta.now
    match event:
        case OfferMade() if (reserved := known.row("tasks", event.task)) is not None:
            made = {"business_status": "offered", "expires_at": event.expires_at, "offered_at": now}
            yield Put("tasks", {**reserved, **made})
        case OfferMade() | CapacityRequested():
            offered = isinstance(event, OfferMade)
            yield Put(
                "tasks",
                {
                    "task": event.task,
                    "referral": event.referral,
                    "region": entry.meta.region,
                    "provider": event.provider,
                    "service": event.service,
                    "unit": event.unit,
                    "transfer": event.transfer,
                    "status": "requested",
                    "business_status": "offered" if offered else "reserving",
                    "reason": None,
                    "expires_at": event.expires_at if isinstance(event, OfferMade) else event.until,
                    "offered_at": now,
                    "acknowledged_at": None,
                    "accepted_at": None,
                    "starts_at": None,
                    "handed_over_at": None,
                    "started_at": None,
                    "held_until": None,
                    "missed": 0,
                    "questions": 0,
                    "ended_at": None,
                },
            )
        case _ if isinstance(event, _LATER) and event.task is not None:
            row = the(known, "tasks", event.task)
            yield Put("tasks", {**row, **_change(event, row, now)})


def _change(event: Event, row: Row, now: int) -> dict[str, Any]:
    match event:
        case OfferAcknowledged():
            return {"business_status": "acknowledged", "acknowledged_at": now}
        case InformationAsked():
            asked = {"acknowledged_at": row["acknowledged_at"] or now, "questions": row["questions"] + 1}
            return {"business_status": "screening", **asked}
        case InformationGiven():
            left = row["questions"] - 1
            return {"business_status": "screening" if left else "acknowledged", "questions": left}
        case AcceptanceClaimed():
            return {"business_status": "accepting"}
        case OfferAccepted():
            scheduled = event.starts_at is not None
            said = {"accepted_at": now, "starts_at": event.starts_at}
            return _now("accepted", "scheduled" if scheduled else "accepted") | said
        case OfferDeclined():
            return _ended("rejected", "declined", now, event.reason)
        case OfferExpired():
            return _ended("cancelled", "expired", now)
        case ServiceProposed():
            # Who has accepted keeps the person until the proposed service accepts.
            return _ended("rejected", "proposed-elsewhere", now) if row["status"] == "requested" else {}
        case TaskCancelled():
            return _ended("cancelled", CANCELLED_AS[event.reason], now, event.because or event.reason)
        case ReferralWithdrawn():
            error = event.reason == "entered_in_error"
            return _ended("entered-in-error" if error else "cancelled", "withdrawn", now, event.reason)
        case TaskEnteredInError():
            return _ended("entered-in-error", "withdrawn", row["ended_at"] or now, "entered_in_error")
        case ServiceStarted():
            said = {"started_at": event.started_at}
            return said if event.late or event.corrects is not None else _now("in-progress", "started") | said
        case TaskHeld():
            return _now("on-hold", "on-hold") | {"held_until": event.until}
        case TaskResumed():
            return _now("in-progress", _furthest(row)) | {"held_until": None}
        case NoShowReported():
            return _reported(row, {"missed": row["missed"] + 1})
        case HandoffConfirmed() if event.complete:
            return _reported(row, {"handed_over_at": event.confirmed_at})
        case ReportRetracted() if event.report == "no_show":
            return _reported(row, {"missed": row["missed"] - 1})
        case HandoffRetracted():
            return _reported(row, {"handed_over_at": None})
        case OutcomeReported() if event.corrects is None:
            at = now if event.ended_at is None else event.ended_at
            return (
                _ended("completed", "completed", at)
                if event.result in MET
                else _ended("failed", "failed", at)
            )
        case OutcomeReported() if event.ended_at is not None:
            return {"ended_at": event.ended_at}
        case _:
            return {}


def _reported(row: Row, said: dict[str, Any]) -> dict[str, Any]:
    """Reports come late and out of order: what serves stands where the furthest of them leads, and all else where it stood."""
    serves = row["status"] in ("accepted", "in-progress")
    return said | {"business_status": _furthest({**row, **said})} if serves else said


def _furthest(row: Row) -> BusinessStatus:
    reached: dict[BusinessStatus, bool] = {
        "scheduled": row["starts_at"] is not None,
        "no-show": row["missed"] > 0,
        "handed-over": row["handed_over_at"] is not None,
        "started": row["started_at"] is not None,
    }
    return next((business for business in reversed(SERVING) if reached.get(business)), "accepted")


def _now(status: TaskStatus, business_status: BusinessStatus) -> dict[str, Any]:
    return {"status": status, "business_status": business_status}


def _ended(
    status: TaskStatus, business_status: BusinessStatus, now: int, reason: str | None = None
) -> dict[str, Any]:
    return _now(status, business_status) | {"ended_at": now, "held_until": None, "reason": reason}
