"""``may_disclose``: the one function that stands on every way out. It denies, unless something in force allows.

| who | may see |
|---|---|
| the agency that follows the referral | status, facts and identity; what was asked and answered; the outcome too, unless it is police |
| a provider with an open offer | status and facts; what was answered to its own question |
| a provider whose offer ended | that it ended, in the notice that says so (status) |
| the provider that accepted | status, facts, identity and outcome; what was answered to its own question |
| an agency that handed the referral to another | that it did, in the notice that says so (status) |
| whom an overdue step was escalated to | that it was, in the notice that says so (status) |
| any of the first four, and police for the outcome | what an agreement in force grants, for one of its purposes |

What was asked and answered about an offer (``exchange``) no agreement grants to anyone else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind, Purpose


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a referral stands, as far as it says who may see what. ``offered_to`` holds the providers with an open offer, ``asked_by``
    the provider that asked what is to be shown.

    Three kinds of parties are only told what became of their part: ``was_offered_to`` a provider of its offer, ``was_own_of`` an agency
    of its referral, ``escalated_to`` an organisation of a step that is overdue.
    """

    referral: str
    subject: str
    agency: str
    agency_kind: OrganisationKind | None
    purpose: Purpose
    offered_to: frozenset[str] = frozenset()
    accepted_by: str | None = None
    was_offered_to: frozenset[str] = frozenset()
    asked_by: str | None = None
    was_own_of: frozenset[str] = frozenset()
    escalated_to: frozenset[str] = frozenset()


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
    if data == "exchange":
        return _exchanged(standing, recipient)
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
        return _told(data, standing, recipient)
    return _granted(data, recipient, purpose, at, agreements)


def _exchanged(standing: Standing, recipient: str) -> str | None:
    if recipient == standing.agency:
        return "own_referral"
    has_part = recipient == standing.accepted_by or recipient in standing.offered_to
    return "asked" if has_part and recipient == standing.asked_by else None


def _told(data: DataClass, standing: Standing, recipient: str) -> str | None:
    if data != "status":
        return None
    if recipient in standing.escalated_to:
        return "escalated"
    return "was_own" if recipient in standing.was_own_of else None


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
