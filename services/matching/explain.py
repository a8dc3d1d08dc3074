"""A referral's matches in sentences for a caseworker: what was considered, what ruled services out, who was asked, and what was near.

Everything said here stands in the certificates; the facts themselves are not needed and not shown. A provider is told of its own services,
by the matches that asked them: how full others are, why others were not asked, and that any were, is for the agency that referred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    CapacityRequested,
    Entry,
    Event,
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
    task_of,
)
from referral_bus.contracts.reference import Agreement, Policy
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import OrganisationKind
from referral_bus.disclosure.steps import Step, told_to_provider
from referral_bus.wording.certificates import Scoring, match_in_words, own_in_words
from referral_bus.wording.steps import step, time
from services.matching.recompute import Recomputed


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

    def is_of(self, service: str, organisation: str | None) -> bool:
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
    reads_all = may_read_all(history, reader)
    told = _told(history, reader) | own_matches(history, reader)
    lines: list[str] = []
    for entry in history.entries:
        event, at = entry.event, time(entry.meta.now)
        if not reads_all and entry.meta.sequence not in told:
            continue
        if isinstance(event, MatchDecided):
            match_lines = _match(history, event, reader)
            if match_lines:
                first, *more = match_lines
                # The number of the match would say how many were asked before.
                match = f"Match {event.attempt}" if reads_all else "Match"
                lines += [f"{at}  {match}: {first}", *(f"          {line}" for line in more)]
        else:
            words = step(event if reads_all else _without_the_agencys(event), history.name, show_outcome)
            if words is not None:
                lines.append(f"{at}  {words}")
    return lines


def _told(history: History, provider: str | None) -> frozenset[int]:
    """The steps that a provider is told of."""
    steps = [
        Step(entry.meta.sequence, type(entry.event).__name__, task_of(entry.event))
        for entry in history.entries
    ]
    return told_to_provider(steps, _own_tasks(history, provider))


def own_matches(history: History, provider: str | None) -> frozenset[int]:
    """The sequences of the matches by which the provider was asked itself: that there were others says that others were asked."""
    own = _own_tasks(history, provider)
    matches: set[int] = set()
    last, asked = 0, set[str]()
    for entry in history.entries:
        event = entry.event
        if isinstance(event, MatchDecided):
            last = entry.meta.sequence
        elif isinstance(event, OfferMade | CapacityRequested) and event.task not in asked:
            # What another region held a place for is offered later, by the match that asked for the place.
            asked.add(event.task)
            if event.task in own:
                matches.add(last)
    return frozenset(matches)


def _own_tasks(history: History, provider: str | None) -> set[str]:
    """What was offered to the provider: of a place that another region did not hold it never heard."""
    return {
        entry.event.task
        for entry in history.entries
        if isinstance(entry.event, OfferMade) and entry.event.provider == provider
    }


def _without_the_agencys(event: Event) -> Event:
    """The event without how the agency has a service found, and whether this is a part of something."""
    if isinstance(event, ReferralOpened):
        return event.model_copy(update={"mode": "match", "part_of": None})
    return event


def may_read_all(history: History, reader: str | None) -> bool:
    """Whether the reader may see how every service was judged, and who was asked: the agency that follows the referral."""
    return reader is None or reader == history.agency


def _match(history: History, event: MatchDecided, reader: str | None) -> list[str]:
    certificate = event.certificate
    policy = history.policies.get((certificate.policy, certificate.policy_version))
    scoring = None if policy is None else Scoring(policy.rank_by, bool(policy.trust))
    if may_read_all(history, reader):
        return match_in_words(certificate, event.service, scoring, history.name)
    return own_in_words(certificate, scoring, history.name, lambda service: history.is_of(service, reader))


def table_lines(history: History, rows: Sequence[Judged], reader: str | None = None) -> list[str]:
    """The whole table of a match, a service a line, as far as the reader may see it."""
    heading = f"{'service':44} {' '.join(f'{name:8}' for name in CRITERIA[1:])} score"
    return [heading] + [
        f"{history.name(row.service)[:44]:44} {' '.join(f'{verdict:8}' for verdict in row.verdicts[1:])} {row.score or '-'}"
        for row in rows
        if may_read_all(history, reader) or history.is_of(row.service, reader)
    ]


def full_table(history: History, made: Recomputed, reader: str | None = None) -> list[str]:
    """A match's table as it comes out now, as far as the reader may see it. How many services were left for a match says how many were
    asked before it, and so does its number."""
    recorded = made.recorded
    if may_read_all(history, reader):
        match = f"Match {recorded.attempt}"
        size = f" of {len(made.rows or ())} services"
    elif made.sequence in own_matches(history, reader):
        match, size = "Match", ""
    else:
        return []
    if made.rows is None:
        return [f"{match}: the table can't be made anew, since the facts can't be opened ({made.facts})."]
    same = "is the one" if made.digest == recorded.certificate.digest else "DIFFERS from the one"
    return [
        f"{match}: the table{size} {same} that was decided by:",
        *table_lines(history, made.rows, reader),
    ]


def region_in(referral: str) -> str:
    """The region of a referral's id. Raises NotThere for what is no referral's id."""
    if not referral.startswith("rf-"):
        raise NotThere
    try:
        return region_of(referral)
    except ValueError:
        raise NotThere from None
