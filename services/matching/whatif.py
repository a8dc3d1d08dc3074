"""What would have been under another policy: a stretch of the ledger lived again, with the same people asking and other services asked.

What agencies and operations said is replayed as it was said. What providers answered can't be: another service is asked. Each is taken to
behave as the ledger shows: a service that was asked for this very referral answers again as it did, after as long, or not at all; one that
was not asked accepts, after as long as acceptances took in the stretch on the whole, and ends the service after as long as services took.
The report says how many answers had to be assumed. Figures about fewer than :data:`FEW` people are not shown: they could be somebody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from statistics import median
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    HoldReferral,
    ProposeService,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    ResumeReferral,
    Submission,
    SubmitReferral,
    Tick,
)
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferMade,
    Received,
    ReferralClosed,
    ReferralOpened,
)
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabulary import DECLINES, DeclineReason
from referral_bus.log.port import Log
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import admitted_again
from services.matching.chain import Chain
from services.matching.core.decide import (
    AllOpened,
    WantedFacts,
    call,
    decide,
    resume,
    wanted_facts,
    wanted_for,
)
from services.matching.core.fold import fold
from services.matching.core.state import Region
from services.matching.verify import begins, whole_ledger

FEW: Final = 5
"""Groups of fewer people are told together."""
_HOUR_MS: Final = 3_600_000
_ASSUMED_MS: Final = _HOUR_MS
"""How long an acceptance is taken to have needed where the stretch shows none."""
_PARKING: Final = frozenset(reason for reason, means in DECLINES.items() if means.then == "park")
"""Reasons that need a date, which a life that was not lived has none for: they count as a plain no."""
_SERVED_MS: Final = 30 * 24 * _HOUR_MS
"""How long a service is taken to have lasted where the stretch shows none."""

_OF_PROVIDERS = (
    AcknowledgeOffer
    | AcceptOffer
    | DeclineOffer
    | AskForInformation
    | ProposeService
    | ReportServiceStart
    | ReportNoShow
    | ReportContact
    | ConfirmHandoff
    | ReportOutcome
    | ReportFollowUp
    | Tick
)

Opening = Callable[[Iterable[WantedFacts]], Awaitable[AllOpened]]


class Answer(NamedTuple):
    """How a service answered a referral: after how long, and why it declined (None: it accepted). Silence has no answer."""

    after: int
    declined: DeclineReason | None


@dataclass(slots=True)
class Person:
    """What a referral is counted under."""

    urgency: str
    language: str = "not said"
    area: str = "not said"


@dataclass(slots=True)
class Course:
    """What became of the referrals of a stretch: when each was opened, and when and by which service it was accepted."""

    opened: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, tuple[int, str]] = field(default_factory=dict)
    offers: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> list[int]:
        """From opening to acceptance, in milliseconds."""
        return [at - self.opened[name] for name, (at, _) in self.accepted.items() if name in self.opened]


class Group(NamedTuple):
    """Referrals that have something in common: how many, and how many were and would have been accepted."""

    name: str
    referrals: int
    was: int
    would: int


@dataclass(slots=True)
class Comparison:
    """A stretch as it was, and as it would have been."""

    was: Course = field(default_factory=Course)
    would: Course = field(default_factory=Course)
    people: dict[str, Person] = field(default_factory=dict)
    assumed: int = 0
    """Answers of services that were never asked, which had to be assumed."""

    def groups(self, by: Literal["urgency", "language", "area"]) -> list[Group]:
        """The referrals by what they have in common; small groups are told as one, or not at all."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for name in self.was.opened:
            counts[getattr(self.people[name], by)].update(
                referrals=1, was=name in self.was.accepted, would=name in self.would.accepted
            )
        shown = [Group(name, **row) for name, row in sorted(counts.items()) if row["referrals"] >= FEW]
        small = sum((row for row in counts.values() if row["referrals"] < FEW), Counter[str]())
        if small["referrals"] >= FEW:
            shown.append(
                Group("all smaller groups together", small["referrals"], small["was"], small["would"])
            )
        return shown


class Recorded(NamedTuple):
    """The submission of a decision and what was decided, in the order of the ledger."""

    received: Received | None
    entries: list[Entry]


class _Behaviour:
    """How services answered in the stretch, by referral and service, and how long things took on the whole."""

    def __init__(self, groups: Sequence[Recorded]) -> None:
        made: dict[str, tuple[str, int]] = {}
        self.answers: dict[tuple[str, str], Answer | None] = {}
        self.lasted: dict[str, int] = {}
        accepted_at: dict[str, int] = {}
        for group in groups:
            for entry in group.entries:
                event, now = entry.event, entry.meta.now
                match event:
                    case OfferMade():
                        made[event.task] = event.service, now
                        self.answers[event.referral, event.service] = None
                    case OfferAccepted() if event.task in made:
                        service, at = made[event.task]
                        self.answers[event.referral, service] = Answer(now - at, None)
                        accepted_at[event.referral] = now
                    case OfferDeclined() if event.task in made:
                        service, at = made[event.task]
                        self.answers[event.referral, service] = Answer(now - at, event.reason)
                    case ReferralClosed() if event.referral in accepted_at:
                        self.lasted[event.referral] = now - accepted_at[event.referral]
        took = [answer.after for answer in self.answers.values() if answer and answer.declined is None]
        self.usual = Answer(int(median(took)) if took else _ASSUMED_MS, None)
        self.usually_lasted = int(median(self.lasted.values())) if self.lasted else _SERVED_MS


class _Due(NamedTuple):
    at: int
    number: int
    source: str
    body: Submission


class Stretch:
    """One region's stretch, lived again under ``policy``. ``start`` is the region as it was when the stretch began; it is changed."""

    def __init__(
        self, start: Region, policy: Policy, groups: Sequence[Recorded], opened: Opening, codec: Codec
    ) -> None:
        self._state = start
        self._codec = codec
        self._state.policy = policy
        self._groups = groups
        self._opened = opened
        self._behaviour = _Behaviour(groups)
        self._coming: list[_Due] = []
        self._number = 0
        self.comparison = Comparison()

    async def live(self) -> Comparison:
        """Live it to its end, which is when the last recorded submission came."""
        for group in self._groups:
            self._count(group.entries, self.comparison.was)
            received = group.received
            if (
                received is None
                or isinstance(received.body, _OF_PROVIDERS)
                or self._says_a_policy(received.body)
            ):
                continue
            if isinstance(received.body, HoldReferral | ResumeReferral) and not self._is_own(received):
                continue
            await self._until(received.admitted.append_time)
            await self._say(received)
        if self._groups:
            await self._until(max(entry.meta.now for group in self._groups for entry in group.entries))
        return self.comparison

    @staticmethod
    def _says_a_policy(body: Submission) -> bool:
        return getattr(body, "policy", None) is not None

    def _is_own(self, received: Received) -> bool:
        known = self._state.referrals.get(getattr(received.body, "referral", ""))
        return known is not None and known.agency == received.admitted.source

    async def _until(self, moment: int) -> None:
        """Everything that falls due, and everything providers say, before the moment."""
        while True:
            due = self._state.next_due()
            first = self._coming[0].at if self._coming else None
            if due is not None and due.at <= moment and (first is None or due.at <= first):
                await self._tick(due.at)
            elif first is not None and first <= moment:
                coming = heappop(self._coming)
                await self._say(self._received(coming.body, coming.source, coming.at))
            else:
                return

    async def _tick(self, at: int) -> None:
        received = self._received(Tick(region=self._state.region, due=at), "matching", at)
        while await self._say(received):
            pass

    async def _say(self, received: Received) -> list[Event]:
        state, now = self._state, max(self._state.now, received.admitted.append_time)
        facts = await self._opened(wanted_facts(state, received, now))
        self._person(received.body, facts)
        events = decide(state, received, now, facts)
        self._take(events, received.admitted, now)
        while True:
            if state.ready:
                sequence = state.ready[0]
                again = admitted_again(state.parked[sequence].admitted, self._codec)
                facts = await self._opened(wanted_facts(state, again, now))
                self._take(resume(state, sequence, again, now, facts), None, now)
            elif (called := state.next_call()) is not None:
                facts = await self._opened(wanted_for(state, called))
                self._take(call(state, called, now, facts), None, now)
            else:
                return events

    def _take(self, events: Sequence[Event], admitted: Admitted | None, now: int) -> None:
        state, entries = self._state, []
        for event in events:
            meta = Meta(
                region=state.region,
                sequence=state.sequence + 1,
                prev_hash=state.last_hash,
                decided_through=max(0, state.decided_through),
                now=now,
                rules=state.rules,
                submission=admitted,
            )
            entry = Entry(meta, event)
            fold(state, entry)
            entries.append(entry)
            admitted = None
        self._count(entries, self.comparison.would)
        for entry in entries:
            self._expect(entry.event, now)

    def _expect(self, event: Event, now: int) -> None:
        """What the provider will say to it."""
        match event:
            case OfferMade():
                known = (event.referral, event.service) in self._behaviour.answers
                answer = self._behaviour.answers.get((event.referral, event.service), self._behaviour.usual)
                self.comparison.assumed += not known
                if answer is None:
                    return
                body: Submission = AcceptOffer(task=event.task)
                if answer.declined is not None:
                    reason = "other" if answer.declined in _PARKING else answer.declined
                    body = DeclineOffer(task=event.task, reason=reason)
                self._later(now + answer.after, event.provider, body)
            case OfferAccepted():
                lasts = self._behaviour.lasted.get(event.referral, self._behaviour.usually_lasted)
                self._later(
                    now + lasts, event.provider, ReportOutcome(referral=event.referral, result="need_met")
                )

    def _later(self, at: int, source: str, body: Submission) -> None:
        self._number += 1
        heappush(self._coming, _Due(at, self._number, source, body))

    def _received(self, body: Submission, source: str, at: int) -> Received:
        self._number += 1
        admitted = Admitted(
            type=body.event_type(),
            id=f"whatif-{self._number}",
            source=source,
            digest=b"",
            sent_at=at,
            partition=0,
            offset=max(0, self._state.decided_through),
            append_time=at,
            value=b"",
        )
        return Received(admitted, body)

    def _person(self, body: Submission, facts: AllOpened) -> None:
        if isinstance(body, SubmitReferral):
            person = Person(body.urgency)
            known = facts.get(body.referral)
            if isinstance(known, Facts):
                person.language = (known.languages.values or ["not said"])[0]
                person.area = known.area.value or "not said"
            self.comparison.people.setdefault(body.referral, person)

    @staticmethod
    def _count(entries: Iterable[Entry], course: Course) -> None:
        for entry in entries:
            event, now = entry.event, entry.meta.now
            match event:
                case ReferralOpened() if event.part_of is None:
                    course.opened.setdefault(event.referral, now)
                case OfferMade():
                    course.offers[event.service] += 1
                case OfferAccepted() if event.referral in course.opened:
                    course.accepted.setdefault(event.referral, (now, event.provider))


async def compare(
    log: Log, topic: str, codec: Codec, opened: Opening, policy: Policy, since: int, until: int
) -> list[tuple[str, Comparison]]:
    """Each region's stretch of the ledger from ``since`` to ``until`` (epoch milliseconds, UTC) as it was and as it would have been. Raises
    LogError, KeyStoreError, and LedgerDamaged where a chain breaks."""
    chains: dict[str, Chain] = {}
    groups: dict[str, list[Recorded]] = {}
    async for record, _ in whole_ledger(log, topic):
        value = record.value or b""
        entry = codec.decode_entry(value)
        region, at = entry.meta.region, entry.meta.now
        if at >= until:
            continue
        chain = chains.setdefault(region, Chain(Region(region)))
        own = groups.setdefault(region, [])
        if not own and (at < since or not begins(entry)):
            chain.take(entry, value)
        elif begins(entry):
            admitted = entry.meta.submission
            own.append(Recorded(None if admitted is None else admitted_again(admitted, codec), [entry]))
        else:
            own[-1].entries.append(entry)
    return [
        (region, await Stretch(chains[region].state, policy, own, opened, codec).live())
        for region, own in sorted(groups.items())
        if own
    ]


_BYS: Final[tuple[Literal["urgency", "language", "area"], ...]] = ("urgency", "language", "area")


def comparison_as_json(compared: Comparison) -> dict[str, object]:
    """The comparison as plain values; times are milliseconds."""
    return {
        "referrals": len(compared.was.opened),
        "answers_assumed": compared.assumed,
        "accepted": {"was": len(compared.was.accepted), "would": len(compared.would.accepted)},
        "median_wait_ms": {"was": _median(compared.was.waits), "would": _median(compared.would.waits)},
        "only_was": len(compared.was.accepted.keys() - compared.would.accepted.keys()),
        "only_would": len(compared.would.accepted.keys() - compared.was.accepted.keys()),
        "elsewhere": _elsewhere(compared),
        "by": {by: [group._asdict() for group in compared.groups(by)] for by in _BYS},
    }


def comparison_lines(region: str, compared: Comparison) -> list[str]:
    """The comparison in sentences."""
    was, would = compared.was, compared.would
    return [
        f"Region {region}: {len(was.opened)} referrals. {compared.assumed} answers of services that were not asked are assumed.",
        f"  accepted: {len(was.accepted)} as it was, {len(would.accepted)} as it would have been"
        f" ({len(would.accepted.keys() - was.accepted.keys())} gained, {len(was.accepted.keys() - would.accepted.keys())} lost,"
        f" {_elsewhere(compared)} by another provider)",
        f"  median wait: {_median(was.waits) / 60_000:.1f} min as it was, {_median(would.waits) / 60_000:.1f} min as it would have been",
        *(
            f"  {by} {group.name}: {group.referrals} referrals, {group.was} accepted as it was, {group.would} as it would have been"
            for by in _BYS
            for group in compared.groups(by)
        ),
    ]


def _median(waits: Sequence[int]) -> int:
    return int(median(waits)) if waits else 0


def _elsewhere(compared: Comparison) -> int:
    was, would = compared.was.accepted, compared.would.accepted
    return sum(was[name][1] != would[name][1] for name in was.keys() & would.keys())
