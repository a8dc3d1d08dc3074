"""Which steps of a referral's life a provider is told of: its own attempts, and never that others were asked, nor what was before them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

FOR_THE_AGENCY: Final = frozenset(
    {
        "MatchDecided",
        "ReferralHeld",
        "ReferralResumed",
        "ReferralWaitlisted",
        "ReferralCalled",
        "ReferralQueued",
        "AgencyReminded",
        "CapacityRequested",
        "CapacityReturned",
        "ReferralSplit",
        "JoinedOutcomeCorrected",
    }
)
"""Events that tell of others who were asked, or of what the agency does besides."""


class Step(NamedTuple):
    """An event of a referral: its place in the region, its type, and the attempt it is about."""

    sequence: int
    type: str
    task: str | None


def told_to_provider(steps: Iterable[Step], own: Collection[str]) -> frozenset[int]:
    """The sequences of those a provider is told of that made these attempts its ``own``: how the referral began, and what happened from its
    first offer on."""
    known = list(steps)
    offers = [step for step in known if step.type == "OfferMade" and step.task in own]
    first = min((step.sequence for step in offers), default=0)
    # Of an attempt whose place another region did not hold the provider never heard.
    heard = {step.task for step in offers}
    return frozenset(
        step.sequence
        for step in known
        if step.type == "ReferralOpened"
        or (
            step.sequence >= first
            and step.type not in FOR_THE_AGENCY
            and (step.task is None or step.task in heard)
        )
    )
