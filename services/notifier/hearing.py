"""Who hears what of an event. Pure: the event, the standing before it, and for a late refusal who was parked.

An agency hears of its own referrals, a provider of the offers made to it and of what became of them, and whoever sent
something hears that it was refused or has to wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from referral_bus.contracts.ids import referral_of
from referral_bus.contracts.inbox import ForgetSubject, SubmitReferral, WithdrawReferral
from referral_bus.contracts.ledger import (
    CapacityChanged,
    Entry,
    KeyDestroyed,
    MatchDecided,
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
from services.notifier.standing import ReferralStanding

HearingRole = Literal["agency", "provider"]

AGENCY_SUBMISSIONS: Final = frozenset(
    m.event_type() for m in (SubmitReferral, WithdrawReferral, ForgetSubject)
)
"""What is sent as an agency; everything else is sent as a provider."""

ReferralEvent = (
    ReferralOpened
    | MatchDecided
    | OfferMade
    | OfferAccepted
    | OfferDeclined
    | OfferExpired
    | ReferralWithdrawn
    | ServiceStarted
    | OutcomeReported
    | ReferralClosed
)
"""Events about one referral: they need its standing."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a submission, under which id, and as what."""

    organisation: str
    submission: str
    role: HearingRole


@dataclass(frozen=True, slots=True)
class Heard:
    """What one organisation hears in one role. ``submission`` is the id of what it sent, where this is the answer to it."""

    organisation: str
    role: HearingRole
    type: str
    at: int
    referral: str | None = None
    task: str | None = None
    reason: str | None = None
    expires_at: int | None = None
    submission: str | None = None


class UnheardOf(Exception):
    """An event this version of the notifier does not know. It stops; passing it over could leave somebody uninformed."""


def sender(entry: Entry) -> Sender | None:
    """Who sent the submission that an event is the first answer to."""
    admitted = entry.meta.submission
    if admitted is None:
        return None
    role: HearingRole = "agency" if admitted.type in AGENCY_SUBMISSIONS else "provider"
    return Sender(admitted.source, admitted.id, role)


def hearers(entry: Entry, standing: ReferralStanding | None, parked: Sender | None) -> list[Heard]:
    """Who hears of the event, in the order of organisation and role.

    ``standing`` is the referral's before the event (for an opened referral: after it); ``parked`` who sent what
    ``SubmissionRefused.parked`` names. Raises UnheardOf.
    """
    event, by = entry.event, sender(entry)
    match event:
        case SubmissionRefused() | SubmissionParked():
            to = parked if isinstance(event, SubmissionRefused) and event.parked is not None else by
            return [] if to is None else [_answer(entry, to)]
        case (
            ReferralOpened()
            | MatchDecided()
            | OfferMade()
            | OfferAccepted()
            | OfferDeclined()
            | OfferExpired()
            | ReferralWithdrawn()
            | ServiceStarted()
            | OutcomeReported()
            | ReferralClosed()
        ):
            return [] if standing is None else _of_referral(entry, event, standing, by)
        case (
            CapacityChanged()
            | ServicePublished()
            | SubmissionRepeated()
            | SubmissionResumed()
            | ReferenceAdopted()
            | RulesActivated()
            | KeyDestroyed()
        ):
            return []
        case _:
            raise UnheardOf(
                f"{type(event).__name__} is an event this notifier does not know: upgrade it first"
            )


def _of_referral(
    entry: Entry, event: ReferralEvent, standing: ReferralStanding, by: Sender | None
) -> list[Heard]:
    task = getattr(event, "task", None)
    told: list[tuple[str, HearingRole]] = []
    if not (isinstance(event, MatchDecided) and event.service is not None):
        told.append((standing.agency, "agency"))
    provider = _provider(event, standing)
    if provider is not None:
        told.append((provider, "provider"))
    return [
        Heard(
            organisation=organisation,
            role=role,
            type=event.event_type(),
            at=entry.meta.now,
            referral=event.referral,
            task=task,
            reason=getattr(event, "reason", None),
            expires_at=getattr(event, "expires_at", None),
            submission=by.submission
            if by is not None and (by.organisation, by.role) == (organisation, role)
            else None,
        )
        for organisation, role in sorted(told)
    ]


def _provider(event: ReferralEvent, standing: ReferralStanding) -> str | None:
    match event:
        case OfferMade() | OfferAccepted() | OfferDeclined() | OfferExpired():
            return event.provider
        case ReferralWithdrawn() | ServiceStarted() | OutcomeReported():
            return standing.provider_of(event.task)
        case ReferralClosed():
            return standing.accepted_by
        case _:
            return None


def _answer(entry: Entry, to: Sender) -> Heard:
    event = entry.event
    assert isinstance(event, SubmissionRefused | SubmissionParked)  # noqa: S101 - narrows the type
    about = event.about if isinstance(event, SubmissionRefused) else event.waiting_for
    task = about if about is not None and about.startswith("tk-") else None
    referral = (
        referral_of(task)
        if task is not None
        else about
        if about is not None and about.startswith("rf-")
        else None
    )
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
