"""What a batch of decisions tells the metrics. Kept until it is committed: what was aborted is decided again, and told then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, get_args

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import (
    Entry,
    Event,
    MatchDecided,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    ReferralClosed,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DECLINES, URGENCIES, CloseReason, DeclineReason, OutcomeResult
from referral_bus.directory.taxonomy import categories
from referral_bus.runtime import metrics
from referral_bus.runtime.refusals import MostRefused
from services.matching.core.decide import AllOpened
from services.matching.core.state import Region

OTHER, FOUND, NONE = "other", "found", "none"

_RESULTS: Final = get_args(OutcomeResult)
_CLOSED_WITH: Final[dict[CloseReason, tuple[str, ...]]] = {
    "outcome_reported": _RESULTS,
    # A service that had begun goes on when its agency withdraws, and has an outcome in the end.
    "withdrawn": (NONE, *_RESULTS),
    "no_match": (NONE,),
    "offers_exhausted": (NONE,),
    "facts_unavailable": (NONE,),
    "time_over": (NONE,),
    # Joined of what came of the parts: services.matching.core.closing.
    "parts_closed": (NONE, "need_met", "partly_met", "not_met"),
}
"""What can come of a referral, by why it is closed."""
_ACKNOWLEDGED, _ACCEPTED, _STARTED = "acknowledged", "accepted", "started"

_MOST_REFUSED: Final = MostRefused("ledger")
_TAKES_NOTHING: Final = frozenset({SubmissionParked, SubmissionRepeated, SubmissionResumed})
"""Events that answer a submission without anything having come of it yet."""
# All from 0 on, so that the first is an increase.
for _need in {*categories().values(), OTHER}:
    for _result in (FOUND, NONE):
        metrics.NEEDS.labels(_need, _result)
for _reason, _results in _CLOSED_WITH.items():
    for _result in _results:
        metrics.CLOSED.labels(_reason, _result)
for _declined, _meant in DECLINES.items():
    metrics.DECLINED.labels(_meant.side, _declined)
for _stage in (_ACKNOWLEDGED, _ACCEPTED, _STARTED):
    for _urgency in URGENCIES:
        metrics.REFERRAL_SECONDS.labels(_stage, _urgency)


class _Decided(NamedTuple):
    type: str
    append_time: int


class _Stage(NamedTuple):
    stage: str
    urgency: str
    seconds: float


class Batch:
    """The decisions of one batch."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        """Events by type."""
        self._decided: list[_Decided] = []
        self._refusals: list[str] = []
        self._answered: list[tuple[str, str | None]] = []
        """Whose submissions were decided, in order, and with what reason they were refused, if they were."""
        self._stages: list[_Stage] = []
        self._unmatched: Counter[str] = Counter()
        self._closed: Counter[tuple[str, str]] = Counter()
        self._declined: Counter[DeclineReason] = Counter()
        self._needs: Counter[tuple[str, str]] = Counter()

    def decided(self, type: str, append_time: int) -> None:
        """A submission of this type was, which the log appended then (epoch milliseconds)."""
        self._decided.append(_Decided(type, append_time))

    def take(self, state: Region, entry: Entry, facts: AllOpened) -> None:
        """An event of a decision, of which all are folded into the region; ``facts`` are those it was made by."""
        kind = type(entry.event)
        self.events[kind.__name__] += 1
        if kind is MatchDecided:
            self._matched_for(entry.event, facts)
        told = _TOLD.get(kind)
        if told is not None:
            told(self, state, entry, entry.event)

    def answered(self, sender: str, events: Sequence[Event]) -> None:
        """A submission of this organisation was, by these events."""
        refused = next((event.reason for event in events if isinstance(event, SubmissionRefused)), None)
        if refused is not None or any(type(event) not in _TAKES_NOTHING for event in events):
            self._answered.append((sender, refused))

    def tell(self, now: int) -> None:
        """Count it: it is committed, and visible from ``now`` on."""
        for kind, count in Counter(decided.type for decided in self._decided).items():
            metrics.DECIDED.labels(type=kind).inc(count)
        for decided in self._decided:
            metrics.DECISION_SECONDS.observe(max(0, now - decided.append_time) / 1000)
        for refused in self._refusals:
            metrics.REFUSED.labels(reason=refused).inc()
        for source, reason in self._answered:
            if reason is None:
                _MOST_REFUSED.taken(source)
            else:
                _MOST_REFUSED.add(source, reason)
        for stage in self._stages:
            metrics.REFERRAL_SECONDS.labels(stage.stage, stage.urgency).observe(stage.seconds)
        for urgency, count in self._unmatched.items():
            metrics.UNMATCHED.labels(urgency=urgency).inc(count)
        for (why, result), count in self._closed.items():
            metrics.CLOSED.labels(reason=why, result=result).inc(count)
        for reason, count in self._declined.items():
            metrics.DECLINED.labels(side=DECLINES[reason].side, reason=reason).inc(count)
        for (need, result), count in self._needs.items():
            metrics.NEEDS.labels(need=need, result=result).inc(count)
        metrics.EXPIRED.inc(self.events[OfferExpired.__name__])

    def _refused(self, _: Region, entry: Entry, event: SubmissionRefused) -> None:
        self._refusals.append(event.reason)

    def _acknowledged(self, state: Region, entry: Entry, event: OfferAcknowledged) -> None:
        self._reached(state, event.referral, _ACKNOWLEDGED, entry.meta.now)

    def _accepted(self, state: Region, entry: Entry, event: OfferAccepted) -> None:
        self._reached(state, event.referral, _ACCEPTED, entry.meta.now)

    def _said_no(self, _: Region, __: Entry, event: OfferDeclined) -> None:
        self._declined[event.reason] += 1

    def _given_back(self, _: Region, __: Entry, event: TaskCancelled) -> None:
        if event.reason == "given_back" and event.because is not None:
            self._declined[event.because] += 1

    def _started(self, state: Region, _: Entry, event: ServiceStarted) -> None:
        self._reached(state, event.referral, _STARTED, event.started_at)

    def _matched(self, state: Region, _: Entry, event: MatchDecided) -> None:
        # The same decision may have closed it.
        known = state.referrals.get(event.referral) or state.closed.get(event.referral)
        if event.service is None and known is not None:
            self._unmatched[known.urgency] += 1

    def _matched_for(self, event: Any, facts: AllOpened) -> None:
        opened = facts.get(event.referral)
        if isinstance(opened, Facts):
            kinds = {categories().get((need.vocabulary, need.code), OTHER) for need in opened.needs}
            result = NONE if event.service is None else FOUND
            self._needs.update((kind, result) for kind in kinds)

    def _ended(self, _: Region, __: Entry, event: ReferralClosed) -> None:
        self._closed[event.reason, event.result or NONE] += 1

    def _reached(self, state: Region, referral: str, stage: str, at: int) -> None:
        # A start that is told of late says nothing of how long it took: when it was opened is not remembered.
        known = state.referrals.get(referral)
        if known is not None:
            self._stages.append(_Stage(stage, known.urgency, max(0, at - known.opened_at) / 1000))


_TOLD: Final[dict[type[Event], Callable[[Batch, Region, Entry, Any], None]]] = {
    SubmissionRefused: Batch._refused,
    OfferAcknowledged: Batch._acknowledged,
    OfferAccepted: Batch._accepted,
    OfferDeclined: Batch._said_no,
    TaskCancelled: Batch._given_back,
    ServiceStarted: Batch._started,
    MatchDecided: Batch._matched,
    ReferralClosed: Batch._ended,
}
"""What is told of besides that it happened. A table, since it is asked for each event of each decision."""
