"""One region's stretch of the ledger, lived again under another policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AnswerCapacity,
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
    RetractReport,
    Submission,
    Tick,
)
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    Admitted,
    CapacityRequested,
    Entry,
    Event,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    Received,
    ReferralOpened,
    ReferralSplit,
    ServiceProposed,
    SubmissionRefused,
)
from referral_bus.contracts.reference import Policy
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
    too_large,
    wanted_facts,
    wanted_for,
)
from services.matching.core.fold import fold
from services.matching.core.state import Region
from services.matching.relay import SOURCE
from services.matching.verify import begins, whole_ledger
from services.matching.whatif.behaviour import Behaviour, Recorded
from services.matching.whatif.comparison import NOT_SAID, Comparison, Person

_ANSWERS: Final = (
    AcknowledgeOffer,
    AcceptOffer,
    DeclineOffer,
    AskForInformation,
    ProposeService,
    ReportServiceStart,
    ReportNoShow,
    ReportContact,
    ConfirmHandoff,
    ReportOutcome,
    ReportFollowUp,
    RetractReport,
    AnswerCapacity,
)
"""What is said of an offer or an acceptance, which in another life is one of another service, under the same id."""

_ANSWERED: Final = (OfferAccepted, AcceptanceClaimed, OfferDeclined, ServiceProposed, OfferExpired)
"""How an offer ends by what its provider says to it, or does not say in time."""

Opening = Callable[[Iterable[WantedFacts]], Awaitable[AllOpened]]


class _Due(NamedTuple):
    at: int
    number: int
    source: str
    said: Submission | CapacityRequested | AcceptanceClaimed
    """What is said then, or what another region answers then."""


class Stretch:
    """One region's stretch, lived again under ``policy``. ``start`` is the region as it was when the stretch began; it is changed."""

    def __init__(
        self, start: Region, policy: Policy, groups: Sequence[Recorded], opened: Opening, codec: Codec
    ) -> None:
        self._state = start
        self._codec = codec
        self._begun = _begun(start)
        self._state.policy = policy
        self._groups = groups
        self._opened = opened
        self._behaviour = Behaviour(groups)
        self._coming: list[_Due] = []
        self._assumed: set[str] = set()
        """The open offers whose answer is assumed."""
        self._claimed: set[str] = set()
        """The acceptances that another region is asked to let be: its answer is assumed too."""
        self._number = 0
        self.comparison = Comparison()

    async def live(self) -> Comparison:
        """Live it to its end, which is when the last recorded submission came."""
        await self._meet()
        for group in self._groups:
            self.comparison.was.take(group.entries, self.comparison.people)
        for group in self._groups:
            if group.received is not None:
                await self._until(group.received.admitted.append_time)
                if _was_too_large(group):
                    admitted = group.received.admitted
                    self._take(too_large(), admitted, max(self._state.now, admitted.append_time))
                elif self._says_the_same(group.received):
                    await self._say(group.received)
        if self._groups:
            await self._until(max(entry.meta.now for group in self._groups for entry in group.entries))
        self.comparison.leave_out_split_once()
        return self.comparison

    async def _meet(self) -> None:
        """Whose referrals were opened. Who was forgotten since can't be matched again."""
        split = {
            entry.event.referral
            for group in self._groups
            for entry in group.entries
            if isinstance(entry.event, ReferralSplit)
        }
        opened = {
            entry.event.referral: entry.event
            for group in self._groups
            for entry in group.entries
            if isinstance(entry.event, ReferralOpened)
        }
        facts = await self._opened(
            [WantedFacts(name, event.subject, event.sealed_facts) for name, event in opened.items()]
        )
        for name, event in opened.items():
            known = facts.get(name)
            if isinstance(known, Facts):
                language, area = (known.languages.values or [NOT_SAID])[0], known.area.value or NOT_SAID
                self.comparison.people[name] = Person(event.subject, event.urgency, language, area)
            elif name not in split:
                self.comparison.erased += 1

    def _says_the_same(self, received: Received) -> bool:
        """Whether it would have been said in any life."""
        body = received.body
        if isinstance(body, Tick) or getattr(body, "policy", None) is not None:
            return False
        if isinstance(body, _ANSWERS):
            return self._had_begun(body)
        if isinstance(body, HoldReferral | ResumeReferral):
            known = self._state.referrals.get(body.referral)
            is_own = known is not None and known.agency == received.admitted.source
            return is_own or self._had_begun(body)
        return True

    def _had_begun(self, body: Submission) -> bool:
        return not self._begun.isdisjoint({getattr(body, "task", None), getattr(body, "referral", None)})

    async def _until(self, moment: int) -> None:
        """Everything that falls due, and everything providers and other regions say, before the moment."""
        while True:
            due = self._state.next_due()
            first = self._coming[0].at if self._coming else None
            if due is not None and due.at <= moment and (first is None or due.at <= first):
                await self._tick(due.at)
            elif first is not None and first <= moment:
                coming = heappop(self._coming)
                said = coming.said
                body = said if isinstance(said, Submission) else self._answer_of_region(said)
                await self._say(self._received(body, coming.source, coming.at))
            else:
                return

    async def _tick(self, at: int) -> None:
        received = self._received(Tick(region=self._state.region, due=at), "matching", at)
        while await self._say(received):
            pass

    async def _say(self, received: Received) -> list[Event]:
        state, now = self._state, max(self._state.now, received.admitted.append_time)
        facts = await self._opened(wanted_facts(state, received, now))
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
        self.comparison.would.take(entries, self.comparison.people)
        for entry in entries:
            self._expect(entry.event, now)

    def _expect(self, event: Event, now: int) -> None:
        """What the provider, or the other region, will say to it."""
        behaviour = self._behaviour
        if isinstance(event, AcceptanceClaimed):
            self._claimed.add(event.task)
        elif isinstance(event, OfferAccepted) and event.task in self._assumed | self._claimed:
            first = self.comparison.would.accepted.get(event.referral)
            if first is not None and first.task == event.task:
                self.comparison.taken_by_assumption.add(event.referral)
        if isinstance(event, _ANSWERED) and event.task in self._assumed:
            # Where something else ends the offer first, nothing was assumed.
            self._assumed.discard(event.task)
            self.comparison.assumed += 1
        match event:
            case OfferMade():
                answer, assumed = behaviour.answer(event.referral, event.service, now)
                if assumed:
                    self._assumed.add(event.task)
                if (said := answer.body(event.task)) is not None:
                    self._later(now + answer.after, event.provider, said)
            case CapacityRequested() | AcceptanceClaimed():
                self.comparison.assumed += 1
                self._later(now + behaviour.regions_take, SOURCE, event)
            case OfferAccepted():
                ended = ReportOutcome(referral=event.referral, result="need_met")
                self._later(now + behaviour.lasts(event.referral), event.provider, ended)

    def _later(self, at: int, source: str, said: Submission | CapacityRequested | AcceptanceClaimed) -> None:
        self._number += 1
        heappush(self._coming, _Due(at, self._number, source, said))

    def _answer_of_region(self, asked: CapacityRequested | AcceptanceClaimed) -> AnswerCapacity:
        """The region gives the place unless, as far as is known here when it answers, it has none. The task holds one already."""
        unit = self._state.units[asked.unit]
        taking = isinstance(asked, AcceptanceClaimed)
        return AnswerCapacity(
            task=asked.task,
            unit=asked.unit,
            answer="taken" if taking else "held" if unit.free >= 0 else "denied",
            total=unit.total,
            room=max(0, unit.total + unit.overbook - unit.taken - taking),
        )

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


def _was_too_large(group: Recorded) -> bool:
    """Whether it was refused for its size, which deciding does not look at: under any policy it would have been."""
    first = group.entries[0].event
    return isinstance(first, SubmissionRefused) and first.reason == "too_large"


def _begun(start: Region) -> frozenset[str]:
    """The tasks that wait for an answer or are served, and the referrals that are served: what is said of them is said in any life."""
    begun: set[str] = set()
    for name, known in start.referrals.items():
        if known.acceptance is not None:
            begun.add(name)
        begun.update(
            task_id(name, number)
            for number, task in enumerate(known.tasks, known.before + 1)
            if task.is_open or task.is_taken
        )
    return frozenset(begun)


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
