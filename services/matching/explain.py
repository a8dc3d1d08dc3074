"""A referral's matches in sentences for a caseworker: what was considered, what ruled services out, who was asked, and what was near.

Everything said here stands in the certificates; the facts themselves are not needed and not shown. A provider is told of its own services:
how full others are, and why others were not asked, is for the agency that referred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    Certificate,
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
from referral_bus.contracts.reference import Agreement, Policy, RankBy
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import OrganisationKind
from services.matching.core.judging.eligibility import CRITERIA, JUDGED, SCREENED
from services.matching.core.judging.match import ALREADY_OFFERED, NOT_NAMED, NOT_SCREENED
from services.matching.core.judging.ranking import NOT_IN_SIGHT, UNKNOWN
from services.matching.steps import step, time

_RULED_OUT: Final = {
    ALREADY_OFFERED: "had been asked before",
    NOT_NAMED: "are not the one that was named",
    "need": "don't offer what is needed",
    "area": "don't serve the area",
    "age": "don't serve the age",
    "language": "don't serve the language",
    "criteria": "are for others",
    "reach": "are out of reach",
    "hours": "don't open in time",
    "capacity": "had no free place",
    NOT_SCREENED: "take nobody about whom something is unknown",
}
_MISSING: Final = {
    "area": "it doesn't serve the area",
    "age": "it doesn't serve the age",
    "language": "it doesn't serve the language",
    "criteria": "it is for others",
    "reach": "it is out of reach",
    "hours": "it doesn't open in time",
    "capacity": "it had no free place",
}
_WANTED: Final = {
    "area": "it served the area",
    "age": "it served the person's age",
    "language": "it served a language of the person's",
    "reach": "it were within reach",
    "hours": "it opened sooner",
    "capacity": "it had a free place",
}
_KINDS: Final = {
    "age": "the age",
    "area": "the area",
    "language": "the language",
    "household_size": "the size of the household",
    "children": "the number of children",
    "income": "the household's income",
    "trait": "the person's situation",
    "document": "the papers the person has",
    "cost": "what the person can pay",
}


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
    certificate = event.certificate
    policy = history.policies.get((certificate.policy, certificate.policy_version))
    lines = [_considered(certificate)]
    if event.service is None:
        lines.append("No service could take it.")
    for rank, judged in enumerate(certificate.best, 1):
        if may_read_of(history, judged.service, reader):
            lines.append(f"{rank}. {history.name(judged.service)}: {_why(judged, policy)}")
    lines += [
        f"Near miss: {history.name(judged.service)}: {_why_not(judged)}"
        for judged in certificate.misses
        if may_read_of(history, judged.service, reader)
    ]
    return lines


def _considered(certificate: Certificate) -> str:
    ruled_out = [
        f"{one.services} {_RULED_OUT.get(one.criterion, one.criterion)}" for one in certificate.eliminated
    ]
    left = certificate.considered - sum(one.services for one in certificate.eliminated)
    parts = "; ".join(ruled_out)
    return (
        f"of {certificate.considered} services, {parts + '; ' if parts else ''}{left} could take it "
        f"(policy {certificate.policy} {certificate.policy_version})."
    )


def _why(judged: Judged, policy: Policy | None) -> str:
    """The score in the policy's own order: why this place and no other."""
    unknown = _with(judged, "unknown")
    said = [_unknown_is(judged, unknown) if unknown else "nothing is unknown"]
    if judged.mapping is not None:
        said.append(f"found by {judged.mapping}, {_percent(judged.confidence)} sure")
    for by, part in zip(policy.rank_by if policy is not None else (), judged.score, strict=False):
        words = _part(by, part, policy is not None and bool(policy.trust))
        if words is not None:
            said.append(words)
    return ", ".join(said) + "."


def _part(by: RankBy, part: int, trusted: bool) -> str | None:
    """A part of a score in words; None for what is said otherwise, or means nothing."""
    match by:
        case "needs_covered" if part:
            return f"{part} of the needs not met there"
        case "wait":
            return _wait(part)
        case "reach":
            return "unknown how far away" if part == UNKNOWN else f"{part / 10:.1f} km away"
        case "language" if part == 1:
            return "no language of the person's is named there, but served"
        case "load":
            return f"{_percent(part)} of its places in use or held"
        case "freshness" if trusted:
            return f"its count of places is believed {_percent(1000 - part)}"
        case "freshness":
            return f"places counted {part} h before" if part > 0 else "places counted within the hour"
        case "reliability":
            return f"{_percent(1000 - part)} reliable"
        case "lottery":
            return f"lot {part}"
    return None


def _wait(minutes: int) -> str:
    if minutes == UNKNOWN:
        return "unknown when it opens"
    if minutes == NOT_IN_SIGHT:
        return "not open in the next months"
    return f"opens in {minutes} min" if minutes else "open"


def _why_not(judged: Judged) -> str:
    """What would have to be otherwise: the one thing, where it is one."""
    no, unknown = _with(judged, "no"), _with(judged, "unknown")
    uncertain = [name for name in unknown if name in JUDGED[:SCREENED]]
    if not no:
        return (
            f"{_unknown_is(judged, uncertain)}, and it doesn't screen people itself. "
            f"It would take the person if that were known, and as it asks."
        )
    if len(no) > 1:
        return " and ".join(_MISSING.get(name, name) for name in no) + "."
    wanted = _wanted(judged, no[0])
    if uncertain:
        return f"it might take the person if {wanted}; {_unknown_is(judged, uncertain)}."
    return f"it would take the person if {wanted}."


def _wanted(judged: Judged, criterion: str) -> str:
    if criterion != "criteria":
        return _WANTED.get(criterion, criterion)
    kinds = [_KINDS.get(kind, kind) for kind in judged.because]
    return f"{' and '.join(kinds) or 'the person'} met what it asks"


def _unknown_is(judged: Judged, unknown: Sequence[str]) -> str:
    words: list[str] = []
    for name in unknown:
        words += judged.because if name == "criteria" and judged.because else [name]
    said = [_KINDS.get(word, f"the {word}") for word in dict.fromkeys(words)]
    return f"unknown is {' and '.join(said)}"


def _with(judged: Judged, verdict: str) -> list[str]:
    return [name for name, one in zip(CRITERIA, judged.verdicts, strict=False) if one == verdict]


def _percent(thousandths: int) -> str:
    return f"{thousandths / 10:.0f} %"


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
