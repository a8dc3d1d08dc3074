"""A referral's matches in sentences for a caseworker: what was considered, what ruled services out, who was asked, and what was near.

Everything said here stands in the certificates; the facts themselves are not needed and not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    OutcomeReported,
    ReferenceAdopted,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServicePublished,
    ServiceStarted,
)
from referral_bus.contracts.reference import Agreement, Policy
from referral_bus.contracts.vocabulary import OrganisationKind
from services.matching.core.eligibility import CRITERIA
from services.matching.core.match import ALREADY_OFFERED, NOT_SCREENED

_RULED_OUT: Final = {
    ALREADY_OFFERED: "had been asked before",
    "need": "don't offer what is needed",
    "area": "don't serve the area",
    "age": "don't serve the age",
    "language": "don't serve the language",
    "capacity": "had no free place",
    NOT_SCREENED: "take nobody about whom something is unknown",
}
_MISSING: Final = {
    "need": "it doesn't offer what is needed",
    "area": "it doesn't serve the area",
    "age": "it doesn't serve the age",
    "language": "it doesn't serve the language",
    "capacity": "it had no free place",
}
_CLOSED: Final = {
    "outcome_reported": "the provider reported the outcome",
    "withdrawn": "the agency withdrew it",
    "no_match": "no service could take it",
    "offers_exhausted": "nobody is left to ask",
    "facts_unavailable": "the person's facts can't be opened any more",
}


class NotThere(Exception):
    """The ledger holds no such referral, or the asking organisation may not see it: which of the two is not said."""


@dataclass(slots=True)
class History:
    """What the ledger says of one referral, and of everything needed to put it into words."""

    referral: str
    opened: ReferralOpened | None = None
    entries: list[Entry] = field(default_factory=list)
    services: dict[str, str] = field(default_factory=dict)
    policies: dict[tuple[str, int], Policy] = field(default_factory=dict)
    kinds: dict[str, OrganisationKind] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    offered_to: set[str] = field(default_factory=set)
    accepted_by: str | None = None

    def take(self, entry: Entry) -> None:
        """The next event of the referral's region."""
        event = entry.event
        match event:
            case ServicePublished():
                self.services[event.definition.service] = event.definition.name
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
                self.opened = event
            case OfferMade():
                self.offered_to.add(event.provider)
            case OfferDeclined() | OfferExpired():
                self.offered_to.discard(event.provider)
            case OfferAccepted():
                self.offered_to.discard(event.provider)
                self.accepted_by = event.provider
            case ReferralClosed() | ReferralWithdrawn():
                self.offered_to.clear()


def sentences(history: History, show_outcome: bool = True) -> list[str]:
    """The referral's life, a line a step; certificates take several lines. Raises NotThere."""
    if history.opened is None:
        raise NotThere
    lines: list[str] = []
    for entry in history.entries:
        lines += _said(history, entry, show_outcome)
    return lines


def _said(history: History, entry: Entry, show_outcome: bool) -> list[str]:
    event, at = entry.event, _time(entry.meta.now)
    match event:
        case ReferralOpened():
            urgency, protocol = event.urgency, f"{event.protocol} {event.protocol_version}"
            return [f"{at}  Opened for {event.agency}: {urgency}, under protocol {protocol}."]
        case MatchDecided():
            return [
                f"{at}  Match {event.attempt}: {line}" if not n else f"          {line}"
                for n, line in enumerate(_match(history, event))
            ]
        case OfferMade():
            return [
                f"{at}  Offered to {_name(history, event.service)} ({event.provider}), a place held until {_time(event.expires_at)}."
            ]
        case OfferAccepted():
            return [f"{at}  Accepted by {event.provider}."]
        case OfferDeclined():
            return [f"{at}  Declined by {event.provider}: {_words(event.reason)}."]
        case OfferExpired():
            return [f"{at}  {event.provider} did not answer in time; the place is free again."]
        case ServiceStarted():
            return [f"{at}  The service began at {_time(event.started_at)}."]
        case OutcomeReported():
            return [f"{at}  Outcome: {_words(event.result)}."] if show_outcome else []
        case ReferralWithdrawn():
            return [f"{at}  Withdrawn: {_words(event.reason)}."]
        case ReferralClosed():
            hidden = event.reason == "outcome_reported" and not show_outcome
            return [
                f"{at}  Closed." if hidden else f"{at}  Closed: {_CLOSED.get(event.reason, event.reason)}."
            ]
    return []


def _match(history: History, event: MatchDecided) -> list[str]:
    certificate = event.certificate
    policy = history.policies.get((certificate.policy, certificate.policy_version))
    lines = [_considered(certificate)]
    if event.service is None:
        lines.append("No service could take it.")
    for rank, judged in enumerate(certificate.best, 1):
        lines.append(f"{rank}. {_name(history, judged.service)}: {_why(judged, policy)}")
    lines += [
        f"Near miss: {_name(history, judged.service)}: {_why_not(judged)}" for judged in certificate.misses
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
    unknown = [name for name, verdict in zip(CRITERIA, judged.verdicts, strict=False) if verdict == "unknown"]
    said = [f"unknown is the {' and the '.join(unknown)}" if unknown else "nothing is unknown"]
    for by, part in zip(policy.rank_by if policy is not None else (), judged.score, strict=False):
        match by:
            case "needs_covered" if part:
                said.append(f"{part} of the needs not met there")
            case "load":
                said.append(f"{part / 10:.0f} % of its places in use or held")
            case "freshness":
                said.append(f"places counted {part} h before" if part else "places counted within the hour")
            case "lottery":
                said.append(f"lot {part}")
            case _:
                pass
    return ", ".join(said) + "."


def _why_not(judged: Judged) -> str:
    """What would have to be otherwise."""
    no = [name for name, verdict in zip(CRITERIA, judged.verdicts, strict=False) if verdict == "no"]
    if not no:
        unknown = [
            name for name, verdict in zip(CRITERIA, judged.verdicts, strict=False) if verdict == "unknown"
        ]
        return f"unknown is the {' and the '.join(unknown)}, and it doesn't screen people itself."
    return " and ".join(_MISSING.get(name, name) for name in no) + "."


def table_lines(history: History, rows: Sequence[Judged]) -> list[str]:
    """The whole table of a match, a service a line."""
    heading = f"{'service':44} {'area':8} {'age':8} {'language':8} {'capacity':8} score"
    return [heading] + [
        f"{_name(history, row.service)[:44]:44} {' '.join(f'{verdict:8}' for verdict in row.verdicts[1:])} {row.score or '-'}"
        for row in rows
    ]


def region_in(referral: str) -> str:
    """The region of a referral's id. Raises NotThere for what is no referral's id."""
    if not referral.startswith("rf-"):
        raise NotThere
    try:
        return region_of(referral)
    except ValueError:
        raise NotThere from None


def _name(history: History, service: str) -> str:
    return history.services.get(service, service)


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _words(code: str) -> str:
    return code.replace("_", " ")
