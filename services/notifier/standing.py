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
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
)
from referral_bus.contracts.vocabulary import Purpose


@dataclass(frozen=True, slots=True)
class ReferralStanding:
    """One referral. ``offers`` are the open ones, provider by task; the sealed sections are None once erased."""

    referral: str
    subject: str
    agency: str
    purpose: Purpose
    offers: Mapping[str, str] = field(default_factory=dict)
    accepted_task: str | None = None
    accepted_by: str | None = None
    outcome: str | None = None
    sealed_facts: bytes | None = None
    sealed_identity: bytes | None = None
    sealed_note: bytes | None = None

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
        sealed_facts=event.sealed_facts,
        sealed_identity=event.sealed_identity,
    )


def after(standing: ReferralStanding, event: Event) -> ReferralStanding:
    """The standing once the event is reflected; the same where it changes nothing here."""
    match event:
        case OfferMade():
            return replace(standing, offers={**standing.offers, event.task: event.provider})
        case OfferAccepted():
            return replace(
                standing,
                offers=_without(standing.offers, event.task),
                accepted_task=event.task,
                accepted_by=event.provider,
            )
        case OfferDeclined() | OfferExpired():
            return replace(standing, offers=_without(standing.offers, event.task))
        case OutcomeReported():
            return replace(standing, outcome=event.result, sealed_note=event.sealed_note)
        case ReferralWithdrawn() | ReferralClosed():
            return replace(standing, offers={})
        case _:
            return standing


def erased(standing: ReferralStanding) -> ReferralStanding:
    """The standing of a referral of somebody who was forgotten."""
    return replace(standing, sealed_facts=None, sealed_identity=None, sealed_note=None)


def _without(offers: Mapping[str, str], task: str) -> dict[str, str]:
    return {open_task: provider for open_task, provider in offers.items() if open_task != task}
