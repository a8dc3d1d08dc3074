"""Offers, by what the ledger says of them: each answer in time is taken, one acceptance of a referral at a time, and no offer ends before
its time. None of it uses code of a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from referral_bus.contracts.inbox import AcceptOffer
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralReopened,
    ReferralWithdrawn,
    ServiceProposed,
    SubmissionRefused,
    TaskCancelled,
)
from tests.support.checking import Seen


class Misjudged(NamedTuple):
    """What is wrong with an offer, and where."""

    kind: Literal["refused wrongly", "expired early", "accepted wrongly", "accepted twice"]
    what: str


def ends(event: Event) -> str | None:
    """The task that the event brings to an end, accepted or not."""
    match event:
        case OfferDeclined() | OfferExpired() | TaskCancelled() | ReferralWithdrawn():
            return event.task
        case OutcomeReported() if event.corrects is None:
            return event.task
    return None


def misjudged(seen: Seen) -> Iterator[Misjudged]:
    """An acceptance that came in time, to an offer that was open, is not refused, unless another was before it and is still to be
    confirmed; accepted is nothing else, and no referral by two. No offer ends before its time."""
    open_ones: dict[str, OfferMade] = {}
    transfers: set[str] = set()
    claimed: dict[str, str] = {}
    accepted: dict[str, str] = {}
    """Of each referral the task."""
    for record, entry in zip(seen.ledger, seen.entries, strict=True):
        event, meta = entry.event, entry.meta
        where = f"{record.topic}/{record.partition}/{record.offset}"
        match event:
            case OfferMade():
                open_ones[event.task] = event
                if event.transfer:
                    transfers.add(event.task)
            case AcceptanceClaimed() | OfferAccepted():
                referral, task = event.referral, event.task
                before = claimed.get(referral)
                confirmed = isinstance(event, OfferAccepted) and before == task
                if task not in open_ones and not confirmed:
                    yield Misjudged("accepted wrongly", f"{where}: {task} is not open")
                if before is None and task not in transfers:  # else what was accepted ends with it
                    before = accepted.get(referral)
                if before not in (None, task):
                    yield Misjudged("accepted twice", f"{where}: {task}, and before it {before}")
                (accepted if isinstance(event, OfferAccepted) else claimed)[referral] = task
                # Nobody can answer meanwhile what is still to be confirmed, nor does its time go on.
                open_ones.pop(task, None)
            case OfferExpired():
                offer = open_ones.get(event.task)
                if offer is None or meta.now < offer.expires_at:
                    yield Misjudged("expired early", f"{where}: {event.task}")
            case TaskCancelled() if accepted.get(event.referral) == event.task:
                del accepted[event.referral]
            case ReferralReopened():
                accepted.pop(event.referral, None)
            case SubmissionRefused() if (submission := meta.submission) is not None:
                said = seen.codec.decode(submission.value)
                offer = open_ones.get(said.task) if isinstance(said, AcceptOffer) else None
                if offer is None or submission.append_time >= offer.expires_at:
                    continue
                if event.reason != "acceptance_pending" or offer.referral not in claimed:
                    yield Misjudged("refused wrongly", f"{where}: {offer.task}, {event.reason}")
        ended = event.task if isinstance(event, OfferAccepted | ServiceProposed) else ends(event)
        if ended is not None:
            open_ones.pop(ended, None)
            claimed = {referral: task for referral, task in claimed.items() if task != ended}
