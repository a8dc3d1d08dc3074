"""What is reported of an accepted service besides its start and its outcome, and what of that is taken back."""

from __future__ import annotations

from referral_bus.contracts.ledger import (
    ContactReported,
    HandoffConfirmed,
    HandoffRetracted,
    Meta,
    NoShowReported,
    ReportRetracted,
)
from referral_bus.contracts.vocabulary import BusinessStatus, ReportKind
from services.matching.core.fold.tasks import awaits_handoff, further, located, put_served, served_of
from services.matching.core.referral import Referral, Report
from services.matching.core.state import Region


def missed(state: Region, meta: Meta, event: NoShowReported) -> None:
    _reported(state, meta, event, "no_show", event.missed_at)
    if not event.late:
        further(state, event.task, "no-show")


def contacted(state: Region, meta: Meta, event: ContactReported) -> None:
    _reported(state, meta, event, "contact", event.tried_at, event.channel)


def handed_over(state: Region, meta: Meta, event: HandoffConfirmed) -> None:
    _reported(state, meta, event, "handoff", event.confirmed_at, by=event.by)
    if event.late:
        served = served_of(state, event.task)
        put_served(state, event.referral, served._replace(confirmed=served.confirmed | {event.by}))
        return
    known = located(state, event.task)[0]
    known.confirmed |= {event.by}
    if event.complete:
        further(state, event.task, "handed-over")


def retracted(state: Region, _: Meta, event: ReportRetracted) -> None:
    _taken_back(state, event)
    if not event.late:
        _stands_by_its_reports(*located(state, event.task))


def handoff_retracted(state: Region, meta: Meta, event: HandoffRetracted) -> None:
    """A handoff that was done is not, and its time begins anew."""
    _taken_back(state, event)
    if event.late:
        served = served_of(state, event.task)
        put_served(state, event.referral, served._replace(confirmed=served.confirmed - {event.by}))
        return
    known, number = located(state, event.task)
    was_done = not known.unconfirmed(number)
    known.confirmed -= {event.by}
    if was_done and known.attempt(number).status != "on-hold":
        awaits_handoff(state, known, event.referral, number, meta.now)
    _stands_by_its_reports(known, number)


def _reported(
    state: Region,
    meta: Meta,
    event: NoShowReported | ContactReported | HandoffConfirmed,
    what: ReportKind,
    at: int,
    channel: str = "",
    by: str | None = None,
) -> None:
    """From now on it can be taken back: ``by`` its provider, if nobody else said it."""
    if event.late:
        served = served_of(state, event.task)
        said = Report(meta.sequence, what, by or served.provider, at, channel)
        put_served(state, event.referral, served._replace(reports=(*served.reports, said)))
        return
    known, number = located(state, event.task)
    said = Report(meta.sequence, what, by or known.attempt(number).provider, at, channel)
    known.reports = (*known.reports, said)


def _taken_back(state: Region, event: ReportRetracted | HandoffRetracted) -> None:
    if event.late:
        served = served_of(state, event.task)
        left = _without(served.reports, event.corrects)
        put_served(state, event.referral, served._replace(reports=left))
        return
    known, _ = located(state, event.task)
    known.reports = _without(known.reports, event.corrects)


def _without(reports: tuple[Report, ...], sequence: int) -> tuple[Report, ...]:
    left = tuple(one for one in reports if one.sequence != sequence)
    if len(left) == len(reports):
        raise LookupError(f"nothing that stands was reported at sequence {sequence}")
    return left


def _stands_by_its_reports(known: Referral, number: int) -> None:
    """So far has the accepted service come by what was not taken back."""
    task = known.attempt(number)
    stood: BusinessStatus = "accepted" if task.starts_at is None else "scheduled"
    if known.started:
        stood = "started"
    elif not known.unconfirmed(number):
        stood = "handed-over"
    elif any(one.what == "no_show" for one in known.reports):
        stood = "no-show"
    business = task.business if task.status == "on-hold" else stood
    known.tasks = known.tasks_with(number, task._replace(stood=stood, business=business))
