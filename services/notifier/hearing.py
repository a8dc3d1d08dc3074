"""Who hears what of an event. Pure: the event, the standing before it, and for a late refusal who was parked.

An agency hears of the referrals it follows, a provider of the offers made to it and of what became of them, whoever must act that it
must, operations (or whom the protocol names) of what was not done in time, and whoever sent something hears that it was decided, refused
or has to wait. The table is in ``docs/reference/notices.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from referral_bus.contracts import inbox
from referral_bus.contracts.ids import OF_THE_BUS, ReferralId, TaskId, referral_of
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    AgencyReminded,
    CapacityChanged,
    CapacityDenied,
    CapacityDoubted,
    CapacityFreed,
    CapacityLent,
    CapacityListed,
    CapacityOffered,
    CapacityRequested,
    CapacityReturned,
    CapacityTaken,
    CapacityTrusted,
    ContactReported,
    DuePutOff,
    Entry,
    Escalated,
    Event,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    JoinedOutcomeCorrected,
    KeyDestroyed,
    MatchDecided,
    NoShowReported,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferenceAdopted,
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
    RulesActivated,
    ServiceListed,
    ServiceProposed,
    ServicePublished,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
    WindowClosed,
    task_of,
)
from referral_bus.contracts.vocabulary import Role
from services.notifier.standing import ReferralStanding

HearingRole = Role
"""As what an organisation hears of something."""

Roles = Mapping[str, frozenset[Role]]
"""The roles organisations have."""

AGENCY_SUBMISSIONS: Final = frozenset(
    m.event_type()
    for m in (
        inbox.SubmitReferral,
        inbox.AmendReferral,
        inbox.TransferReferral,
        inbox.SplitReferral,
        inbox.ReopenReferral,
        inbox.WithdrawReferral,
        inbox.AnswerQuestion,
        inbox.ForgetSubject,
    )
)
"""What is sent as an agency."""

EITHERS_SUBMISSIONS: Final = frozenset(
    m.event_type()
    for m in (
        inbox.HoldReferral,
        inbox.ResumeReferral,
        inbox.ConfirmHandoff,
        inbox.ReportFollowUp,
        inbox.RetractReport,
    )
)
"""What is sent as the agency or as the provider of the referral; everything else is sent as a provider."""

_HEARD_BY_ITS_PROVIDER = (
    OfferMade
    | OfferAcknowledged
    | OfferAccepted
    | OfferDeclined
    | OfferExpired
    | TaskCancelled
    | TaskEnteredInError
    | InformationAsked
    | InformationGiven
    | ServiceProposed
    | AcceptanceClaimed
    | FollowUpDue
)
_HEARD_BY_WHO_HOLDS_THE_TASK = (
    ReferralWithdrawn
    | ServiceStarted
    | TaskHeld
    | TaskResumed
    | NoShowReported
    | ContactReported
    | HandoffConfirmed
    | ReportRetracted
    | HandoffRetracted
    | OutcomeReported
)
_HEARD_BY_THE_ACCEPTOR = ReferralClosed | FollowedUp
_HEARD_BY_THE_AGENCY_ALONE = (
    ReferralOpened
    | ReferralHeld
    | ReferralResumed
    | ReferralWaitlisted
    | ReferralQueued
    | AgencyReminded
    | ReferralSplit
    | ReferralReopened
    | JoinedOutcomeCorrected
    | MatchDecided
)
_OF_A_REFERRAL = (
    _HEARD_BY_ITS_PROVIDER
    | _HEARD_BY_WHO_HOLDS_THE_TASK
    | _HEARD_BY_THE_ACCEPTOR
    | _HEARD_BY_THE_AGENCY_ALONE
    | ReferralAmended
    | ReferralTransferred
    | Reminded
    | Escalated
)
OF_A_UNIT = CapacityDoubted | CapacityTrusted
"""Heard by who offers the unit's service, whoever's task it was about."""
_UNHEARD = (
    ReferralCalled
    | WindowClosed
    | CapacityRequested
    | CapacityReturned
    | CapacityLent
    | CapacityDenied
    | CapacityTaken
    | CapacityFreed
    | CapacityOffered
    | CapacityListed
    | ServiceListed
    | CapacityChanged
    | ServicePublished
    | SubmissionRepeated
    | SubmissionResumed
    | DuePutOff
    | ReferenceAdopted
    | RulesActivated
    | KeyDestroyed
)

_Party = tuple[str, HearingRole]

_REFERRAL: Final = TypeAdapter[str](ReferralId)
_TASK: Final = TypeAdapter[str](TaskId)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a submission, under which id, and as what."""

    organisation: str
    submission: str
    role: HearingRole


@dataclass(frozen=True, slots=True)
class Heard:
    """What one organisation hears in one role. ``submission`` is the id of what it sent, where this is the answer to it. ``reason`` is
    the code that belongs to the event and ``expires_at`` the moment, if there is one (the table says which)."""

    organisation: str
    role: HearingRole
    type: str
    at: int
    referral: str | None = None
    task: str | None = None
    reason: str | None = None
    expires_at: int | None = None
    submission: str | None = None
    unit: str | None = None


class UnheardOf(Exception):
    """An event this version of the notifier does not know. It stops; passing it over could leave somebody uninformed."""


def needs_roles(entry: Entry) -> bool:
    """Whether who hears it, or as what, depends on the roles of organisations."""
    admitted = entry.meta.submission
    return isinstance(entry.event, Escalated) or (
        admitted is not None and admitted.type in EITHERS_SUBMISSIONS
    )


def about(event: Event) -> str | None:
    """The referral the event is about, also where it only refuses or parks something about it."""
    if isinstance(event, SubmissionRefused | SubmissionParked):
        return _named(event)[0]
    referral: str | None = getattr(event, "referral", None)
    return referral


def _named(event: SubmissionRefused | SubmissionParked) -> tuple[str | None, str | None]:
    """The referral and the task that a refused or parked submission is about. It may be about anything: an organisation's id can begin
    as theirs do."""
    named = event.about if isinstance(event, SubmissionRefused) else event.waiting_for
    if named is None:
        return None, None
    if _is(_TASK, named):
        return referral_of(named), named
    return (named if _is(_REFERRAL, named) else None), None


def _is(kind: TypeAdapter[str], named: str) -> bool:
    try:
        kind.validate_python(named)
    except ValidationError:
        return False
    return True


def sender(entry: Entry, standing: ReferralStanding | None = None, roles: Roles = {}) -> Sender | None:  # noqa: B006
    """Who sent the submission that an event is the first answer to. ``standing`` and ``roles`` say as what, where the kind of
    submission doesn't."""
    admitted = entry.meta.submission
    if admitted is None or admitted.source in OF_THE_BUS:
        return None
    role: HearingRole = "agency" if admitted.type in AGENCY_SUBMISSIONS else "provider"
    if admitted.type in EITHERS_SUBMISSIONS:
        role = _as_what(admitted.source, standing, roles)
    return Sender(admitted.source, admitted.id, role)


def _as_what(source: str, standing: ReferralStanding | None, roles: Roles) -> HearingRole:
    if standing is not None and source == standing.accepted_by:
        return "provider"
    if standing is not None and source == standing.agency:
        return "agency"
    return _first_role(roles.get(source, frozenset()), ("agency", "provider", "operations"), "provider")


def _first_role(its: frozenset[Role], in_order: tuple[Role, ...], otherwise: Role) -> Role:
    return next((role for role in in_order if role in its), otherwise)


def hearers(
    entry: Entry,
    standing: ReferralStanding | None,
    parked: Sender | None,
    roles: Roles = {},  # noqa: B006 - it is a Mapping, which nobody changes
    owner: str | None = None,
) -> list[Heard]:
    """Who hears of the event, in the order of organisation and role.

    ``standing`` is the referral's before the event (for an opened referral: after it); ``parked`` who sent what
    ``SubmissionRefused.parked`` names; ``roles`` those of the organisations concerned, where :func:`needs_roles`: the sender, and for an
    escalation whoever it goes to, or all of operations; ``owner`` who offers the service of :data:`OF_A_UNIT`, where that is known. Raises
    UnheardOf.
    """
    event, by = entry.event, sender(entry, standing, roles)
    if isinstance(event, SubmissionRefused | SubmissionParked):
        to = parked if isinstance(event, SubmissionRefused) and event.parked is not None else by
        return [] if to is None else [_answer(entry, event, to)]
    if isinstance(event, _OF_A_REFERRAL):
        if standing is None:
            return []
        told = set(_told(event, standing, roles))
        if isinstance(event, _HEARD_BY_WHO_HOLDS_THE_TASK) and by is not None and by.role == "provider":
            # Who served before the referral was reopened holds nothing of it any more, and is answered.
            told.add((by.organisation, by.role))
        return [_heard(entry, event, standing, party, by) for party in sorted(told)]
    if isinstance(event, OF_A_UNIT):
        return [] if owner is None else [_of_a_unit(entry, event, owner)]
    if isinstance(event, _UNHEARD):
        return []
    raise UnheardOf(f"{type(event).__name__} is an event this notifier does not know: upgrade it first")


def _of_a_unit(entry: Entry, event: CapacityDoubted | CapacityTrusted, owner: str) -> Heard:
    doubt = event if isinstance(event, CapacityDoubted) else None
    return Heard(
        organisation=owner,
        role="provider",
        type=event.event_type(),
        at=entry.meta.now,
        task=None if doubt is None else doubt.task,
        expires_at=None if doubt is None else doubt.until,
        unit=event.unit,
    )


def _told(event: Event, standing: ReferralStanding, roles: Roles) -> list[_Party]:
    match event:
        case MatchDecided() if event.service is not None:
            return []
        case TaskCancelled(reason="no_place" | "no_answer") if standing.provider_of(event.task) is None:
            # A place in another region was asked for and not had: nobody was offered anything.
            return []
        case ReferralTransferred():
            return [(event.former, "agency"), (event.agency, "agency")]
        case Reminded():
            holds = event.party == standing.provider_of(event.task)
            return [(event.party, "provider" if holds else "agency")]
        case Escalated():
            return _escalated_to(event, standing, roles)
    told: list[_Party] = [(standing.agency, "agency")]
    told += [(provider, "provider") for provider in _providers(event, standing) if provider is not None]
    return told


def _providers(event: Event, standing: ReferralStanding) -> list[str | None]:
    if isinstance(event, _HEARD_BY_ITS_PROVIDER):
        return [event.provider]
    if isinstance(event, _HEARD_BY_WHO_HOLDS_THE_TASK):
        return [standing.provider_of(task_of(event))]
    if isinstance(event, _HEARD_BY_THE_ACCEPTOR):
        return [standing.accepted_by]
    if isinstance(event, ReferralAmended):
        return [standing.accepted_by, *standing.offers.values()]
    return []


def _escalated_to(event: Escalated, standing: ReferralStanding, roles: Roles) -> list[_Party]:
    """The one who is named, in a role it has; else all of operations. Of an offer that nobody answers and that stays open the agency too,
    which can withdraw it."""
    told: list[_Party] = [(standing.agency, "agency")] if event.step == "accept" else []
    if event.to is None:
        return told + [(name, "operations") for name, its in roles.items() if "operations" in its]
    if event.to == standing.agency:
        return [(event.to, "agency")]
    its = roles.get(event.to, frozenset())
    return [*told, (event.to, _first_role(its, ("operations", "agency", "provider"), "operations"))]


def _heard(entry: Entry, event: Event, standing: ReferralStanding, party: _Party, by: Sender | None) -> Heard:
    organisation, role = party
    sent = by is not None and (by.organisation, by.role) == party
    return Heard(
        organisation=organisation,
        role=role,
        type=event.event_type(),
        at=entry.meta.now,
        referral=about(event),
        task=_task(event, standing, party),
        reason=_reason(event, standing, party),
        expires_at=_moment(event),
        submission=by.submission if sent and by is not None else None,
    )


def _task(event: Event, standing: ReferralStanding, party: _Party) -> str | None:
    if isinstance(event, ReferralAmended) and party[1] == "provider":
        accepted = [standing.accepted_task] if standing.accepted_by == party[0] else []
        its = [*accepted, *(task for task, provider in standing.offers.items() if provider == party[0])]
        return its[0] if len(its) == 1 else None
    return task_of(event)


def _reason(event: Event, standing: ReferralStanding, party: _Party) -> str | None:
    match event:
        case ReferralTransferred():
            return "transferred_away" if party[0] == event.former else "transferred_here"
        case TaskCancelled() if party[1] == "agency" and event.because is not None:
            return event.because
        case HandoffConfirmed():
            return "by_both" if event.complete else _by(event.by, standing)
        case HandoffRetracted():
            return _by(event.by, standing)
        case ReportRetracted():
            return event.report
        case ServiceStarted() if event.corrects is not None:
            return "corrected"
        case FollowUpDue():
            return f"after_{event.days}_days"
        case FollowedUp():
            return f"after_{event.days}_days"
        case Reminded() | Escalated():
            return event.step
    reason: str | None = getattr(event, "reason", None)
    return reason


def _by(party: str, standing: ReferralStanding) -> str:
    return "by_agency" if party == standing.agency else "by_provider"


def _moment(event: Event) -> int | None:
    match event:
        case OfferMade():
            return event.expires_at
        case ReferralHeld() | TaskHeld():
            return event.until
        case ReferralWaitlisted():
            return event.review
        case ReferralQueued():
            return event.until
        case Reminded() | AgencyReminded() | Escalated():
            return event.due
        case _:
            return None


def _answer(entry: Entry, event: SubmissionRefused | SubmissionParked, to: Sender) -> Heard:
    referral, task = _named(event)
    return Heard(
        organisation=to.organisation,
        role=to.role,
        type=event.event_type(),
        at=entry.meta.now,
        referral=referral,
        task=task,
        reason=event.reason if isinstance(event, SubmissionRefused) else None,
        expires_at=event.until if isinstance(event, SubmissionParked) else None,
        submission=to.submission,
    )
