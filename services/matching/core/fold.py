"""What the ledger means: each event, one after the other, changes the region's state. An event it does not know stops it."""

from __future__ import annotations

from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.ledger import (
    CapacityChanged,
    Entry,
    Event,
    KeyDestroyed,
    MatchDecided,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
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
from services.matching.core.rules import SUPPORTED, UnsupportedRules
from services.matching.core.state import Answered, Parked, Referral, Region, Task, TaskState, Unit, answer_key


class UnknownEvent(Exception):
    """The ledger holds an event this version of matching does not know. It stops: passing over it would decide from a wrong state."""


_TICK = Tick.event_type()


def fold(state: Region, entry: Entry, supported: frozenset[int] = SUPPORTED) -> None:
    """Take the region's next event. Raises UnknownEvent, and UnsupportedRules for rules that are not ``supported``."""
    meta, event = entry.meta, entry.event
    state.sequence = meta.sequence
    state.now = max(state.now, meta.now)
    state.decided_through = meta.decided_through
    if meta.submission is not None:
        _remember(state, meta, event)
    match event:
        case MatchDecided() | SubmissionRepeated():
            return
        case ReferralOpened():
            _opened(state, event)
        case OfferMade():
            _offered(state, event)
        case OfferAccepted():
            unit = _end(state, event.referral, "accepted")
            unit.taken += 1
            state.referrals[event.referral].sealed_facts = None
        case OfferDeclined():
            _end(state, event.referral, "declined")
        case OfferExpired():
            _end(state, event.referral, "expired")
        case ReferralWithdrawn():
            if state.referrals[event.referral].offer is not None:
                _end(state, event.referral, "withdrawn")
        case ServiceStarted():
            state.referrals[event.referral].started = True
        case OutcomeReported():
            return
        case ReferralClosed():
            _closed(state, event, meta.now)
        case CapacityChanged():
            unit = state.units[event.unit]
            unit.total, unit.taken, unit.counted_at = (
                event.total,
                event.total - event.available,
                event.true_at,
            )
        case ServicePublished():
            _published(state, event, meta.now)
        case SubmissionParked():
            _parked(state, meta, event)
        case SubmissionRefused():
            if event.parked is not None:
                _unpark(state, event.parked)
        case SubmissionResumed():
            state.ready.remove(event.parked)
            _unpark(state, event.parked)
        case ReferenceAdopted():
            _adopted(state, event)
        case RulesActivated():
            if event.version not in supported:
                raise UnsupportedRules(
                    f"region {state.region} activated rules {event.version} at sequence {meta.sequence}: upgrade matching first"
                )
            state.rules = event.version
        case KeyDestroyed():
            state.erased.add(event.subject)
        case _:
            raise UnknownEvent(
                f"{type(event).__name__} at sequence {meta.sequence} of region {state.region}: upgrade matching"
            )


def _remember(state: Region, meta: Meta, event: Event) -> None:
    """So that a repeat is recognised. A repeat itself, or an id that was used again, is not a first answer."""
    admitted = meta.submission
    if admitted is None or admitted.type == _TICK or isinstance(event, SubmissionRepeated):
        return
    if isinstance(event, SubmissionRefused) and state.first_answer(admitted, meta.now) is not None:
        return
    key = answer_key(admitted.source, admitted.id)
    # A sender's clock may be ahead: a repeat must be known for as long as its own time does not make it too old.
    at = max(admitted.append_time, admitted.sent_at)
    state.answered[key] = Answered(admitted.digest, meta.sequence, at)


def _opened(state: Region, event: ReferralOpened) -> None:
    protocol = state.protocol
    if protocol is None or (protocol.protocol, protocol.version) != (event.protocol, event.protocol_version):
        raise UnknownEvent(
            f"referral {event.referral} follows a protocol that is not the one in force in region {state.region}: the ledger is damaged"
        )
    state.referrals[event.referral] = Referral(
        agency=event.agency,
        subject=event.subject,
        urgency=event.urgency,
        protocol=protocol,
        sealed_facts=event.sealed_facts,
    )
    _wake(state, event.referral)


def _offered(state: Region, event: OfferMade) -> None:
    referral = state.referrals[event.referral]
    task = Task(event.service, event.unit, event.provider, event.expires_at, "open")
    referral.tasks = (*referral.tasks, task)
    state.units[event.unit].held += 1
    state.expects(event.expires_at, event.referral)
    _wake(state, event.task)


def _end(state: Region, referral: str, how: TaskState) -> Unit:
    """The open offer ends; its place is held no longer."""
    known = state.referrals[referral]
    task = known.tasks[-1]
    known.tasks = (*known.tasks[:-1], task._replace(state=how))
    unit = state.units[task.unit]
    unit.held -= 1
    return unit


def _closed(state: Region, event: ReferralClosed, now: int) -> None:
    known = state.referrals.pop(event.referral)
    if known.acceptance is not None:
        unit = state.units[known.acceptance.unit]
        unit.taken = max(0, unit.taken - 1)
    state.closed[event.referral] = now


def _published(state: Region, event: ServicePublished, now: int) -> None:
    definition = event.definition
    for unit in definition.units:
        if unit.unit not in state.units:
            taken = unit.total - unit.available
            state.units[unit.unit] = Unit(unit.unit, definition.service, unit.total, taken, 0, now)
    state.catalogue.put(definition)
    for name in dict.fromkeys(unit.unit for unit in definition.units):
        _wake(state, name)


def _parked(state: Region, meta: Meta, event: SubmissionParked) -> None:
    if meta.submission is None:
        raise UnknownEvent(
            f"sequence {meta.sequence} of region {state.region} parks nothing: the ledger is damaged"
        )
    state.parked[meta.sequence] = Parked(meta.submission, event.waiting_for, event.until)
    state.waiting.setdefault(event.waiting_for, []).append(meta.sequence)
    state.expects(event.until, meta.sequence)


def _unpark(state: Region, sequence: int) -> None:
    parked = state.parked.pop(sequence, None)
    if parked is None:
        return
    others = state.waiting.get(parked.waiting_for)
    if others is not None:
        others.remove(sequence)
        if not others:
            del state.waiting[parked.waiting_for]


def _wake(state: Region, what: str) -> None:
    state.ready.extend(state.waiting.get(what, ()))


def _adopted(state: Region, event: ReferenceAdopted) -> None:
    state.versions[event.kind, event.reference] = event.version
    if event.organisation is not None:
        state.organisations.add(event.organisation.organisation)
        _wake(state, event.organisation.organisation)
    elif event.protocol is not None:
        state.protocol = event.protocol
    elif event.policy is not None:
        state.policy = event.policy
