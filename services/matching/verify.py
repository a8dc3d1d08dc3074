"""Deciding the ledger again, from the ledger alone: does every event come out the same, byte for byte, and does the chain hold?

Where a person's key was destroyed since, the facts can't be opened and the match that read them can't be decided again. What doesn't hang
on them is checked as ever, of a decision about others too as far as it is about them; what does is held against what it could have come to
for anybody. It is counted as erased if it is right so far, and everything after it is decided from what the ledger says.

A window's assignment is not found again: its recorded prices must prove that none is better. So a solver that errs is found out, this
version's too, and one that finds another assignment as good is no reason to call an old ledger wrong (decision 0021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    Meta,
    Received,
    ReferralCalled,
    SubmissionRefused,
    SubmissionResumed,
    WindowClosed,
)
from referral_bus.log.port import Log, Partition, Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from referral_bus.wire.inbox import admitted_again
from services.matching.chain import Chain, LedgerDamaged
from services.matching.core.decide import (
    AllOpened,
    WantedFacts,
    call,
    decide,
    gave_up_calling,
    gave_up_deciding,
    gave_up_due,
    gave_up_resuming,
    resume,
    too_large,
    wanted_facts,
    wanted_for,
)
from services.matching.core.decide.gathering import proved
from services.matching.core.fold import UnknownEvent
from services.matching.core.rules import SUPPORTED, UnsupportedRules
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.in_part import in_part

MOST_SHOWN: Final = 20
_READ_AT_ONCE: Final = 1000
_READ_SECONDS: Final = 2.0
_TOO_LARGE: Final = 515_072
"""Bytes above which something was ever refused for its size: what fits now did not always."""

Outcome = Literal["same", "different", "erased", "no_key", "gave_up"]


class Recorded(NamedTuple):
    """An event as it stands on the ledger."""

    entry: Entry
    value: bytes
    where: str


@dataclass(slots=True)
class Report:
    """What came of it. ``differences`` says where the first ones are, ``broken`` where a chain can't be followed further, ``unfinished``
    where a region ends with somebody's turn not come yet: a ledger that was cut there is as true as one that goes on. ``gave_up`` says of
    the first decisions that matching failed on where they are, and what they come to now."""

    events: int = 0
    regions: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Decisions by what came of deciding them again."""
    read_facts: Counter[Outcome] = field(default_factory=Counter)
    """The same of those alone that read somebody's facts: the matches."""
    differences: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is different, every chain holds, and it was not for want of keys that no match could be decided again."""
        blind = self.no_match_checked and self.read_facts["no_key"] > 0
        return not (self.broken or self.outcomes["different"] or blind)

    @property
    def no_match_checked(self) -> bool:
        """Whether facts were read, and none of them can be opened now."""
        return bool(self.read_facts) and not (self.read_facts["same"] or self.read_facts["different"])


class Verifier:
    """Decides the regions of a ledger again, decision by decision."""

    def __init__(self, codec: Codec, opener: FactsOpener) -> None:
        self.report = Report()
        self._codec = codec
        self._opener = opener
        self._chains: dict[str, Chain] = {}
        self._open: dict[str, list[Recorded]] = {}
        self._lost: set[str] = set()

    async def take(self, record: Record) -> None:
        """The partition's next record."""
        where = f"{record.topic}/{record.partition}/{record.offset}"
        value = record.value or b""
        try:
            entry = self._codec.decode_entry(value)
        except WireError as error:
            self.report.broken.append(f"{where} can't be read: {error}")
            return
        self.report.events += 1
        region = entry.meta.region
        if region in self._lost:
            return
        group = self._open.setdefault(region, [])
        if group and begins(entry):
            await self._decide_again(region, group)
            group = self._open[region] = []
        group.append(Recorded(entry, value, where))

    async def end(self) -> Report:
        """Nothing more comes."""
        for region, group in self._open.items():
            if group and region not in self._lost:
                await self._decide_again(region, group)
            if region not in self._lost and (waits := awaited(self._chains[region].state)) is not None:
                self.report.unfinished.append(f"region {region} ends before the turn of {waits}")
        self.report.regions = len(self._open)
        return self.report

    async def _decide_again(self, region: str, group: Sequence[Recorded]) -> None:
        chain = self._chains.setdefault(region, Chain(Region(region)))
        try:
            outcome = await self._outcome(chain, group)
            for recorded in group:
                chain.take(recorded.entry, recorded.value)
        except (LedgerDamaged, UnknownEvent, UnsupportedRules, LookupError, ValueError, TypeError) as error:
            # A ledger somebody has changed can be wrong in any way; none of it may end the check of the other regions.
            self._lost.add(region)
            self.report.broken.append(
                f"{group[0].where}: {error or type(error).__name__}; region {region} is not checked further"
            )
            return
        self.report.outcomes[outcome] += 1
        if outcome == "different" and len(self.report.differences) < MOST_SHOWN:
            self.report.differences.append(_place(group))

    async def _outcome(self, chain: Chain, group: Sequence[Recorded]) -> Outcome:
        state, first = chain.state, group[0].entry
        admitted, event = first.meta.submission, first.event
        now, decided_through = state.now, state.decided_through
        wanted: list[WantedFacts]
        again: Callable[[AllOpened], list[Event]]
        failed: list[Event]
        if admitted is not None and awaited(state) is not None:
            # Somebody's turn was passed over: whoever was decided first may have had the place.
            return "different"
        if admitted is not None:
            submission = admitted_again(admitted, self._codec)
            now, decided_through = max(state.now, admitted.append_time), admitted.offset
            wanted = wanted_facts(state, submission, now)
            supported = _supported_then(submission, event)
            again = partial(_decided, state, submission, now, supported, event, len(admitted.value))
            failed = gave_up_due(state, now) if isinstance(submission.body, Tick) else gave_up_deciding()
        elif isinstance(event, SubmissionResumed) and list(state.ready)[:1] == [event.parked]:
            submission = admitted_again(state.parked[event.parked].admitted, self._codec)
            wanted = wanted_facts(state, submission, now)
            supported = _supported_then(submission, event)
            again = partial(resume, state, event.parked, submission, now, supported=supported)
            failed = gave_up_resuming(event.parked)
        elif (
            isinstance(event, ReferralCalled)
            and not state.ready
            and (called := state.next_call()) is not None
        ):
            wanted = wanted_for(state, called)
            again = partial(call, state, called, now)
            failed = gave_up_calling(called, now)
        else:
            return "different"
        facts = await self._opener.open(wanted)
        encoded = partial(
            self._encoded, chain, group=group, admitted=admitted, decided_through=decided_through, now=now
        )
        recorded, events = [one.value for one in group], [one.entry.event for one in group]
        if events == failed and encoded(failed) == recorded:
            if len(self.report.gave_up) < MOST_SHOWN:
                self.report.gave_up.append(f"{_place(group)}: {_comes_to(again, facts)}")
            return "gave_up"
        outcome: Outcome = "same" if encoded(again(facts)) == recorded else "different"
        gone = {opened for opened in facts.values() if isinstance(opened, str)}
        if outcome == "different" and gone:
            known = in_part(state, now, facts, again, events)
            if known is not None and encoded(known.events) == recorded:
                outcome = "same" if known.wholly else "erased" if "erased" in gone else "no_key"
        if wanted:
            self.report.read_facts[outcome] += 1
        return outcome

    def _encoded(
        self,
        chain: Chain,
        events: Sequence[Event],
        group: Sequence[Recorded],
        admitted: Admitted | None,
        decided_through: int,
        now: int,
    ) -> list[bytes]:
        """The events as they would have been written here. Each hash is that of the recorded event before it: if that one came out
        another, it was said already."""
        values: list[bytes] = []
        for number, event in enumerate(events):
            like = group[number] if number < len(group) else None
            meta = Meta(
                region=chain.state.region,
                sequence=chain.state.sequence + 1 + number,
                prev_hash=chain.prev_hash if number == 0 else _hash_before(group, number),
                decided_through=decided_through,
                now=now,
                rules=chain.state.rules,
                submission=admitted if number == 0 else None,
            )
            values.append(self._codec.encode_entry(Entry(meta, event), None if like is None else like.value))
        return values


def _decided(
    state: Region,
    submission: Received,
    now: int,
    supported: frozenset[int],
    recorded: Event,
    size: int,
    facts: AllOpened,
) -> list[Event]:
    if isinstance(recorded, SubmissionRefused) and recorded.reason == "too_large" and size > _TOO_LARGE:
        return too_large()
    events = decide(state, submission, now, facts, supported)
    if isinstance(recorded, WindowClosed) and events and isinstance(events[0], WindowClosed):
        return _proved(state, recorded, now, facts)
    return events


def _comes_to(again: Callable[[AllOpened], list[Event]], facts: AllOpened) -> str:
    """What a decision that matching failed on comes to now, in words."""
    if any(isinstance(opened, str) for opened in facts.values()):
        return "its facts can't be opened now"
    try:
        events = again(facts)
    except Exception as error:  # whatever it is, it is what was told of then
        return f"it fails now too ({type(error).__name__})"
    return f"it comes to {', '.join(type(event).__name__ for event in events)} now"


def _place(group: Sequence[Recorded]) -> str:
    meta = group[0].entry.meta
    return f"{group[0].where}: region {meta.region}, sequence {meta.sequence}"


def _proved(state: Region, recorded: WindowClosed, now: int, facts: AllOpened) -> list[Event]:
    """The closing of a window as it should stand there, if it is proved; else nothing."""
    again = None if state.policy is None else proved(state, state.policy, now, facts, recorded)
    return [] if again is None else [again]


def awaited(state: Region) -> str | None:
    """Whose turn it is before anything else may be decided, in words."""
    if state.ready:
        return f"what was parked at sequence {state.ready[0]}"
    called = state.next_call()
    return None if called is None else called.referral


def begins(entry: Entry) -> bool:
    """Whether a decision begins with this event."""
    return entry.meta.submission is not None or isinstance(entry.event, SubmissionResumed | ReferralCalled)


def _hash_before(group: Sequence[Recorded], number: int) -> bytes:
    return group[number].entry.meta.prev_hash if number < len(group) else bytes(32)


def _supported_then(submission: Received, recorded: Event) -> frozenset[int]:
    """The rules that the deciding version knew: one that refused newer rules is not wrong because this version knows them."""
    body = submission.body
    if (
        isinstance(body, AdoptReference)
        and isinstance(recorded, SubmissionRefused)
        and recorded.reason == "rules_unsupported"
    ):
        return frozenset(version for version in SUPPORTED if version < body.version)
    return SUPPORTED


async def verify_ledger(
    log: Log,
    topic: str,
    codec: Codec,
    opener: FactsOpener,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Verify a whole ledger as it stands now; ``progress`` hears the share that is done, 0 to 1. Raises LogError and KeyStoreError."""
    verifier = Verifier(codec, opener)
    async for record, share in whole_ledger(log, topic):
        await verifier.take(record)
        progress(share)
    return await verifier.end()


async def whole_ledger(log: Log, topic: str) -> AsyncIterator[tuple[Record, float]]:
    """Every record that is on the ledger now, partition after partition, each with the share that is read with it (0 to 1)."""
    readers = [await log.reader(Partition(topic, number)) for number in range(await log.partitions(topic))]
    try:
        ends = [await reader.end() for reader in readers]
        before, total = 0, max(1, sum(ends))
        for reader, end in zip(readers, ends, strict=True):
            at = 0
            while at < end:
                for record in await reader.read(at, _READ_AT_ONCE, _READ_SECONDS):
                    yield record, (before + record.offset + 1) / total
                at = reader.position()
            before += end
    finally:
        for reader in readers:
            await reader.close()
