"""How providers and other regions are taken to answer in a life that was not lived: as the ledger shows that they do.

A service that was asked for this very referral answers again as it did, time by time, after as long, or not at all. One that was not asked
accepts, after as long as acceptances took in the stretch on the whole; so does one whose offer ended before it had answered, though not
before it was known to be silent for. A service ends after as long as services took. Another region holds and gives the places it is asked
for, after as long as regions took.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.inbox import (
    AcceptOffer,
    AnswerCapacity,
    DeclineOffer,
    ProposeService,
    Submission,
)
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityRequested,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    Received,
    ReferralClosed,
    ReferralWithdrawn,
    ServiceProposed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DeclineReason

_HOUR_MS: Final = 3_600_000
_ASSUMED_MS: Final = _HOUR_MS
"""How long an acceptance is taken to have needed where the stretch shows none."""
_SERVED_MS: Final = 30 * 24 * _HOUR_MS
"""How long a service is taken to have lasted where the stretch shows none."""


class Recorded(NamedTuple):
    """The submission of a decision and what was decided, in the order of the ledger."""

    received: Received | None
    entries: list[Entry]


class Answer(NamedTuple):
    """How a service answered an offer, and after how long. ``cut_short``: something else ended the offer after so long, so that
    nobody knows what the answer would have been."""

    after: int
    kind: Literal["accepted", "declined", "proposed", "silent", "cut_short"]
    reason: DeclineReason = "other"
    until: int | None = None
    """The date until which it declined."""
    service: str = ""
    """What it proposed instead."""

    def body(self, task: str) -> Submission | None:
        """The answer, given to this task; None: nothing is said."""
        match self.kind:
            case "accepted":
                return AcceptOffer(task=task)
            case "declined":
                return DeclineOffer(task=task, reason=self.reason, until=self.until)
            case "proposed":
                return ProposeService(task=task, service=self.service)
            case _:
                return None


_NONE_YET: Final = Answer(0, "silent")
"""Of an offer that is open when the stretch ends: it was not answered in it."""


class Expected(NamedTuple):
    """What a service is taken to answer, and whether that is assumed: it was not asked this, or did not come to answer."""

    answer: Answer
    assumed: bool


class Behaviour:
    """How services answered in a stretch, by referral and service, and how long things took on the whole."""

    def __init__(self, groups: Sequence[Recorded]) -> None:
        self._lasted: dict[str, int] = {}
        self._answers: defaultdict[tuple[str, str], dict[str, Answer]] = defaultdict(dict)
        """By task, in the order in which they were offered."""
        self._given: Counter[tuple[str, str]] = Counter()
        self._made: dict[str, tuple[tuple[str, str], int]] = {}
        """The offers that are open: to whom, and since when."""
        self._accepted_at: dict[str, int] = {}
        self._region_asked: dict[str, int] = {}
        self._regions_took: list[int] = []
        self._end = groups[-1].entries[-1].meta.now if groups else 0
        for group in groups:
            if group.received is not None and isinstance(group.received.body, AnswerCapacity):
                self._hear_region(group.received.body, group.entries[0].meta.now)
            for entry in group.entries:
                self._hear(entry.event, entry.meta.now)
        took = [
            one.after for found in self._answers.values() for one in found.values() if one.kind == "accepted"
        ]
        self.usual = Answer(int(median(took)) if took else _ASSUMED_MS, "accepted")
        self._usually_lasted = int(median(self._lasted.values())) if self._lasted else _SERVED_MS
        self.regions_take = int(median(self._regions_took)) if self._regions_took else 0

    def answer(self, referral: str, service: str, now: int) -> Expected:
        """What the service says when it is asked for the referral now: what it said when it was asked as often before. Asked more often
        than it was, it says again what it said last."""
        asked = referral, service
        known = list(self._answers.get(asked, {}).values())
        number = self._given[asked]
        while number < len(known) and _is_past(known[number], now):
            number += 1
        self._given[asked] = number + 1
        if number >= len(known):
            last = known[-1] if known else self.usual
            says_again = last.kind != "cut_short" and last.until is None
            return Expected(last if says_again else self.usual, assumed=True)
        answer = known[number]
        if answer.kind == "cut_short":
            return Expected(self.usual._replace(after=max(self.usual.after, answer.after + 1)), assumed=True)
        return Expected(answer, assumed=False)

    def lasts(self, referral: str) -> int:
        """How long the service lasts. One that was not over when the stretch ended is not over sooner than that."""
        if (lasted := self._lasted.get(referral)) is not None:
            return lasted
        begun = self._accepted_at.get(referral, self._end)
        return max(self._usually_lasted, self._end - begun + 1)

    def _hear(self, event: Event, now: int) -> None:
        match event:
            case OfferMade():
                self._made[event.task] = (event.referral, event.service), now
                # Its place in the order, whatever is answered first.
                self._answers[event.referral, event.service][event.task] = _NONE_YET
            case CapacityRequested():
                self._region_asked[event.task] = now
            case AcceptanceClaimed():
                # How long the provider took, without the other region.
                self._region_asked[event.task] = now
                self._ended(event.task, now, "accepted")
            case OfferAccepted():
                self._ended(event.task, now, "accepted")
                self._accepted_at[event.referral] = now
            case OfferDeclined():
                self._ended(event.task, now, "declined", reason=event.reason, until=event.until)
            case ServiceProposed():
                self._ended(event.task, now, "proposed", service=event.service)
            case OfferExpired():
                self._ended(event.task, now, "silent")
            case TaskCancelled():
                self._ended(event.task, now, "cut_short")
            case ReferralWithdrawn() if event.task is not None:
                self._ended(event.task, now, "cut_short")
            case ReferralClosed() if event.referral in self._accepted_at:
                self._lasted[event.referral] = now - self._accepted_at[event.referral]

    def _ended(
        self,
        task: str,
        now: int,
        kind: Literal["accepted", "declined", "proposed", "silent", "cut_short"],
        *,
        reason: DeclineReason = "other",
        until: int | None = None,
        service: str = "",
    ) -> None:
        """An offer is over, unless it was before: an acceptance may end as well."""
        made = self._made.pop(task, None)
        if made is not None:
            asked, at = made
            self._answers[asked][task] = Answer(now - at, kind, reason, until, service)

    def _hear_region(self, body: AnswerCapacity, now: int) -> None:
        asked = self._region_asked.pop(body.task, None)
        if asked is not None:
            self._regions_took.append(now - asked)


def _is_past(answer: Answer, now: int) -> bool:
    """Whether the date until which it declined would be over when it said so, so that it would not have."""
    return answer.until is not None and answer.until <= now + answer.after
