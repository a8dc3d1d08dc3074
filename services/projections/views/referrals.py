"""Where each referral stands: the agency's caseload, and the head of a timeline.

``status`` is FHIR's ServiceRequest.status. ``standing`` says it in the bus's words; it follows from what else is in the row, so that no
event needs to know which others may be true at the same time (offers of a broadcast, a transfer while the person is served).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from referral_bus.contracts.ledger import (
    EVENTS,
    CapacityRequested,
    Entry,
    Event,
    JoinedOutcomeCorrected,
    KeyDestroyed,
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
    ReferralWithdrawn,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskHeld,
    TaskResumed,
)
from referral_bus.store.rows import Put, Row
from services.projections.known import Known
from services.projections.views.need import Need, the

_NO_LINE: dict[str, Any] = {"waits_for": None, "review_at": None}
_NO_HOLD: dict[str, Any] = {"hold_reason": None, "held_until": None}
_UNACCEPTED: dict[str, Any] = {"accepted_task": None, "accepted_by": None, "serving": None, "started": False}

HEARS: Final = frozenset(event for event in EVENTS if "referral" in event.model_fields) | {KeyDestroyed}
"""Any event that names a referral changes at least when its row was changed last."""


def needs(entry: Entry) -> Iterator[Need]:
    """The referral's row; for one that is opened its protocol's; for an erasure those of the person."""
    event = entry.event
    match event:
        case ReferralOpened():
            yield Need("erasures", "subject", event.subject)
            yield Need("protocols", "protocol", event.protocol)
        case KeyDestroyed():
            yield Need("referrals", "subject", event.subject)
        case _:
            yield Need("referrals", "referral", _about(event))


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The referral's row as it is after the event."""
    event, meta = entry.event, entry.meta
    match event:
        case ReferralOpened():
            yield Put("referrals", _opened(entry, event, known))
        case KeyDestroyed():
            for row in known.rows("referrals", "subject", event.subject):
                if row["region"] == meta.region:
                    yield Put("referrals", {**row, "subject": None, "erased": True})
        case _:
            former = the(known, "referrals", _about(event))
            changed = _change(event, former, meta.sequence, meta.now)
            row = {**former, **changed, "changed_at": meta.now, "sequence": meta.sequence}
            row["standing"] = _standing(row)
            yield Put("referrals", row)


def _about(event: Event) -> str:
    """The referral an event is about."""
    return cast("str", getattr(event, "referral"))  # noqa: B009 - any event heard here but one names a referral


def _opened(entry: Entry, event: ReferralOpened, known: Known) -> Row:
    meta = entry.meta
    erased = known.row("erasures", meta.region, event.subject) is not None
    protocol = known.row("protocols", meta.region, event.protocol, event.protocol_version)
    return {
        "referral": event.referral,
        "region": meta.region,
        "subject": None if erased else event.subject,
        "erased": erased,
        "agency": event.agency,
        "urgency": event.urgency,
        "purpose": event.purpose,
        "protocol": event.protocol,
        "protocol_version": event.protocol_version,
        "limits": {} if protocol is None else protocol["limits"],
        "mode": event.mode,
        "part_of": event.part_of,
        "parts": None,
        "status": "active",
        "standing": "opened",
        "reason": None,
        "outcome": None,
        "outcome_at": None,
        "corrected": False,
        "attempts": 0,
        "offers": [],
        "task": None,
        "service": None,
        **_UNACCEPTED,
        **_NO_HOLD,
        **_NO_LINE,
        "opened_at": meta.now,
        "reopened_at": None,
        "changed_at": meta.now,
        "sequence": meta.sequence,
    }


def _change(event: Event, row: Row, sequence: int, now: int) -> dict[str, Any]:
    match event:
        case ReferralAmended():
            return {"urgency": event.urgency or row["urgency"], **_NO_LINE}
        case ReferralHeld():
            return {
                "status": "on-hold",
                "hold_reason": event.reason,
                "held_until": event.until,
                **_NO_LINE,
            }
        case ReferralResumed():
            return {"status": "active", **_NO_HOLD}
        case ReferralWaitlisted():
            return {"waits_for": event.services, "review_at": event.review}
        case ReferralCalled():
            return _NO_LINE
        case ReferralTransferred():
            return {"agency": event.agency}
        case ReferralSplit():
            return {"status": "active", "parts": event.parts, **_NO_HOLD, **_NO_LINE}
        case ReferralReopened():
            return {
                "status": "active",
                # The service its agency named is not asked before all others again.
                "mode": "match" if row["mode"] == "direct" else row["mode"],
                "reason": None,
                "outcome": None,
                "outcome_at": None,
                "corrected": False,
                "offers": [],
                "task": None,
                "service": None,
                "parts": None,
                "reopened_at": now,
                **_UNACCEPTED,
            }
        case MatchDecided():
            return {"attempts": event.attempt}
        case CapacityRequested() | OfferMade():
            # An offer whose place another region holds was listed when that was asked for it.
            offers = [*_without(row, event.task), [event.task, event.service, isinstance(event, OfferMade)]]
            return {"offers": offers} | _at_hand(row["accepted_task"], offers)
        case OfferAccepted():
            offers = _without(row, event.task)
            return {
                **_UNACCEPTED,
                "accepted_task": event.task,
                "accepted_by": event.provider,
                "serving": "accepted",
                "offers": offers,
                "task": event.task,
                "service": _service(row, event.task),
            }
        case TaskCancelled() if event.task == row["accepted_task"]:
            # Who had accepted a referral that is withdrawn sees how it ended; who gave it back has no part in it any more.
            if event.reason == "withdrawn":
                return {"serving": None}
            return _UNACCEPTED | _at_hand(None, row["offers"])
        case OfferDeclined() | OfferExpired() | ServiceProposed() | TaskCancelled():
            offers = _without(row, event.task)
            return {"offers": offers} | _at_hand(row["accepted_task"], offers)
        case ServiceStarted() if not event.late and event.corrects is None:
            return {"serving": "started", "started": True}
        case TaskHeld():
            return {"serving": "on-hold"}
        case TaskResumed():
            return {"serving": "started" if row["started"] else "accepted"}
        case OutcomeReported() if event.corrects is not None and event.corrects != row["outcome_at"]:
            # It corrects what came of it before it was reopened.
            return {}
        case OutcomeReported():
            corrected = row["corrected"] or event.corrects is not None
            return {"outcome": event.result, "outcome_at": sequence, "corrected": corrected}
        case JoinedOutcomeCorrected():
            return {"outcome": event.result, "corrected": True}
        case ReferralWithdrawn() if row["reason"] is not None:
            # It is closed, and was entered in error: nothing came of what never should have been.
            never = {"outcome": None, "outcome_at": None, "corrected": False}
            return {"status": "entered-in-error", "reason": "withdrawn", **never}
        case ReferralWithdrawn() if event.serving is not None:
            return {"status": "revoked", "offers": []}
        case ReferralWithdrawn():
            return {"offers": [], "serving": None, **_NO_LINE}
        case ReferralClosed():
            return {
                "status": event.status,
                "reason": event.reason,
                "outcome": event.result or row["outcome"],
                "offers": [],
                "serving": None,
                **_NO_HOLD,
                **_NO_LINE,
            }
        case _:
            return {}


def _at_hand(accepted: str | None, offers: list[list[Any]]) -> dict[str, Any]:
    """The attempt that counts for whoever looks at the referral: the accepted one, or the latest that is open."""
    if accepted is not None:
        return {}
    task, service, _ = offers[-1] if offers else (None, None, False)
    return {"task": task, "service": service}


def _without(row: Row, task: str) -> list[list[Any]]:
    return [offer for offer in row["offers"] if offer[0] != task]


def _service(row: Row, task: str) -> Any:
    return next((service for named, service, _ in row["offers"] if named == task), row["service"])


def _standing(row: Row) -> str:
    if row["reason"] is not None:
        return "closed"
    if row["serving"] is not None:
        return str(row["serving"])
    if row["parts"] is not None:
        return "split"
    if row["status"] == "on-hold":
        return "on-hold"
    if any(made for _, _, made in row["offers"]):
        return "offered"
    return "opened" if row["waits_for"] is None else "waitlisted"
