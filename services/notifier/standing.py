"""Where a referral stands, folded from the ledger as far as telling about it needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from referral_bus.contracts.ledger import (
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferralAmended,
    ReferralClosed,
    ReferralOpened,
    ReferralReopened,
    ReferralTransferred,
    ReferralWithdrawn,
    ServiceProposed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import Purpose


@dataclass(frozen=True, slots=True)
class ReferralStanding:
    """One referral. ``offers`` are the open ones, provider by task; the sealed sections are None once erased. ``part_of`` is the
    referral that was split, which has the person's identity."""

    referral: str
    subject: str
    agency: str
    purpose: Purpose
    offers: Mapping[str, str] = field(default_factory=dict)
    accepted_task: str | None = None
    accepted_by: str | None = None
    part_of: str | None = None
    sealed_facts: bytes | None = None
    sealed_identity: bytes | None = None

    def provider_of(self, task: str | None) -> str | None:
        """Who holds the task, as an open offer or as the accepted one."""
        if task is None:
            return None
        return self.accepted_by if task == self.accepted_task else self.offers.get(task)


def opened(event: ReferralOpened) -> ReferralStanding:
    """The standing of a referral just taken up."""
    return ReferralStanding(
        referral=event.referral,
        subject=event.subject,
        agency=event.agency,
        purpose=event.purpose,
        part_of=event.part_of,
        sealed_facts=event.sealed_facts,
        sealed_identity=event.sealed_identity,
    )


def after(standing: ReferralStanding, event: Event) -> ReferralStanding:
    """The standing once the event is reflected; the same where it changes nothing here."""
    match event:
        case ReferralAmended():
            return replace(
                standing,
                sealed_facts=event.sealed_facts or standing.sealed_facts,
                sealed_identity=event.sealed_identity or standing.sealed_identity,
            )
        case ReferralTransferred():
            return replace(standing, agency=event.agency)
        case ReferralReopened():
            return replace(
                standing, offers={}, accepted_task=None, accepted_by=None, sealed_facts=event.sealed_facts
            )
        case OfferMade():
            return replace(standing, offers={**standing.offers, event.task: event.provider})
        case OfferAccepted():
            return replace(
                standing,
                offers=_without(standing.offers, event.task),
                accepted_task=event.task,
                accepted_by=event.provider,
            )
        case OfferDeclined() | OfferExpired() | ServiceProposed():
            # Who has accepted keeps the person until the service it proposed accepts.
            return replace(standing, offers=_without(standing.offers, event.task))
        case TaskCancelled() if event.task == standing.accepted_task and event.reason != "withdrawn":
            return replace(standing, accepted_task=None, accepted_by=None)
        case TaskCancelled():
            # Of a referral that was withdrawn the service that had accepted hears the end, as one that had served would.
            return replace(standing, offers=_without(standing.offers, event.task))
        case ReferralWithdrawn() | ReferralClosed():
            return replace(standing, offers={})
        case _:
            return standing


def erased(standing: ReferralStanding) -> ReferralStanding:
    """The standing of a referral of somebody who was forgotten."""
    return replace(standing, sealed_facts=None, sealed_identity=None)


def _without(offers: Mapping[str, str], task: str) -> dict[str, str]:
    return {open_task: provider for open_task, provider in offers.items() if open_task != task}
