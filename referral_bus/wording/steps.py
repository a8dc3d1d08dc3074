"""Each step of a referral's life in a sentence. What was written with it (questions, answers, notes) is sealed, and not told here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    AgencyReminded,
    CapacityRequested,
    CapacityReturned,
    ContactReported,
    Escalated,
    Event,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    JoinedOutcomeCorrected,
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
)
from referral_bus.contracts.vocabulary import CancelReason, CloseReason, StepName

OUTCOMES: Final = (OutcomeReported, FollowUpDue, FollowedUp, NoShowReported, ReportRetracted)
"""Steps that tell what came of it, or that something did."""

_CLOSED: Final[dict[CloseReason, str]] = {
    "outcome_reported": "the provider reported the outcome",
    "withdrawn": "the agency withdrew it",
    "no_match": "no service could take it",
    "offers_exhausted": "nobody is left to ask",
    "facts_unavailable": "the person's facts can't be opened any more",
    "time_over": "nobody accepted it for as long as its protocol lets it wait",
    "parts_closed": "all its parts are closed",
}
_CANCELLED: Final[dict[CancelReason, str]] = {
    "taken_elsewhere": "another provider accepted first",
    "transferred": "another provider took the person over",
    "held": "the referral is on hold",
    "split": "the referral was split",
    "given_back": "the provider gave the person back",
    "time_over": "the referral waited as long as its protocol lets it",
    "withdrawn": "the agency withdrew the referral",
    "closed": "the referral was closed",
    "no_place": "its region has no place for it",
    "no_answer": "its region did not answer",
}
_STEPS: Final[dict[StepName, str]] = {
    "acknowledge": "acknowledging the offer",
    "accept": "answering the offer",
    "handoff": "confirming the handoff",
    "start": "the start of the service",
    "outcome": "the outcome",
}
_MODES: Final = {
    "match": "",
    "direct": ", at a service its agency names",
    "broadcast": ", to be offered to several at once",
    "waitlist": ", to wait for a place if none is free",
}


def step(event: Event, name: Callable[[str], str], show_outcome: bool) -> str | None:
    """The step an event is; None for what is no step, and where it is not to be shown. ``name`` gives a service's name."""
    if not show_outcome and isinstance(event, OUTCOMES):
        return None
    match event:
        case ReferralOpened():
            part = f", a part of {event.part_of}" if event.part_of else ""
            under = f"under protocol {event.protocol} {event.protocol_version}"
            waits = f" at {name(event.service)}" if event.mode == "waitlist" and event.service else ""
            return f"Opened for {event.agency}: {event.urgency}, {under}{_MODES[event.mode]}{waits}{part}."
        case ReferralAmended():
            changed = f" It is {event.urgency} now." if event.urgency is not None else ""
            return f"The agency corrected the referral.{changed}"
        case ReferralHeld():
            return f"On hold{_until(event.until)}: {_words(event.reason)}."
        case ReferralResumed():
            return "It goes on, in a new round."
        case ReferralQueued():
            return f"It is decided together with others at {time(event.until)}."
        case ReferralWaitlisted():
            return f"On the waiting list of {_count(len(event.services), 'service')}; looked at anew at {time(event.review)} at the latest."
        case ReferralCalled():
            return (
                "It is its turn to be matched."
                if event.service is None
                else f"It is its turn at {name(event.service)}."
            )
        case ReferralTransferred():
            return f"{event.agency} follows it from now on, in the place of {event.former}."
        case ReferralSplit():
            return f"Split into {', '.join(event.parts)}."
        case ReferralReopened():
            return f"Reopened: {_words(event.reason)}."
        case OfferMade():
            takes_over = ", to take the person over" if event.transfer else ""
            return f"Offered to {name(event.service)} ({event.provider}){takes_over}, a place held until {time(event.expires_at)}."
        case CapacityRequested():
            return f"The region of {name(event.service)} ({event.provider}) is asked to hold a place."
        case AcceptanceClaimed():
            return f"{event.provider} accepts; its region is asked for the place."
        case CapacityReturned():
            return "The place in the other region is given back."
        case OfferAcknowledged():
            return f"{event.provider} has seen the offer."
        case OfferAccepted():
            return f"Accepted by {event.provider}{'' if event.starts_at is None else f', to start at {time(event.starts_at)}'}."
        case OfferDeclined():
            return f"Declined by {event.provider}: {_words(event.reason)}{_until(event.until)}."
        case OfferExpired():
            return f"{event.provider} did not answer in time; the place is free again."
        case TaskCancelled():
            because = f" ({_words(event.because)})" if event.because is not None else ""
            return f"Over for {event.provider}: {_CANCELLED[event.reason]}{because}."
        case InformationAsked():
            return f"{event.provider} asked a question."
        case InformationGiven():
            return f"The agency answered the question of {event.provider}."
        case ServiceProposed():
            return f"{event.provider} proposed {name(event.service)}."
        case ReferralWithdrawn():
            serving = (
                ""
                if event.serving is None
                else " The service goes on until its provider says what came of it."
            )
            return f"Withdrawn: {_words(event.reason)}.{serving}"
        case TaskEnteredInError():
            return f"What was offered to {event.provider} never should have been."
        case ServiceStarted():
            return f"The service began at {time(event.started_at)}.{_corrects(event.corrects)}{_late(event.late)}"
        case TaskHeld():
            return f"The service rests{_until(event.until)}: {_words(event.reason)}."
        case TaskResumed():
            return "The service goes on."
        case NoShowReported():
            return f"The person did not come at {time(event.missed_at)}.{_late(event.late)}"
        case ContactReported():
            reached = "reached the person" if event.reached else "did not reach the person"
            return f"The provider tried at {time(event.tried_at)} ({_words(event.channel)}), and {reached}.{_late(event.late)}"
        case HandoffConfirmed():
            done = " Both have: the handoff is done." if event.complete else ""
            how = f"{_words(event.means)}, {time(event.confirmed_at)}"
            return f"{event.by} confirmed the handoff ({how}).{done}{_late(event.late)}"
        case ReportRetracted():
            what = "no-show" if event.report == "no_show" else "contact"
            return (
                f"The provider took back the {what} it reported (event {event.corrects}).{_late(event.late)}"
            )
        case HandoffRetracted():
            return (
                f"{event.by} took back its word on the handoff (event {event.corrects}).{_late(event.late)}"
            )
        case OutcomeReported():
            cause = f", {_words(event.cause)}" if event.cause is not None else ""
            ended = "" if event.ended_at is None else f" The service ended at {time(event.ended_at)}."
            return f"Outcome: {_words(event.result)}{cause}.{ended}{_corrects(event.corrects)}"
        case JoinedOutcomeCorrected():
            if not show_outcome:
                return "What came of its parts was corrected."
            return f"What came of its parts: {_words(event.result)}. This corrects what was said before."
        case FollowUpDue():
            return f"After {event.days} days {event.provider} is asked how it is."
        case FollowedUp():
            return f"After {event.days} days, as {event.by} says: {_words(event.result)}.{_corrects(event.corrects)}"
        case Reminded():
            return f"{event.party} was reminded of {_STEPS[event.step]}, due at {time(event.due)}."
        case AgencyReminded():
            return f"{event.agency} was reminded that nobody has accepted; if nobody does, it is closed at {time(event.due)}."
        case Escalated():
            return (
                f"Overdue since {time(event.due)}: {_STEPS[event.step]}. {event.to or 'Operations'} was told."
            )
        case ReferralClosed():
            if not show_outcome and (event.reason == "outcome_reported" or event.result is not None):
                return "Closed."
            result = f" What came of it: {_words(event.result)}." if event.result is not None else ""
            return f"Closed: {_CLOSED[event.reason]}.{result}"
    return None


def time(millis: int) -> str:
    """A moment (epoch milliseconds), as it is told."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _corrects(sequence: int | None) -> str:
    return "" if sequence is None else " This corrects what was reported before."


def _late(late: bool) -> str:
    return " This was reported after the service was over, and corrects the record." if late else ""


def _until(millis: int | None) -> str:
    return "" if millis is None else f" until {time(millis)}"


def _words(code: str) -> str:
    return code.replace("_", " ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
