"""``decide(state, submission, now) -> events``: what a region answers to one submission. Nothing here changes the state; the fold does.

A tick decides the one earliest thing that is due, and the worker repeats it (decision 0002). A submission that came before what it
refers to is parked; once that has come, :func:`resume` decides it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import referral_of, region_of, task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AdoptReference,
    DeclineOffer,
    ForgetSubject,
    PublishService,
    ReportCapacity,
    ReportOutcome,
    ReportServiceStart,
    SubmitReferral,
    Tick,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import (
    Admitted,
    CapacityChanged,
    Event,
    KeyDestroyed,
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    Received,
    ReferenceAdopted,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    RulesActivated,
    ServicePublished,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.vocabulary import CloseReason, ReferralStatus, Urgency
from services.matching.core.match import match
from services.matching.core.rules import SUPPORTED
from services.matching.core.state import HORIZON_MS, DueOffer, Region, Task

FactsGone = Literal["erased", "unreadable"]
"""Why facts can't be opened: the person's key was destroyed, or the section or its key is not what it should be."""

Opened = Facts | FactsGone | None
"""The facts a decision reads (see :func:`wanted_facts`); None where it reads none."""

MOST_PARKED: Final = 10_000
"""Submissions one region keeps waiting at once; what comes beyond is refused at once."""
CLOCK_SKEW_MS: Final = 10 * 60_000
"""How far ahead of the bus a reported time may be."""

_FROM_THE_BUS = (Tick, AdoptReference, ForgetSubject)
"""Put to the region by intake or matching itself, for operations or on somebody's right; no organisation of the region sends them."""


class WantedFacts(NamedTuple):
    """The sealed facts a decision needs, and whose they are."""

    subject: str
    sealed: bytes


def wanted_facts(state: Region, received: Received, now: int) -> WantedFacts | None:
    """Which facts must be opened before this submission can be decided."""
    body = received.body
    match body:
        case SubmitReferral():
            return _unless_erased(state, body.subject, body.sealed_facts)
        case DeclineOffer():
            return _facts_of(state, referral_of(body.task))
        case Tick():
            due = state.next_due()
            return _facts_of(state, due.referral) if isinstance(due, DueOffer) and due.at <= now else None
        case _:
            return None


def decide(
    state: Region, received: Received, now: int, facts: Opened = None, supported: frozenset[int] = SUPPORTED
) -> list[Event]:
    """The events that answer a submission, the first of which carries it. ``now`` is the larger of the region's last and the
    submission's append time; ``supported`` the rules this version of matching knows. A tick with nothing due gives no events."""
    admitted, body = received.admitted, received.body
    if isinstance(body, Tick):
        return _tick(state, now, facts)
    first = state.first_answer(admitted, now)
    if first is not None:
        if first.digest == admitted.digest:
            return [SubmissionRepeated(first=first.sequence)]
        return [SubmissionRefused(reason="id_reused")]
    if admitted.sent_at < now - HORIZON_MS:
        return [SubmissionRefused(reason="too_old")]
    missing = _missing(state, received, now)
    if missing is not None:
        return [_park_or_refuse(state, admitted.source, missing, now)]
    return _answer(state, received, now, facts, supported)


def resume(
    state: Region,
    parked: int,
    received: Received,
    now: int,
    facts: Opened = None,
    supported: frozenset[int] = SUPPORTED,
) -> list[Event]:
    """The events that answer the submission parked at this sequence, now that what it waited for has come."""
    missing = _missing(state, received, now)
    events = (
        [SubmissionRefused(reason=_unknown(received.admitted.source, missing), about=missing)]
        if missing is not None
        else _answer(state, received, now, facts, supported)
    )
    if isinstance(events[0], SubmissionRefused):
        events[0] = events[0].model_copy(update={"parked": parked})
    return [SubmissionResumed(parked=parked), *events]


def _facts_of(state: Region, referral: str) -> WantedFacts | None:
    known = state.referrals.get(referral)
    if known is None or known.sealed_facts is None:
        return None
    return _unless_erased(state, known.subject, known.sealed_facts)


def _unless_erased(state: Region, subject: str, sealed: bytes) -> WantedFacts | None:
    # From the KeyDestroyed on, nothing is decided by these facts, whatever the key store still gives.
    return None if subject in state.erased else WantedFacts(subject, sealed)


def _missing(state: Region, received: Received, now: int) -> str | None:
    """The id of what the submission refers to and the region does not have (yet)."""
    source, body = received.admitted.source, received.body
    if source not in state.organisations and not isinstance(body, _FROM_THE_BUS):
        return source
    match body:
        case WithdrawReferral() | ReportServiceStart() | ReportOutcome():
            known = body.referral in state.referrals or state.was_closed(body.referral, now)
            return None if known else body.referral
        case AcceptOffer() | DeclineOffer():
            known = state.task(body.task) is not None or state.was_closed(referral_of(body.task), now)
            return None if known else body.task
        case ReportCapacity():
            return None if body.unit in state.units else body.unit
        case _:
            return None


def _park_or_refuse(state: Region, source: str, missing: str, now: int) -> Event:
    patience = state.protocol.parking_ms if state.protocol is not None else 0
    if patience and len(state.parked) < MOST_PARKED:
        return SubmissionParked(waiting_for=missing, until=now + patience)
    return SubmissionRefused(reason=_unknown(source, missing), about=missing)


def _unknown(source: str, missing: str) -> str:
    if missing == source:
        # First, since an organisation's id may begin like any other.
        return "unknown_organisation"
    kinds = {"rf-": "unknown_referral", "tk-": "unknown_task", "un-": "unknown_unit"}
    return kinds[missing[:3]]


def _answer(
    state: Region, received: Received, now: int, facts: Opened, supported: frozenset[int]
) -> list[Event]:
    admitted, body = received.admitted, received.body
    match body:
        case SubmitReferral():
            return _submit(state, admitted, body, now, facts)
        case WithdrawReferral():
            return _withdraw(state, admitted, body)
        case AcceptOffer():
            return _accept(state, admitted, body)
        case DeclineOffer():
            return _decline(state, admitted, body, now, facts)
        case ReportServiceStart():
            return _start(state, admitted, body, now)
        case ReportOutcome():
            return _outcome(state, admitted, body)
        case ReportCapacity():
            return _count(state, admitted, body, now)
        case PublishService():
            return _publish(state, admitted, body)
        case AdoptReference():
            return _adopt(state, body, supported)
        case ForgetSubject():
            return [KeyDestroyed(subject=body.subject)]
    raise TypeError(f"{type(body).__name__} is a submission this version of matching does not know")


def _refused(reason: str, about: str) -> list[Event]:
    return [SubmissionRefused(reason=reason, about=about)]


def _submit(state: Region, admitted: Admitted, body: SubmitReferral, now: int, facts: Opened) -> list[Event]:
    if body.region != state.region or region_of(body.referral) != state.region:
        return _refused("region_mismatch", body.referral)
    if state.protocol is None or state.policy is None:
        return _refused("not_adopted", body.referral)
    if body.referral in state.referrals or state.was_closed(body.referral, now):
        return _refused("id_reused", body.referral)
    if body.subject in state.erased or facts == "erased":
        return _refused("subject_erased", body.referral)
    if not isinstance(facts, Facts):
        return _refused("facts_unreadable", body.referral)
    opened = ReferralOpened(
        referral=body.referral,
        subject=body.subject,
        agency=admitted.source,
        urgency=body.urgency,
        purpose=body.purpose,
        protocol=state.protocol.protocol,
        protocol_version=state.protocol.version,
        sealed_facts=body.sealed_facts,
        sealed_identity=body.sealed_identity,
    )
    return [opened, *_offer(state, body.referral, body.urgency, state.protocol, (), now, facts)]


def _offer(
    state: Region,
    referral: str,
    urgency: Urgency,
    protocol: Protocol,
    tasks: tuple[Task, ...],
    now: int,
    facts: Opened,
) -> list[Event]:
    """Offer the referral to the best service it was not offered to yet, or close it."""
    if state.policy is None or not isinstance(facts, Facts):
        return [_closed(referral, "revoked", "facts_unavailable")]
    if len(tasks) >= protocol.maximum_offers:
        return [_closed(referral, "revoked", "offers_exhausted")]
    attempt = len(tasks) + 1
    found = match(state, state.policy, referral, facts, frozenset(task.service for task in tasks), now)
    decided = MatchDecided(
        referral=referral,
        attempt=attempt,
        service=found.profile.service if found.profile is not None else None,
        certificate=found.certificate,
    )
    if found.profile is None or found.unit is None:
        return [decided, _closed(referral, "revoked", "offers_exhausted" if tasks else "no_match")]
    limit = getattr(protocol.offer_limits, urgency)
    made = OfferMade(
        referral=referral,
        task=task_id(referral, attempt),
        service=found.profile.service,
        unit=found.unit.unit,
        provider=found.profile.provider,
        expires_at=now + limit,
    )
    return [decided, made]


def _closed(referral: str, status: ReferralStatus, reason: CloseReason) -> ReferralClosed:
    return ReferralClosed(referral=referral, status=status, reason=reason)


def _withdraw(state: Region, admitted: Admitted, body: WithdrawReferral) -> list[Event]:
    known = state.referrals.get(body.referral)
    if known is None:
        return _refused("referral_closed", body.referral)
    if known.agency != admitted.source:
        return _refused("not_your_referral", body.referral)
    ended = known.offer or known.acceptance
    status: ReferralStatus = "entered-in-error" if body.reason == "entered_in_error" else "revoked"
    return [
        ReferralWithdrawn(
            referral=body.referral,
            reason=body.reason,
            task=task_id(body.referral, len(known.tasks)) if ended is not None else None,
        ),
        _closed(body.referral, status, "withdrawn"),
    ]


def _accept(state: Region, admitted: Admitted, body: AcceptOffer) -> list[Event]:
    found = state.task(body.task)
    if found is None:
        return _refused("referral_closed", body.task)
    referral, _, task = found
    if task.provider != admitted.source:
        return _refused("not_your_offer", body.task)
    if task.state == "expired" or (task.state == "open" and admitted.append_time >= task.expires_at):
        return _refused("offer_expired", body.task)
    if task.state != "open":
        return _refused("offer_not_open", body.task)
    return [OfferAccepted(referral=referral, task=body.task, provider=task.provider)]


def _decline(state: Region, admitted: Admitted, body: DeclineOffer, now: int, facts: Opened) -> list[Event]:
    found = state.task(body.task)
    if found is None:
        return _refused("referral_closed", body.task)
    referral, known, task = found
    if task.provider != admitted.source:
        return _refused("not_your_offer", body.task)
    if task.state != "open":
        return _refused("offer_expired" if task.state == "expired" else "offer_not_open", body.task)
    declined = OfferDeclined(referral=referral, task=body.task, provider=task.provider, reason=body.reason)
    return [declined, *_offer(state, referral, known.urgency, known.protocol, known.tasks, now, facts)]


def _start(state: Region, admitted: Admitted, body: ReportServiceStart, now: int) -> list[Event]:
    known = state.referrals.get(body.referral)
    if known is None:
        return _refused("referral_closed", body.referral)
    task = known.acceptance
    if task is None:
        return _refused("not_accepted", body.referral)
    if task.provider != admitted.source:
        return _refused("not_your_offer", body.referral)
    if known.started:
        return _refused("already_started", body.referral)
    if body.started_at > now + CLOCK_SKEW_MS:
        return _refused("time_in_future", body.referral)
    accepted = task_id(body.referral, len(known.tasks))
    return [ServiceStarted(referral=body.referral, task=accepted, started_at=body.started_at)]


def _outcome(state: Region, admitted: Admitted, body: ReportOutcome) -> list[Event]:
    known = state.referrals.get(body.referral)
    if known is None:
        return _refused("referral_closed", body.referral)
    task = known.acceptance
    if task is None:
        return _refused("not_accepted", body.referral)
    if task.provider != admitted.source:
        return _refused("not_your_offer", body.referral)
    return [
        OutcomeReported(
            referral=body.referral,
            task=task_id(body.referral, len(known.tasks)),
            result=body.result,
            sealed_note=body.sealed_note,
        ),
        _closed(body.referral, "completed", "outcome_reported"),
    ]


def _count(state: Region, admitted: Admitted, body: ReportCapacity, now: int) -> list[Event]:
    unit = state.units[body.unit]
    if state.catalogue.definitions[unit.service].organisation != admitted.source:
        return _refused("not_your_service", body.unit)
    if body.available > body.total:
        return _refused("capacity_above_total", body.unit)
    if body.true_at > now + CLOCK_SKEW_MS:
        return _refused("time_in_future", body.unit)
    if body.true_at < unit.counted_at:
        return _refused("capacity_outdated", body.unit)
    if body.available < unit.held:
        return _refused("capacity_below_held", body.unit)
    return [
        CapacityChanged(
            unit=body.unit,
            service=unit.service,
            total=body.total,
            available=body.available,
            true_at=body.true_at,
        )
    ]


def _publish(state: Region, admitted: Admitted, body: PublishService) -> list[Event]:
    definition = body.definition
    if any(
        region_of(one) != state.region for one in (definition.service, *(u.unit for u in definition.units))
    ):
        return _refused("region_mismatch", definition.service)
    former = state.catalogue.definitions.get(definition.service)
    owners = {definition.organisation} if former is None else {definition.organisation, former.organisation}
    if owners != {admitted.source}:
        return _refused("not_your_service", definition.service)
    for unit in definition.units:
        known = state.units.get(unit.unit)
        if known is not None and known.service != definition.service:
            return _refused("not_your_service", unit.unit)
    return [ServicePublished(definition=definition)]


def _adopt(state: Region, body: AdoptReference, supported: frozenset[int]) -> list[Event]:
    if body.kind == "rules":
        if body.version <= state.rules:
            return _refused("reference_outdated", body.reference)
        if body.version not in supported:
            return _refused("rules_unsupported", body.reference)
        return [RulesActivated(version=body.version)]
    if body.version <= state.versions.get((body.kind, body.reference), 0):
        return _refused("reference_outdated", body.reference)
    return [
        ReferenceAdopted(
            kind=body.kind,
            reference=body.reference,
            version=body.version,
            organisation=body.organisation,
            agreement=body.agreement,
            protocol=body.protocol,
            policy=body.policy,
        )
    ]


def _tick(state: Region, now: int, facts: Opened) -> list[Event]:
    due = state.next_due()
    if due is None or due.at > now:
        return []
    if not isinstance(due, DueOffer):
        parked = state.parked[due.sequence]
        reason = _unknown(parked.admitted.source, parked.waiting_for)
        return [SubmissionRefused(reason=reason, about=parked.waiting_for, parked=due.sequence)]
    known = state.referrals[due.referral]
    task = known.tasks[-1]
    expired = OfferExpired(
        referral=due.referral, task=task_id(due.referral, len(known.tasks)), provider=task.provider
    )
    return [expired, *_offer(state, due.referral, known.urgency, known.protocol, known.tasks, now, facts)]
