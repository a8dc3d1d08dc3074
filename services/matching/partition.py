"""What the owner of an inbox partition does: fold its ledger, then decide what comes, each submission once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from referral_bus.contracts.ids import OF_THE_BUS
from referral_bus.contracts.inbox import SubmitReferral, Tick
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Admitted,
    Entry,
    KeyDestroyed,
    Received,
    SubmissionRefused,
    SubmissionResumed,
)
from referral_bus.log import topics
from referral_bus.log.port import Log, LogUnavailable, Outgoing, Partition, Reader, Record
from referral_bus.runtime import tracing
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import correlation_of
from referral_bus.wire.errors import TooLarge, WireError
from referral_bus.wire.inbox import LARGEST_CONTENT, admitted_again, received
from services.matching.batch import Batch
from services.matching.chain import Chain, LedgerDamaged, Written, ledger_record
from services.matching.core.decide import (
    AllOpened,
    call,
    decide,
    gave_up_calling,
    gave_up_deciding,
    gave_up_due,
    gave_up_resuming,
    resume,
    too_large,
    wanted_due,
    wanted_facts,
    wanted_for,
)
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.snapshots import Captured, Snapshot, Snapshots, capture

logger = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 2000
_READ_SECONDS: Final = 2.0
_OVERLAP: Final = 500
"""Offsets read again before a snapshot's own: a ledger that was restored and grew back to the same length shows itself there."""
MOST_DUE: Final = 500
"""Most things that are due and decided in one batch, its regions together: after an outage it may be tens of thousands, a batch has a
minute, and one that took longer would be begun again for ever."""
BELIEVED_MS: Final = 3_600_000
"""How far ahead of this process's clock the broker's may be: a region never goes back in time, so one record stamped with next year would
end all limits at once and stop its clock until then."""


class PartitionWork:
    """One ownership of one partition (see :class:`referral_bus.runtime.worker.Work`)."""

    def __init__(
        self,
        *,
        log: Log,
        bus: str,
        partition: int,
        codec: Codec,
        opener: FactsOpener,
        dead_letters: DeadLetters,
        clock: Clock,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.partition = partition
        self.chains: dict[str, Chain] = {}
        self.left_over: dict[str, int] = {}
        """By region: the offset of the last tick that left for another what may still be due."""
        self._log = log
        self._bus = bus
        self._topic = topics.ledger(bus)
        self._codec = codec
        self._opener = opener
        self._dead_letters = dead_letters
        self._clock = clock
        self._snapshots = snapshots
        self._since_snapshot = 0
        self._deciding = False
        self._capture_from: int | None = None
        self._captured: Captured | None = None
        self._batch = Batch()
        self._letters = dead_letters.batch()
        self._seen_to: Counter[str] = Counter()
        """Things that were due and are decided in this batch, by region."""
        self._share = MOST_DUE
        """How many it may be of one region."""

    async def load(self, progress: Callable[[float], None]) -> int:
        """Fold the partition's ledger, from its snapshot on where there is a good one. Raises LedgerDamaged, UnknownEvent,
        UnsupportedRules and LogError."""
        began = time.monotonic()
        snapshot = None if self._snapshots is None else await self._snapshots.load(self.partition)
        reader = await self._log.reader(Partition(self._topic, self.partition))
        try:
            end = await reader.end()
            if snapshot is not None and self._snapshots is not None:
                try:
                    start = await self._fold(reader, snapshot, end, progress)
                except LedgerDamaged as error:
                    logger.warning(
                        "the snapshot of partition %d is not of this ledger: %s", self.partition, error
                    )
                    await self._snapshots.discard(self.partition)
                    snapshot = None
            if snapshot is None:
                start = await self._fold(reader, Snapshot(self.partition, 0), end, progress)
        finally:
            await reader.close()
        self._since_snapshot = end - start
        seconds = time.monotonic() - began
        logger.info(
            "partition %d: the ledger is folded from offset %d to %d in %.1f s",
            self.partition,
            start,
            end,
            seconds,
        )
        return max((chain.state.decided_through + 1 for chain in self.chains.values()), default=0)

    async def _fold(
        self, reader: Reader, snapshot: Snapshot, end: int, progress: Callable[[float], None]
    ) -> int:
        """Take everything up to ``end``; returns where it began."""
        self.chains, start = snapshot.chains, snapshot.next_offset
        if start > end:
            raise LedgerDamaged(f"it begins at offset {start}, and the ledger ends at {end}")
        held = {region: (chain.state.sequence, chain.prev_hash) for region, chain in self.chains.items()}
        seen: dict[str, int] = {}
        at = begin = max(0, start - _OVERLAP)
        while at < end:
            for record in await reader.read(at, _READ_AT_ONCE, _READ_SECONDS):
                region, sequence = self._take(record, held)
                seen[region] = sequence
            if reader.position() > at:
                # Only then: whoever is told of progress takes it for a sign that the ledger still gives something.
                at = reader.position()
                progress((at - begin) / max(1, end - begin))
        for region, sequence in seen.items():
            if sequence < held.get(region, (0, GENESIS_HASH))[0]:
                raise LedgerDamaged(f"region {region} ends at sequence {sequence}, before the snapshot does")
        return start

    async def work(self, records: Sequence[Record]) -> list[Outgoing]:
        """Decide the records. Raises LogUnavailable while facts can't be opened; all else is answered or dead-lettered."""
        self._deciding = True
        self._batch = Batch()
        self._letters = self._dead_letters.batch()
        self._seen_to.clear()
        outcome: list[Outgoing] = []
        asked: list[tuple[Record, str, Received]] = []
        latest = self._clock.now() + BELIEVED_MS
        for stamped in records:
            record = stamped if stamped.timestamp <= latest else self._believed(stamped, latest)
            try:
                asked.append((record, *received(record, self._codec)))
            except WireError as error:
                where = f"{record.topic}/{record.partition}/{record.offset}"
                logger.warning("%s is no submission and goes to the dead letters: %s", where, error)
                outcome.append(self._letters.letter(record, "unreadable"))
        ticked = {region: record.timestamp for record, region, one in asked if isinstance(one.body, Tick)}
        self._share = max(1, MOST_DUE // max(1, len(ticked)))
        tracer = tracing.tracer()
        try:
            with tracer.together("decide", records):
                await self._opener.expect(self._expected(asked, ticked))
            for record, region, submission in asked:
                with tracer.deciding(record) as carry:
                    outcome += carry(await self._answer(record, region, submission))
        except KeyStoreUnavailable as error:
            # To the worker it is one: what the decisions need is away, and they wait for it.
            raise LogUnavailable(f"facts can't be opened now: {error}") from error
        return outcome

    def _expected(self, asked: Sequence[tuple[Record, str, Received]], ticked: Mapping[str, int]) -> set[str]:
        """Whose facts the batch opens, as far as that is known before it is decided."""
        expected = {one.body.subject for _, _, one in asked if isinstance(one.body, SubmitReferral)}
        for region, at in ticked.items():
            if (chain := self.chains.get(region)) is not None:
                wanted = wanted_due(chain.state, max(chain.state.now, at), self._share)
                expected.update(one.subject for one in wanted)
        return expected

    @staticmethod
    def _believed(record: Record, latest: int) -> Record:
        ahead = (record.timestamp - latest + BELIEVED_MS) / 1000
        logger.error(
            "the broker stamped %s/%d/%d %.0f s ahead of this machine's clock: it is taken for %.0f s ahead. Set the clock that is wrong",
            record.topic,
            record.partition,
            record.offset,
            ahead,
            BELIEVED_MS / 1000,
        )
        return replace(record, timestamp=latest)

    def committed(self, records: Sequence[Record]) -> None:
        """Count what is now so. Raises TooManyDeadLetters."""
        self._deciding = False
        self._copy()
        self._batch.tell(self._clock.now())
        self._since_snapshot += self._batch.events.total()
        self._letters.kept()
        self._dead_letters.check()

    async def close(self) -> None:
        """Nothing is held besides memory."""

    async def capture(self) -> None:
        """Have the state copied for a snapshot, now or as soon as what is being decided is committed (see :meth:`captured`)."""
        reader = await self._log.reader(Partition(self._topic, self.partition))
        try:
            # Asked before the copy: everything before this offset is in the state then, since nobody else writes this ledger.
            self._capture_from = await reader.end()
        finally:
            await reader.close()
        if not self._deciding:
            self._copy()

    def captured(self) -> Captured | None:
        """The copy that was asked for, once."""
        captured, self._captured = self._captured, None
        return captured

    @property
    def events_since_snapshot(self) -> int:
        """About how many ledger events a restart would have to read."""
        return self._since_snapshot

    def _copy(self) -> None:
        if self._capture_from is not None:
            self._captured = capture(Snapshot(self.partition, self._capture_from, self.chains))
            self._capture_from, self._since_snapshot = None, 0

    def next_due(self) -> list[tuple[str, int]]:
        """Region and time of what falls due next in each region that expects anything."""
        found = ((region, chain.state.next_due()) for region, chain in self.chains.items())
        return [(region, due.at) for region, due in found if due is not None]

    def _take(self, record: Record, held: Mapping[str, tuple[int, bytes]]) -> tuple[str, int]:
        """The next record; ``held`` are the sequence and the hash up to which a snapshot holds each region. Returns the event's place."""
        where = f"{record.topic}/{record.partition}/{record.offset}"
        value = record.value or b""
        try:
            entry = self._codec.decode_entry(value)
            sequence, last = held.get(entry.meta.region, (0, GENESIS_HASH))
            if entry.meta.sequence > sequence:
                self._chain(entry.meta.region).take(entry, value)
            elif entry.meta.sequence == sequence and sha256(value).digest() != last:
                raise LedgerDamaged(
                    f"region {entry.meta.region}: sequence {sequence} is another event than in the snapshot"
                )
        except (WireError, LedgerDamaged) as error:
            raise LedgerDamaged(
                f"{where}: {error}. Run 'refbus verify'; nothing is decided on a ledger that can't be trusted"
            ) from error
        if isinstance(entry.event, KeyDestroyed):
            self._opener.forget(entry.event.subject)
        return entry.meta.region, entry.meta.sequence

    def _chain(self, region: str) -> Chain:
        chain = self.chains.get(region)
        if chain is None:
            chain = self.chains[region] = Chain(Region(region))
        return chain

    async def _answer(self, record: Record, region: str, submission: Received) -> list[Outgoing]:
        """Everything one submission leads to. On a fault of ours it is dead-lettered and refused (where it is a tick, what is due is put
        off), and nothing else changes."""
        chain, admitted = self._chain(region), submission.admitted
        now = max(chain.state.now, record.timestamp)
        correlation = correlation_of(record.headers)
        is_tick, put_off = isinstance(submission.body, Tick), False
        outcome: list[Outgoing] = []
        while True:
            if is_tick and self._seen_to[region] >= self._share:
                self.left_over[region] = record.offset
                break
            facts = await self._opener.open(wanted_facts(chain.state, submission, now))
            try:
                written = self._decided(chain, submission, now, facts)
            except Exception as error:  # whatever it is, the partition goes on without this submission
                logger.error(
                    "%s/%d/%d can't be decided", record.topic, record.partition, record.offset, exc_info=error
                )
                written = self._put_off(chain, admitted, now) if is_tick else []
                if not written:
                    outcome.append(self._letters.fault(record, "undecidable"))
                    if not is_tick:
                        refusal = chain.written(self._codec, gave_up_deciding(), admitted, record.offset, now)
                        outcome += self._taken(chain, refusal, admitted, correlation, facts)
                    return outcome
                if not put_off:
                    # It does not count: no other partition need stop for what is due again in an hour.
                    outcome.append(self._letters.letter(record, "undecidable"))
                put_off = True
            outcome += self._taken(chain, written, admitted, correlation, facts)
            outcome += await self._follow(chain, admitted, record.offset, now, correlation)
            if not written or not is_tick:
                break
            self._seen_to[region] += 1
        if not put_off:
            self._letters.handled()
        self._batch.decided(admitted.type, record.timestamp)
        return outcome

    def _decided(self, chain: Chain, submission: Received, now: int, facts: AllOpened) -> list[Written]:
        """What answers the submission, as it is written. Raises whatever keeps it from being answered."""
        admitted = submission.admitted
        events = decide(chain.state, submission, now, facts)
        try:
            return chain.written(self._codec, events, admitted, admitted.offset, now)
        except TooLarge as error:
            if len(admitted.value) <= LARGEST_CONTENT:
                # It is no fault of what was sent.
                raise
            logger.warning(
                "the submission at offset %d of partition %d is refused: %s",
                admitted.offset,
                self.partition,
                error,
            )
            return chain.written(self._codec, too_large(), admitted, admitted.offset, now)

    def _put_off(self, chain: Chain, admitted: Admitted, now: int) -> list[Written]:
        """That what is due first is due again later; nothing where that can't be written, since older code beside could not read it."""
        try:
            return chain.written(self._codec, gave_up_due(chain.state, now), admitted, admitted.offset, now)
        except WireError as error:
            logger.error("what is due first in %s can't be put off: %s", chain.state.region, error)
            return []

    async def _follow(
        self, chain: Chain, cause: Admitted, offset: int, now: int, correlation: str | None
    ) -> list[Outgoing]:
        """Decide what was parked for what has just come, and match the referrals whose turn it is now."""
        state = chain.state
        outcome: list[Outgoing] = []
        while True:
            if state.ready:
                sequence = state.ready[0]
                submission = admitted_again(state.parked[sequence].admitted, self._codec)
                facts = await self._opener.open(wanted_facts(state, submission, now))
                try:
                    events = resume(state, sequence, submission, now, facts)
                    written = chain.written(self._codec, events, None, offset, now)
                except Exception as error:  # as above: what waits must not keep the partition from going on
                    logger.error("what is parked at sequence %d can't be decided", sequence, exc_info=error)
                    written = chain.written(self._codec, gave_up_resuming(sequence), None, offset, now)
            elif (called := state.next_call()) is not None:
                facts = await self._opener.open(wanted_for(state, called))
                try:
                    events = call(state, called, now, facts)
                    written = chain.written(self._codec, events, None, offset, now)
                except Exception as error:
                    logger.error("%s can't be matched", called.referral, exc_info=error)
                    written = chain.written(self._codec, gave_up_calling(called, now), None, offset, now)
            else:
                return outcome
            outcome += self._taken(chain, written, cause, correlation, facts)

    def _taken(
        self,
        chain: Chain,
        written: Sequence[Written],
        cause: Admitted,
        correlation: str | None,
        facts: AllOpened,
    ) -> list[Outgoing]:
        sender = _sender(chain.state, written)
        chain.go_on(written)
        for one in written:
            self._batch.take(chain.state, one.entry, facts)
        if sender is not None:
            self._batch.answered(sender, [one.entry.event for one in written])
        return [self._outgoing(one.entry, one.value, cause, correlation) for one in written]

    def _outgoing(self, entry: Entry, value: bytes, cause: Admitted, correlation: str | None) -> Outgoing:
        if isinstance(entry.event, KeyDestroyed):
            self._opener.forget(entry.event.subject)
        return ledger_record(
            entry,
            value,
            bus=self._bus,
            topic=self._topic,
            partition=self.partition,
            codec=self._codec,
            cause=f"{cause.source}/{cause.id}",
            correlation=correlation,
        )


def _sender(state: Region, written: Sequence[Written]) -> str | None:
    """The organisation whose submission a decision answers, the one that waited where that is over; None where it is nobody's."""
    for one in written:
        event, admitted = one.entry.event, one.entry.meta.submission
        if isinstance(event, SubmissionRefused | SubmissionResumed) and event.parked is not None:
            return state.parked[event.parked].admitted.source
        if admitted is not None and admitted.source not in OF_THE_BUS:
            return admitted.source
    return None
