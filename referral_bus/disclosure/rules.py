"""``may_disclose``: the one function that stands on every way out. It denies, unless something in force allows.

| who | may see |
|---|---|
| the agency that referred | status, facts and identity of its own referral; the outcome too, unless it is police |
| a provider with an open offer | status and facts |
| a provider whose offer ended | that it ended, in the notice that says so (status) |
| the provider that accepted | status, facts, identity and outcome |
| anyone else, and police for the outcome | what an agreement in force grants, for one of its purposes, of a referral they take part in |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind, Purpose


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a referral stands, as far as it says who may see what. ``offered_to`` holds the providers with an open offer,
    ``was_offered_to`` those who are told what became of theirs."""

    referral: str
    subject: str
    agency: str
    agency_kind: OrganisationKind | None
    purpose: Purpose
    offered_to: frozenset[str] = frozenset()
    accepted_by: str | None = None
    was_offered_to: frozenset[str] = frozenset()


def may_disclose(
    data: DataClass,
    standing: Standing,
    recipient: str,
    purpose: Purpose,
    at: int,
    agreements: Iterable[Agreement] = (),
) -> str | None:
    """The grant under which ``recipient`` may be shown this class of data now (``at``: epoch milliseconds), or None: it may not.

    An agency whose kind is unknown is treated as police: what is not known grants nothing.
    """
    if recipient == standing.agency:
        if data != "outcome" or standing.agency_kind not in ("police", None):
            return "own_referral"
    elif recipient == standing.accepted_by:
        return "accepted"
    elif recipient in standing.offered_to:
        if data in ("status", "facts"):
            return "offered"
    elif recipient in standing.was_offered_to:
        if data == "status":
            return "was_offered"
    else:
        return None
    return _granted(data, recipient, purpose, at, agreements)


def _granted(
    data: DataClass, recipient: str, purpose: Purpose, at: int, agreements: Iterable[Agreement]
) -> str | None:
    for agreement in agreements:
        if (
            agreement.recipient == recipient
            and data in agreement.data_classes
            and purpose in agreement.purposes
            and agreement.valid_from <= at < agreement.valid_until
        ):
            return f"agreement:{agreement.agreement}"
    return None
