"""The end of a referral, and of the one it is a part of: a split referral ends with the last of its parts."""

from __future__ import annotations

from collections.abc import Sequence

from referral_bus.contracts.ledger import Event, JoinedOutcomeCorrected, ReferralClosed
from referral_bus.contracts.vocabulary import (
    MET,
    CloseReason,
    OutcomeResult,
    ReferralStatus,
)
from services.matching.core.referral import Referral
from services.matching.core.state import Region


def closing(
    state: Region,
    name: str,
    known: Referral,
    status: ReferralStatus,
    reason: CloseReason,
    result: OutcomeResult | None = None,
) -> list[Event]:
    """The referral is closed; so is the whole, if this was its last open part."""
    closed = ReferralClosed(referral=name, status=status, reason=reason, result=result)
    whole = None if known.part_of is None else state.referrals.get(known.part_of)
    if whole is None or known.part_of is None or whole.parts != frozenset({name}):
        return [closed]
    counted = result_of(closed)
    results = list(whole.results.values())
    joined = join(results if counted is None else [*results, counted])
    return [
        closed,
        ReferralClosed(
            referral=known.part_of,
            status="revoked" if joined is None else "completed",
            reason="parts_closed",
            result=joined,
        ),
    ]


def corrected_whole(state: Region, part: str, result: OutcomeResult | None, now: int) -> list[Event]:
    """The whole has another outcome too, if it was closed by what came of its parts and this one's is corrected to ``result``; None: it was
    entered in error, and counts no more. Where none counts that did, the need was not met."""
    closed = None if part in state.referrals else state.was_closed(part, now)
    if closed is None or closed.part_of is None:
        return []
    whole = state.was_closed(closed.part_of, now)
    if whole is None or not whole.counts(part, closed) or (result is not None and not closed.completed):
        return []
    others = {name: came for name, came in whole.joined.items() if name != part}
    joined = join(list((others if result is None else {**others, part: result}).values())) or "not_met"
    if joined == join(list(whole.joined.values())):
        return []
    return [
        JoinedOutcomeCorrected(referral=closed.part_of, part=part, result=joined, corrects=whole.closed_by)
    ]


def result_of(closed: ReferralClosed) -> OutcomeResult | None:
    """What a closed part counts as in the whole: its outcome; nothing, if it was withdrawn; else the need was not met."""
    if closed.result is not None:
        return closed.result
    return None if closed.reason == "withdrawn" else "not_met"


def join(results: Sequence[OutcomeResult]) -> OutcomeResult | None:
    """What came of the whole: the need was met if each part's was, not met if none's was even partly, and else partly."""
    if not results:
        return None
    if all(result == "need_met" for result in results):
        return "need_met"
    return "partly_met" if any(result in MET for result in results) else "not_met"
