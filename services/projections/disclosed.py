"""What of a view's rows a caller is shown, once it may see where the referral stands at all.

An agency sees its referral whole. A provider sees its own attempts and never that others were asked, nor what was before them.
Operations, and whom a step was escalated to, see where things stand and no reasons. What tells how it went with the service (an outcome,
why it rests or was given back, whether the person came) is shown to those who may see the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from referral_bus.access.caller import Caller
from referral_bus.disclosure.steps import Step, told_to_provider
from services.projections.queries import Found
from services.projections.showing import View

_OUTCOME_TOLD: Final = "outcome_reported"
"""The close reason that says that there is an outcome."""
_TELLS: Final = frozenset(
    {
        "OutcomeReported",
        "JoinedOutcomeCorrected",
        "NoShowReported",
        "ContactReported",
        "ReportRetracted",
        "FollowUpDue",
        "FollowedUp",
    }
)
"""Events that are about what came of it: without a right to that they are not there."""
_HINTS: Final[dict[str, tuple[str, ...]]] = {
    "TaskHeld": ("reason",),
    "TaskCancelled": ("because",),
    "ReferralClosed": ("result",),
}
"""Fields of other events that tell it."""
_OF_THE_AGENCY: Final = ("mode", "part_of", "parts", "hold_reason", "held_until", "waits_for", "review_at")


def head(view: View, tasks: Sequence[Found]) -> dict[str, Any]:
    """The head of a referral."""
    row = dict(view.referral)
    if not view.as_agency:
        row |= dict.fromkeys(_OF_THE_AGENCY)
        row["subject"] = None
    if view.as_provider and not view.as_agency:
        last = _stands_with(view, tasks)
        row |= {"attempts": None, "task": last["task"], "service": last["service"], "reopened_at": None}
        if row["accepted_by"] != view.recipient:
            row["accepted_by"] = None
    told = row["outcome"] is not None and view.shows("outcome")
    known = view.as_agency or view.as_provider
    if not told:
        row |= {"outcome": None, "corrected": False}
    if not known or (row["reason"] == _OUTCOME_TOLD and not told):
        row["reason"] = None
    return row


def happened(
    view: View, tasks: Sequence[Found], events: Sequence[Found], caller: Caller
) -> list[dict[str, Any]]:
    """The events as far as the caller may know of them."""
    if not (view.as_agency or view.as_provider):
        return [{**event, "detail": {}} for event in events]
    own = {task["task"] for task in tasks if task["provider"] == caller.organisation}
    seen = events if view.as_agency else _of_provider(events, own)
    told = any(_tells(event) for event in seen) and view.shows("outcome")
    found: list[dict[str, Any]] = []
    for event in seen:
        detail = dict(event["detail"])
        if event["type"] == "ReferralOpened" and not view.as_agency:
            detail |= {"mode": None, "service": None, "part_of": None}
        if not told:
            if event["type"] in _TELLS:
                continue
            detail |= dict.fromkeys(field for field in _HINTS.get(event["type"], ()))
            if event["type"] == "ReferralClosed" and detail["reason"] == _OUTCOME_TOLD:
                detail["reason"] = None
        found.append({**event, "detail": detail})
    return found


def _tells(event: Found) -> bool:
    hints = _HINTS.get(event["type"], ())
    return (
        event["type"] in _TELLS
        or any(event["detail"][field] is not None for field in hints)
        or (event["type"] == "ReferralClosed" and event["detail"]["reason"] == _OUTCOME_TOLD)
    )


def _of_provider(events: Sequence[Found], own: set[str]) -> list[Found]:
    steps = (Step(event["sequence"], event["type"], event["task"]) for event in events)
    told = told_to_provider(steps, own)
    return [event for event in events if event["sequence"] in told]


def is_offered(task: Found) -> bool:
    """Whether the provider has the offer: it hears of one in another region once the place is held there."""
    return bool(task["status"] == "requested" and task["business_status"] != "reserving")


def _stands_with(view: View, tasks: Sequence[Found]) -> Found:
    """The provider's attempt that counts: the one it accepted, or its latest that is open, or its latest."""
    own = [task for task in tasks if task["provider"] == view.recipient]
    accepted = [task for task in own if task["task"] == view.referral["accepted_task"]]
    offered = [task for task in own if is_offered(task)]
    return (accepted or offered or own)[-1]


def task_shown(view: View) -> dict[str, Any]:
    """One attempt; for operations without reasons."""
    row = dict(view.referral)
    if not (view.as_agency or view.as_provider):
        row["reason"] = None
    if row["outcome"] is not None and not view.shows("outcome"):
        row["outcome"] = None
    return row


def wait_shown(view: View, now: int) -> dict[str, Any]:
    """What waits for somebody. Whom it was escalated to is not told for what service."""
    row = dict(view.referral)
    party = row["target"] if row["whose"] == "target" else row[row["whose"]]
    return {
        **row,
        "service": None if view.as_target else row["service"],
        "party": party,
        "waits_since": row["since"],
        "overdue": row["due_at"] is not None and row["due_at"] < now,
    }
