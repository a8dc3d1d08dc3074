"""What the ledger means: each event, one after the other, changes the region's state. An event it does not know stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from referral_bus.contracts import ledger
from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.ledger import Entry, Event, Meta, SubmissionRefused, SubmissionRepeated
from services.matching.core.fold import capacity, elsewhere, reference, referrals, reports, submissions, tasks
from services.matching.core.rules import SUPPORTED
from services.matching.core.state import Answered, Region, answer_key

__all__ = ["UnknownEvent", "fold"]


class UnknownEvent(Exception):
    """The ledger holds an event this version of matching does not know. It stops: passing over it would decide from a wrong state."""


def _nothing(_: Region, __: Meta, ___: Event) -> None:
    """The next decision reads nothing of it."""


def _put_off(state: Region, _: Meta, event: ledger.DuePutOff) -> None:
    due = state.settle(event.kind, event.about or "")
    state.expects(due._replace(at=event.until, put_off=event.until - due.should_have))


_FOLDS: Final[dict[type[Event], Callable[[Region, Meta, Any], None]]] = {
    ledger.ReferralOpened: referrals.opened,
    ledger.ReferralAmended: referrals.amended,
    ledger.ReferralHeld: referrals.held,
    ledger.ReferralResumed: referrals.resumed,
    ledger.ReferralWaitlisted: referrals.waitlisted,
    ledger.ReferralQueued: referrals.queued,
    ledger.WindowClosed: referrals.window_closed,
    ledger.ReferralCalled: referrals.called,
    ledger.ReferralTransferred: referrals.transferred,
    ledger.ReferralSplit: referrals.split,
    ledger.ReferralReopened: referrals.reopened,
    ledger.ReferralWithdrawn: tasks.withdrawn,
    ledger.TaskEnteredInError: tasks.never_was,
    ledger.ReferralClosed: referrals.closed,
    ledger.MatchDecided: _nothing,
    ledger.OfferMade: tasks.offered,
    ledger.OfferAcknowledged: tasks.acknowledged,
    ledger.OfferAccepted: tasks.accepted,
    ledger.OfferDeclined: tasks.declined,
    ledger.OfferExpired: tasks.expired,
    ledger.TaskCancelled: tasks.cancelled,
    ledger.InformationAsked: tasks.asked,
    ledger.InformationGiven: tasks.answered,
    ledger.ServiceProposed: tasks.proposed,
    ledger.ServiceStarted: tasks.started,
    ledger.TaskHeld: tasks.held,
    ledger.TaskResumed: tasks.resumed,
    ledger.NoShowReported: reports.missed,
    ledger.ContactReported: reports.contacted,
    ledger.HandoffConfirmed: reports.handed_over,
    ledger.ReportRetracted: reports.retracted,
    ledger.HandoffRetracted: reports.handoff_retracted,
    ledger.AgencyReminded: referrals.agency_reminded,
    ledger.OutcomeReported: tasks.ended,
    ledger.JoinedOutcomeCorrected: referrals.outcome_corrected,
    ledger.FollowUpDue: referrals.follow_up_due,
    ledger.FollowedUp: referrals.followed_up,
    ledger.Reminded: tasks.reminded,
    ledger.Escalated: tasks.escalated,
    ledger.CapacityChanged: capacity.changed,
    ledger.CapacityDoubted: capacity.doubted,
    ledger.CapacityTrusted: capacity.trusted,
    ledger.ServicePublished: capacity.published,
    ledger.SubmissionParked: submissions.parked,
    ledger.SubmissionRefused: submissions.refused,
    ledger.SubmissionResumed: submissions.resumed,
    ledger.SubmissionRepeated: _nothing,
    ledger.DuePutOff: _put_off,
    ledger.ReferenceAdopted: reference.adopted,
    ledger.KeyDestroyed: reference.key_destroyed,
    ledger.CapacityRequested: elsewhere.requested,
    ledger.AcceptanceClaimed: elsewhere.claimed,
    ledger.CapacityReturned: _nothing,
    ledger.CapacityLent: elsewhere.lent,
    ledger.CapacityDenied: elsewhere.denied,
    ledger.CapacityTaken: elsewhere.taken,
    ledger.CapacityFreed: elsewhere.returned,
    ledger.CapacityOffered: elsewhere.offered,
    ledger.ServiceListed: elsewhere.listed,
    ledger.CapacityListed: elsewhere.counted,
}
_TICK: Final = Tick.event_type()


def fold(state: Region, entry: Entry, supported: frozenset[int] = SUPPORTED) -> None:
    """Take the region's next event. Raises UnknownEvent, and UnsupportedRules for rules that are not ``supported``."""
    meta, event = entry.meta, entry.event
    state.sequence = meta.sequence
    state.now = max(state.now, meta.now)
    state.decided_through = meta.decided_through
    if meta.submission is not None:
        # All that the decision before let be called was called.
        state.freed.clear()
        _remember(state, meta, event)
    if isinstance(event, ledger.RulesActivated):
        reference.activated(state, meta, event, supported)
        return
    change = _FOLDS.get(type(event))
    if change is None:
        raise UnknownEvent(
            f"{type(event).__name__} at sequence {meta.sequence} of region {state.region}: upgrade matching"
        )
    try:
        change(state, meta, event)
    except (LookupError, ValueError) as error:
        raise UnknownEvent(
            f"{type(event).__name__} at sequence {meta.sequence} of region {state.region} does not fit what is before it "
            f"({error}): the ledger is damaged"
        ) from error


def _remember(state: Region, meta: Meta, event: Event) -> None:
    """So that a repeat is recognised. A repeat itself, or an id that was used again, is not a first answer; nor is that we failed on it."""
    admitted = meta.submission
    if admitted is None or admitted.type == _TICK or isinstance(event, SubmissionRepeated):
        return
    if isinstance(event, SubmissionRefused) and (
        event.reason == "undecidable" or state.first_answer(admitted, meta.now) is not None
    ):
        return
    key = answer_key(admitted.source, admitted.id)
    # A sender's clock may be ahead: a repeat must be known for as long as its own time does not make it too old.
    at = max(admitted.append_time, admitted.sent_at)
    state.answered[key] = Answered(admitted.digest, meta.sequence, at)
