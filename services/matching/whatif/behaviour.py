"""How providers and other regions are taken to answer in a life that was not lived: as the ledger shows that they do.

A service that was asked for this very referral answers again as it did, after as long, or not at all; one that was not asked accepts, after
as long as acceptances took in the stretch on the whole, and ends the service after as long as services took. Another region holds and gives
the places it is asked for, after as long as regions took.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from referral_bus.contracts.inbox import AcceptOffer, AnswerCapacity, DeclineOffer, Submission
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityRequested,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferMade,
    Received,
    ReferralClosed,
)
from referral_bus.contracts.vocabulary import DECLINES, DeclineReason

_HOUR_MS: Final = 3_600_000
_ASSUMED_MS: Final = _HOUR_MS
"""How long an acceptance is taken to have needed where the stretch shows none."""
_SERVED_MS: Final = 30 * 24 * _HOUR_MS
"""How long a service is taken to have lasted where the stretch shows none."""
_PARKING: Final = frozenset(reason for reason, means in DECLINES.items() if means.dated)
"""Reasons that need a date, which a life that was not lived has none for: they count as a plain no."""


class Recorded(NamedTuple):
    """The submission of a decision and what was decided, in the order of the ledger."""

    received: Received | None
    entries: list[Entry]


class Answer(NamedTuple):
    """How a service answered a referral: after how long, and why it declined (None: it accepted). Silence has no answer."""

    after: int
    declined: DeclineReason | None

    def body(self, task: str) -> Submission:
        """The answer, given to this task."""
        if self.declined is None:
            return AcceptOffer(task=task)
        return DeclineOffer(task=task, reason="other" if self.declined in _PARKING else self.declined)


class Behaviour:
    """How services answered in a stretch, by referral and service, and how long things took on the whole."""

    def __init__(self, groups: Sequence[Recorded]) -> None:
        self.answers: dict[tuple[str, str], Answer | None] = {}
        self.lasted: dict[str, int] = {}
        self._made: dict[str, tuple[str, int]] = {}
        self._accepted_at: dict[str, int] = {}
        self._region_asked: dict[str, int] = {}
        self._regions_took: list[int] = []
        for group in groups:
            if group.received is not None and isinstance(group.received.body, AnswerCapacity):
                self._hear_region(group.received.body, group.entries[0].meta.now)
            for entry in group.entries:
                self._hear(entry.event, entry.meta.now)
        took = [answer.after for answer in self.answers.values() if answer and answer.declined is None]
        self.usual = Answer(int(median(took)) if took else _ASSUMED_MS, None)
        self.usually_lasted = int(median(self.lasted.values())) if self.lasted else _SERVED_MS
        self.regions_take = int(median(self._regions_took)) if self._regions_took else 0

    def _hear(self, event: Event, now: int) -> None:
        match event:
            case OfferMade():
                self._made[event.task] = event.service, now
                self.answers[event.referral, event.service] = None
            case CapacityRequested():
                self._region_asked[event.task] = now
            case AcceptanceClaimed():
                # How long the provider took, without the other region.
                self._region_asked[event.task] = now
                self._answered(event.referral, event.task, now, None)
            case OfferAccepted():
                self._answered(event.referral, event.task, now, None)
                self._accepted_at[event.referral] = now
            case OfferDeclined():
                self._answered(event.referral, event.task, now, event.reason)
            case ReferralClosed() if event.referral in self._accepted_at:
                self.lasted[event.referral] = now - self._accepted_at[event.referral]

    def _answered(self, referral: str, task: str, now: int, declined: DeclineReason | None) -> None:
        made = self._made.pop(task, None)
        if made is not None:
            service, at = made
            self.answers[referral, service] = Answer(now - at, declined)

    def _hear_region(self, body: AnswerCapacity, now: int) -> None:
        asked = self._region_asked.pop(body.task, None)
        if asked is not None:
            self._regions_took.append(now - asked)
