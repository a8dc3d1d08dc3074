"""What is reported of the service a person was accepted for: handoff, contacts, start, outcome, and how it is afterwards.

Reports come late and out of order. One that comes after the referral was closed changes only the record, and says that it does.
"""

from __future__ import annotations

from typing import NamedTuple

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    ConfirmHandoff,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
)
from referral_bus.contracts.ledger import (
    ContactReported,
    Event,
    FollowedUp,
    HandoffConfirmed,
    NoShowReported,
    OutcomeReported,
    ServiceStarted,
)
from services.matching.core.closing import closing
from services.matching.core.decide.answers import CLOCK_SKEW_MS, Asked, refused
from services.matching.core.decide.offering import cancelled
from services.matching.core.state import DAY_MS, Closed, Referral, Task


class _Accepted(NamedTuple):
    known: Referral
    id: str
    task: Task


class _Over(NamedTuple):
    closed: Closed
    task: str


def start(asked: Asked, body: ReportServiceStart) -> list[Event]:
    """The service began."""
    over = _over(asked, body.referral)
    if isinstance(over, list):
        return over
    if over is not None:
        closed, task = over
        if closed.started:
            return refused("already_started", body.referral)
        wrong = _wrong_time(asked, body.started_at, closed.opened_at)
        if wrong is not None:
            return refused(wrong, body.referral)
        return [ServiceStarted(referral=body.referral, task=task, started_at=body.started_at, late=True)]
    found = _accepted(asked, body.referral)
    if isinstance(found, list):
        return found
    if found.known.started:
        return refused("already_started", body.referral)
    wrong = _wrong_time(asked, body.started_at, found.known.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [ServiceStarted(referral=body.referral, task=found.id, started_at=body.started_at)]


def no_show(asked: Asked, body: ReportNoShow) -> list[Event]:
    """The person did not come."""
    found = _accepted(asked, body.referral)
    if isinstance(found, list):
        return found
    wrong = _wrong_time(asked, body.missed_at, found.known.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [NoShowReported(referral=body.referral, task=found.id, missed_at=body.missed_at)]


def contact(asked: Asked, body: ReportContact) -> list[Event]:
    """The provider tried to reach the person."""
    found = _accepted(asked, body.referral)
    if isinstance(found, list):
        return found
    wrong = _wrong_time(asked, body.tried_at, found.known.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        ContactReported(
            referral=body.referral,
            task=found.id,
            tried_at=body.tried_at,
            channel=body.channel,
            reached=body.reached,
        )
    ]


def confirm_handoff(asked: Asked, body: ConfirmHandoff) -> list[Event]:
    """One of the two says that the person was handed over."""
    state, source = asked.state, asked.admitted.source
    known = state.referrals.get(body.referral)
    if known is None:
        return refused("referral_closed", body.referral)
    number = known.acceptance
    if number is None:
        return refused("not_accepted", body.referral)
    task = known.attempt(number)
    parties = {known.agency, task.provider}
    if source not in parties:
        return refused("not_your_referral", body.referral)
    if known.protocol.step("handoff") is None or source in known.confirmed:
        return refused("no_handoff", body.referral)
    wrong = _wrong_time(asked, body.confirmed_at, known.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        HandoffConfirmed(
            referral=body.referral,
            task=task_id(body.referral, number),
            by=source,
            means=body.means,
            confirmed_at=body.confirmed_at,
            complete=parties <= {*known.confirmed, source},
        )
    ]


def outcome(asked: Asked, body: ReportOutcome) -> list[Event]:
    """What came of it ends the referral; said again after that, it corrects what was said before."""
    over = _over(asked, body.referral)
    if isinstance(over, list):
        return over
    if over is not None:
        return [
            OutcomeReported(
                referral=body.referral,
                task=over.task,
                result=body.result,
                sealed_note=body.sealed_note,
                cause=body.cause,
                corrects=over.closed.outcome_at,
            )
        ]
    found = _accepted(asked, body.referral)
    if isinstance(found, list):
        return found
    reported = OutcomeReported(
        referral=body.referral,
        task=found.id,
        result=body.result,
        sealed_note=body.sealed_note,
        cause=body.cause,
    )
    return [
        reported,
        *cancelled(body.referral, found.known, found.known.offers, "closed"),
        *closing(asked.state, body.referral, found.known, "completed", "outcome_reported", body.result),
    ]


def follow_up(asked: Asked, body: ReportFollowUp) -> list[Event]:
    """How it is some days later."""
    state, source, now = asked.state, asked.admitted.source, asked.now
    if body.referral in state.referrals:
        return refused("not_closed", body.referral)
    closed = state.was_closed(body.referral, now)
    if closed is None or closed.completed is None or body.days in closed.followed:
        return refused("no_follow_up", body.referral)
    if source not in (closed.provider, closed.agency):
        return refused("not_your_referral", body.referral)
    if now < closed.at + body.days * DAY_MS - _EARLY_MS:
        return refused("time_out_of_range", body.referral)
    return [
        FollowedUp(
            referral=body.referral,
            days=body.days,
            by=source,
            result=body.result,
            sealed_note=body.sealed_note,
        )
    ]


_EARLY_MS = 7 * DAY_MS
"""How much before its day a follow-up may be reported."""


def _over(asked: Asked, name: str) -> _Over | list[Event] | None:
    """The task that was accepted and is over, if it was the sender's; the refusal, if it was another's; None where there is none."""
    closed = asked.state.was_closed(name, asked.now)
    if name in asked.state.referrals or closed is None or closed.completed is None:
        return None
    if closed.provider != asked.admitted.source:
        return refused("not_your_offer", name)
    return _Over(closed, task_id(name, closed.completed))


def _accepted(asked: Asked, name: str) -> _Accepted | list[Event]:
    """The task that was accepted, if it is the sender's; else the refusal."""
    known = asked.state.referrals.get(name)
    if known is None:
        return refused("referral_closed", name)
    number = known.acceptance
    if number is None:
        return refused("not_accepted", name)
    task = known.attempt(number)
    if task.provider != asked.admitted.source:
        return refused("not_your_offer", name)
    return _Accepted(known, task_id(name, number), task)


def _wrong_time(asked: Asked, at: int, opened_at: int) -> str | None:
    if at > asked.now + CLOCK_SKEW_MS:
        return "time_in_future"
    return "time_before_opening" if at < opened_at - DAY_MS else None
