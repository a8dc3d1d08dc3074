"""A referral's matches in sentences for a caseworker: what was considered, what ruled services out, who was asked, and what was near.

Everything said here stands in the certificates; the facts themselves are not needed and not shown. A provider is told of its own services:
how full others are, and why others were not asked, is for the agency that referred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    Entry,
    Judged,
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferenceAdopted,
    ReferralClosed,
    ReferralOpened,
    ReferralReopened,
    ReferralTransferred,
    ReferralWithdrawn,
    ServiceListed,
    ServiceProposed,
    ServicePublished,
    TaskCancelled,
)
from referral_bus.contracts.reference import Agreement, Policy
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import OrganisationKind
from referral_bus.wording.certificates import Scoring, match_in_words
from referral_bus.wording.steps import step, time


class NotThere(Exception):
    """The ledger holds no such referral, or the asking organisation may not see it: which of the two is not said."""


@dataclass(slots=True)
class History:
    """What the ledger says of one referral, and of everything needed to put it into words."""

    referral: str
    opened: ReferralOpened | None = None
    agency: str = ""
    """Who follows it now."""
    entries: list[Entry] = field(default_factory=list)
    services: dict[str, ServiceDefinition] = field(default_factory=dict)
    policies: dict[tuple[str, int], Policy] = field(default_factory=dict)
    kinds: dict[str, OrganisationKind] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    offers: dict[str, str] = field(default_factory=dict)
    """The provider of each open offer, by its task."""
    accepted: str | None = None
    """The task that was accepted."""
    accepted_by: str | None = None

    @property
    def offered_to(self) -> frozenset[str]:
        """The providers with an open offer."""
        return frozenset(self.offers.values())

    def name(self, service: str) -> str:
        """A service's name, or its id where it has none."""
        known = self.services.get(service)
        return service if known is None else known.name

    def is_of(self, service: str, organisation: str) -> bool:
        """Whether it is one of the organisation's services."""
        known = self.services.get(service)
        return known is not None and known.organisation == organisation

    def take(self, entry: Entry) -> None:
        """The next event of the referral's region."""
        event = entry.event
        match event:
            case ServicePublished() | ServiceListed():
                self.services[event.definition.service] = event.definition
            case ReferenceAdopted():
                self._adopted(event)
            case _ if getattr(event, "referral", None) == self.referral:
                self.entries.append(entry)
                self._own(entry)
            case _:
                pass

    def _adopted(self, event: ReferenceAdopted) -> None:
        if event.policy is not None:
            self.policies[event.policy.policy, event.policy.version] = event.policy
        elif event.organisation is not None:
            self.kinds[event.organisation.organisation] = event.organisation.kind
        elif event.agreement is not None:
            self.agreements[event.agreement.agreement] = event.agreement

    def _own(self, entry: Entry) -> None:
        event = entry.event
        match event:
            case ReferralOpened():
                self.opened, self.agency = event, event.agency
            case ReferralTransferred():
                self.agency = event.agency
            case ReferralReopened():
                self.offers.clear()
                self.accepted = self.accepted_by = None
            case OfferMade():
                self.offers[event.task] = event.provider
            case OfferAccepted():
                self.offers.pop(event.task, None)
                self.accepted, self.accepted_by = event.task, event.provider
            case OfferDeclined() | OfferExpired() | ServiceProposed():
                # Who has accepted keeps the person until the service it proposed accepts.
                self.offers.pop(event.task, None)
            case TaskCancelled():
                self.offers.pop(event.task, None)
                if event.task == self.accepted and event.reason != "withdrawn":
                    self.accepted = self.accepted_by = None
            case ReferralClosed() | ReferralWithdrawn():
                self.offers.clear()


def sentences(history: History, show_outcome: bool = True, reader: str | None = None) -> list[str]:
    """The referral's life, a line a step; certificates take several lines. ``reader`` is the organisation that reads it, None being one
    that may see all. Raises NotThere."""
    if history.opened is None:
        raise NotThere
    lines: list[str] = []
    for entry in history.entries:
        event, at = entry.event, time(entry.meta.now)
        if isinstance(event, MatchDecided):
            first, *more = _match(history, event, reader)
            lines += [f"{at}  Match {event.attempt}: {first}", *(f"          {line}" for line in more)]
            continue
        said = step(event, history.name, show_outcome)
        if said is not None:
            lines.append(f"{at}  {said}")
    return lines


def may_read_of(history: History, service: str, reader: str | None) -> bool:
    """Whether the reader may see how a service was judged."""
    return reader is None or reader == history.agency or history.is_of(service, reader)


def _match(history: History, event: MatchDecided, reader: str | None) -> list[str]:
    certificate, found = event.certificate, event.service is not None
    policy = history.policies.get((certificate.policy, certificate.policy_version))
    scoring = None if policy is None else Scoring(policy.rank_by, bool(policy.trust))
    return match_in_words(
        certificate, found, scoring, history.name, lambda service: may_read_of(history, service, reader)
    )


def table_lines(history: History, rows: Sequence[Judged], reader: str | None = None) -> list[str]:
    """The whole table of a match, a service a line, as far as the reader may see it."""
    heading = f"{'service':44} {' '.join(f'{name:8}' for name in CRITERIA[1:])} score"
    return [heading] + [
        f"{history.name(row.service)[:44]:44} {' '.join(f'{verdict:8}' for verdict in row.verdicts[1:])} {row.score or '-'}"
        for row in rows
        if may_read_of(history, row.service, reader)
    ]


def region_in(referral: str) -> str:
    """The region of a referral's id. Raises NotThere for what is no referral's id."""
    if not referral.startswith("rf-"):
        raise NotThere
    try:
        return region_of(referral)
    except ValueError:
        raise NotThere from None
