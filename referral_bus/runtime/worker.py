"""The transactional worker: consume, transform, produce, each record exactly once, whoever owns a partition when.

Every input partition has its own transactional writer. What becomes of a batch and the group's next offset are committed in one
transaction, so a record is either worked through and passed, or neither. Whoever takes a partition starts its writer first, which
fences the former owner and settles what that left open, and only then reads what was committed; so ownership is the writer's, whatever
the group believes meanwhile. Partitions work side by side: one that loads, rests or is slow holds up no other.

The worker knows nothing of what it works on: that is the :class:`Work`, made by the service.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from referral_bus.log.port import (
    Fenced,
    GroupMember,
    Log,
    LogError,
    LogUnavailable,
    Outgoing,
    Partition,
    Record,
    Transactor,
)
from referral_bus.runtime import metrics
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import Membership, Unanswered, following

logger = logging.getLogger(__name__)

_Got = TypeVar("_Got")

PART: Final = "worker"
"""Its name in the health report."""
BATCH: Final = 500
"""Most records in one transaction. Its round to the broker costs the same for one as for hundreds."""
POLL_SECONDS: Final = 0.25
CROWDED_POLL_SECONDS: Final = 0.005
"""While a partition is shut since it has enough waiting: it must be open again before that is used up."""
LAG_SECONDS: Final = 5.0
"""How often lag is asked of the broker for the metrics."""
BEAT_SECONDS: Final = 120.0
"""Far above a poll, and above joining and leaving together: a loop that is slower than this hangs."""


class Work(Protocol):
    """What the owner of one input partition does; made anew for each ownership and after each failed transaction, and thrown
    away with it."""

    async def load(self, progress: Callable[[float], None]) -> int:
        """Make the state from what was committed. Returns the next input offset the state itself proves to have been worked
        through. It counts, whatever the group committed: what lies between the two led to nothing, and does so again, or its
        outcome is not there. ``progress`` takes a share from 0 to 1; a load that is silent for ``Limits.silence_seconds`` is given up."""

    async def work(self, records: Sequence[Record]) -> Sequence[Outgoing]:
        """The outcome of the records, in order; moves the state on. Records come each once, in offset order; offsets may have
        gaps. Raising LogUnavailable means to wait and try again; all else is a fault of our own: the worker throws this Work
        away, loads anew and tries again, ``Limits.faults`` times in a row, then stops with it."""

    def committed(self, records: Sequence[Record]) -> None:
        """What work() gave for these records has been committed. What it raises stops the worker."""

    async def close(self) -> None:
        """Let go of what this Work holds. It may come at any time, also before or during a load."""


_Work = TypeVar("_Work", bound=Work)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds, and how often they may fail. Nothing here waits without an end."""

    take_seconds: float = 60.0
    """For each question to the broker while taking a partition. Above the log's own limit, which names what failed."""
    silence_seconds: float = 120.0
    """For a load to make progress. A whole load has no limit: it grows with the ledger."""
    work_seconds: float = 60.0
    """For the outcome of one batch."""
    commit_seconds: float = 20.0
    """For a transaction. Above the 15 s after which the broker aborts it."""
    revoke_seconds: float = 18.0
    """For a rebalance to wait for a batch that is under way. With ``close_seconds`` it stays below the group's rebalance timeout
    of 30 s, beyond which the group goes on without this member; the batch is then given up, and fenced by the new owner."""
    close_seconds: float = 8.0
    """For a writer and a Work to close. Above the 5 s the log allows a client."""
    rest_seconds: float = 0.1
    """Before a partition is taken again after a failure; doubled with each failure in a row."""
    fenced_rest_seconds: float = 8.0
    """The same after another owner was met. A member the group has given up hears of it meanwhile, by its heartbeat, and joins anew;
    without the rest it would take the partition back from its rightful owner. Above the session timeout of 6 s: after 3 s a paused
    worker was seen to do so."""
    longest_rest_seconds: float = 15.0
    faults: int = 5
    """So many failures in a row that waiting does not mend (all but LogUnavailable and Fenced) stop the worker."""


class Worker(Generic[_Work]):
    """Works through ``topic`` as a member of ``group``, with what ``make`` gives for each partition it comes to own.

    ``transactional_id`` names the writer of an input partition by its number: the same for every process of the group, and
    nobody else's. It is not ready while any partition it was given is loading or has not reached the end that was seen when it was
    taken, nor while the group has not said what it is given.
    """

    def __init__(
        self,
        log: Log,
        make: Callable[[Partition], _Work],
        health: Health,
        *,
        topic: str,
        group: str,
        transactional_id: Callable[[int], str],
        batch: int = BATCH,
        limits: Limits | None = None,
    ) -> None:
        self._log = log
        self._make = make
        self._health = health
        self._topic = topic
        self._group = group
        self._transactional_id = transactional_id
        self._batch = batch
        self._limits = limits or Limits()
        self._owners: dict[Partition, _Owner[_Work]] = {}
        self._membership = Membership(log, group, topic, assigned=self._assigned, revoked=self._revoked)
        self._lag_at = 0.0

    async def run(self) -> None:
        """Until cancelled; then batches under way are committed and the group is left. Raises LogError where the membership is
        lost for good, what Work.committed raises, and what a Work or the log raised ``Limits.faults`` times in a row."""
        await following(self._follow)

    async def _follow(self) -> None:
        """Until cancelled, or raises what ``run`` does, and Unanswered."""
        self._health.starting(PART, "joins the group")
        member = await self._membership.join([self._topic], self._health, PART)
        watching = asyncio.create_task(self._watch(member), name="watch-worker")
        try:
            while True:
                self._health.beat(PART, BEAT_SECONDS)
                await self._step(member)
                if watching.done():
                    watching.result()
        finally:
            self._health.silent(PART)
            watching.cancel()
            await asyncio.wait([watching])
            # Batches end before the group hears of it, so that who comes next need not fence anyone.
            await self._release(list(self._owners))
            await self._membership.leave(member)
            await self._release(list(self._owners))
            self._health.starting(PART, "has stopped")

    @property
    def owned(self) -> Mapping[Partition, _Work]:
        """The Works that are loaded and running (for ticks and metrics): a view that shows what is so whenever it is looked at."""
        return _Owned(self._owners)

    async def _step(self, member: GroupMember) -> None:
        """One poll. The batches it fed run meanwhile: while they are committed, the next are being fetched."""
        before = {partition: owner.turn for partition, owner in self._owners.items()}
        crowded = any(turn is not None and turn.is_shut for turn in before.values())
        polled = await member.poll(self._batch, CROWDED_POLL_SECONDS if crowded else POLL_SECONDS)
        for partition, records in polled.items():
            owner = self._owners.get(partition)
            turn = None if owner is None else owner.turn
            if turn is None:
                continue  # whoever takes the partition next seeks to where it begins
            if turn is before.get(partition):
                turn.accept(records)
            else:
                # Fetched before this turn began, or partly: what is missing between its start and these records would pass
                # for a gap. So nothing of it is taken, and since the position may have moved with it, it is set again.
                member.seek({partition: turn.fetched})
        for owner in list(self._owners.values()):
            if owner.task.done():
                owner.task.result()

    async def _assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        # A cold load takes longer than a rebalance may, and so may fencing: both are left to the owner's task.
        for partition in sorted(partitions):
            self._owners[partition] = _Owner(
                partition,
                member,
                self._membership,
                self._log,
                self._make,
                self._report,
                group=self._group,
                transactional_id=self._transactional_id(partition.number),
                batch=self._batch,
                limits=self._limits,
            )
        self._report()

    async def _revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        await self._release(partitions)
        self._report()

    async def _release(self, partitions: Iterable[Partition]) -> None:
        gone = [self._owners.pop(partition) for partition in sorted(partitions) if partition in self._owners]
        await asyncio.gather(*(owner.release() for owner in gone))

    async def _watch(self, member: GroupMember) -> None:
        """Lag for the metrics, and whether what is behind has arrived: offsets at the end can be markers of transactions, which
        are never delivered, so only the log can say that nothing is left. It runs beside the polls, since a broker answers no
        question while it holds a long poll of the same connection."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            turns = {p: owner.turn for p, owner in self._owners.items() if owner.turn is not None}
            may_have_arrived = any(turn.is_idle and not turn.has_caught_up for turn in turns.values())
            if not may_have_arrived and time.monotonic() < self._lag_at + LAG_SECONDS:
                continue
            try:
                lags: Mapping[Partition, int] = await member.lag()
            except LogError as error:
                logger.warning("the lag is not known: %s", error)
                continue
            self._lag_at = time.monotonic()
            for partition, turn in turns.items():
                if partition in lags:
                    unworked = lags[partition] + turn.fetched - turn.next
                    metrics.LAG.labels(partition.topic, str(partition.number)).set(unworked)
                    metrics.POSITION.labels(partition.topic, str(partition.number)).set(turn.next)
                    if unworked == 0:
                        turn.has_caught_up = True
            self._report()

    def _report(self) -> None:
        behind = sum(owner.turn is None or not owner.turn.has_caught_up for owner in self._owners.values())
        if not self._membership.is_held:
            self._health.starting(PART, self._membership.waits)
        elif behind:
            self._health.starting(
                PART,
                f"{behind} of {len(self._owners)} partitions are loading or have not caught up with {self._topic}",
            )
        else:
            self._health.ready(PART)


class _Owned(Mapping[Partition, _Work]):
    def __init__(self, owners: Mapping[Partition, _Owner[_Work]]) -> None:
        self._owners = owners

    def __getitem__(self, partition: Partition) -> _Work:
        turn = self._owners[partition].turn
        if turn is None:
            raise KeyError(partition)
        return turn.work

    def __iter__(self) -> Iterator[Partition]:
        return iter([partition for partition, owner in self._owners.items() if owner.turn is not None])

    def __len__(self) -> int:
        return sum(owner.turn is not None for owner in self._owners.values())


class _Turn(Generic[_Work]):
    """A partition from one load to the next failure, with its state, its writer, and the records that wait. A new turn is a new
    object, which is the generation by which what was fetched under another one is recognised."""

    def __init__(
        self,
        partition: Partition,
        member: GroupMember,
        work: _Work,
        writer: Transactor,
        start: int,
        target: int,
        enough: int,
    ) -> None:
        self.work = work
        self.writer = writer
        self.fetched = start
        """The next offset to be taken from the member."""
        self.next = start
        """The next offset to be worked through."""
        self.has_caught_up = start >= target
        self.is_shut = False
        self._partition = partition
        self._member = member
        self._target = target
        self._enough = enough
        self._waiting: deque[Record] = deque()
        self._filled = asyncio.Event()

    def accept(self, records: Sequence[Record]) -> None:
        """Take what was fetched. Offsets have gaps by right (the markers of transactions, aborted records), so only what lies
        below the next offset is left out: it was delivered before."""
        for record in records:
            if record.offset >= self.fetched:
                self._waiting.append(record)
                self.fetched = record.offset + 1
        if self._waiting:
            self._filled.set()
        if len(self._waiting) >= self._enough:
            self.is_shut = True
            self._member.pause([self._partition])

    @property
    def is_idle(self) -> bool:
        """Whether all that was fetched has been worked through."""
        return self.next == self.fetched

    async def filled(self) -> None:
        """Wait until there are records."""
        await self._filled.wait()

    def batch(self, most: int) -> list[Record]:
        """Whatever waits, without waiting for more."""
        records = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        if not self._waiting:
            self._filled.clear()
        if self.is_shut and len(self._waiting) < self._enough:
            self.is_shut = False
            self._member.resume([self._partition])
        return records

    def passed(self, next_offset: int) -> bool:
        """Everything below was committed. Returns whether the turn caught up by it."""
        self.next = next_offset
        before, self.has_caught_up = self.has_caught_up, self.has_caught_up or next_offset >= self._target
        return self.has_caught_up and not before


class _Owner(Generic[_Work]):
    """One ownership of one partition, from assignment to revocation: turn after turn, with a rest in between."""

    def __init__(
        self,
        partition: Partition,
        member: GroupMember,
        membership: Membership,
        log: Log,
        make: Callable[[Partition], _Work],
        report: Callable[[], None],
        *,
        group: str,
        transactional_id: str,
        batch: int,
        limits: Limits,
    ) -> None:
        self.turn: _Turn[_Work] | None = None
        self._partition = partition
        self._name = f"{partition.topic}/{partition.number}"
        self._member = member
        self._membership = membership
        self._log = log
        self._make = make
        self._report = report
        self._group = group
        self._transactional_id = transactional_id
        self._batch = batch
        self._limits = limits
        self._under_way = asyncio.Lock()
        self._is_released = False
        self._failures = self._faults = 0
        self._progress = metrics.REBUILD_PROGRESS.labels(str(partition.number))
        self.task = asyncio.create_task(self._run(), name=f"owner-{self._name}")

    async def release(self) -> None:
        """End the ownership: after the batch that is under way, or without it when that takes too long. Never raises."""
        self._is_released = True
        try:
            # The rebalance runs beside the batch; without the lock the partition's next owner would have to abort it.
            async with asyncio.timeout(self._limits.revoke_seconds), self._under_way:
                self.task.cancel()
        except TimeoutError:
            logger.warning(
                "%s is revoked and its batch given up after %.0f s: its next owner aborts it",
                self._name,
                self._limits.revoke_seconds,
            )
            self.task.cancel()
        # An error it ended with has nothing to say any more: the partition is another's, or the process stops.
        await asyncio.wait([self.task], timeout=self._limits.close_seconds)
        metrics.LAG.labels(self._partition.topic, str(self._partition.number)).set(0)
        self._progress.set(1.0)

    async def _run(self) -> None:
        while True:
            try:
                await self._take_turn()
            except _Unmendable as error:
                raise error.cause from None
            except Unanswered:
                raise
            except Exception as error:
                rest = self._rest(error)
                logger.warning(
                    "%s is taken again in %.1f s: %s",
                    self._name,
                    rest,
                    # What a Work raises may quote what it worked on; the log's own errors do not.
                    error if isinstance(error, LogError) else type(error).__name__,
                    exc_info=None if isinstance(error, LogUnavailable | Fenced) else error,
                )
            await asyncio.sleep(rest)

    def _rest(self, error: Exception) -> float:
        """How long to rest after the error. Raises it where that would not mend it."""
        self._failures += 1
        if not isinstance(error, LogUnavailable | Fenced):
            self._faults += 1
            if self._faults >= self._limits.faults:
                raise error
        first = self._limits.fenced_rest_seconds if isinstance(error, Fenced) else self._limits.rest_seconds
        return _doubled(first, self._failures - 1, self._limits.longest_rest_seconds)

    async def _take_turn(self) -> None:
        """Take the partition and work until anything fails. After an error in a transaction neither its outcome is known nor is
        the state, which has moved on, worth anything: writer and state are both made anew, and what was committed is read."""
        self._progress.set(0.0)
        # The writer comes first: it fences the former owner, so nothing is committed by another after what is read below.
        writer = await self._asked(self._log.transactor(self._transactional_id))
        try:
            work = self._make(self._partition)
            try:
                self.turn = await self._loaded(work, writer)
                self._report()
                while True:
                    await self._work_through(self.turn)
            finally:
                # No await before the partition is shut: nothing is delivered to nobody.
                self.turn = None
                if not self._is_released:
                    self._member.pause([self._partition])
                    self._report()
                await _closed(self._name, work.close(), self._limits.close_seconds)
        finally:
            await _closed(self._name, writer.close(), self._limits.close_seconds)

    async def _loaded(self, work: _Work, writer: Transactor) -> _Turn[_Work]:
        start = await self._load(work)
        target = await self._asked(self._end())
        question = self._asked(self._member.committed([self._partition]))
        committed = (await self._membership.answered("position", question))[self._partition]
        if start < committed:
            # A broker that was killed may come back and have forgotten that it had begun to commit a transaction: seen in a cluster under
            # fire, the offsets were committed and the outcome was aborted. So the outcome decides; what was deleted since led to nothing.
            start = min(committed, max(start, await self._first_kept()))
        self._progress.set(1.0)
        # From here to the return nothing awaits: position and generation change together.
        turn = _Turn(self._partition, self._member, work, writer, start, target, enough=self._batch)
        self._member.seek({self._partition: start})
        self._member.resume([self._partition])
        return turn

    async def _first_kept(self) -> int:
        question = self._asked(self._member.kept([self._partition]))
        return (await self._membership.answered("kept", question))[self._partition].start

    async def _load(self, work: _Work) -> int:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.silence_seconds) as limit:

            def progress(share: float) -> None:
                self._progress.set(share)
                limit.reschedule(loop.time() + self._limits.silence_seconds)

            return await work.load(progress)

    async def _end(self) -> int:
        reader = await self._log.reader(self._partition)
        try:
            return await reader.end()
        finally:
            await reader.close()

    async def _work_through(self, turn: _Turn[_Work]) -> None:
        await turn.filled()
        async with self._under_way:
            records = turn.batch(self._batch)
            next_offset = records[-1].offset + 1
            try:
                async with asyncio.timeout(self._limits.work_seconds):
                    outcome = await turn.work.work(records)
                began = time.perf_counter()
                async with asyncio.timeout(self._limits.commit_seconds):
                    # Also when nothing came of the records: once they are deleted, that offset alone says that they were passed.
                    await turn.writer.commit(outcome, self._group, {self._partition: next_offset})
            except Exception as error:
                metrics.TRANSACTIONS_FAILED.labels(reason=_reason(error)).inc()
                raise
            metrics.COMMIT_SECONDS.observe(time.perf_counter() - began)
            metrics.BATCH_RECORDS.observe(len(records))
            self._failures = self._faults = 0
            if turn.passed(next_offset):
                self._report()
            try:
                turn.work.committed(records)
            except Exception as error:
                raise _Unmendable(error) from error

    async def _asked(self, question: Awaitable[_Got]) -> _Got:
        try:
            async with asyncio.timeout(self._limits.take_seconds):
                return await question
        except TimeoutError:
            raise LogUnavailable(
                f"{self._name} could not be taken within {self._limits.take_seconds:.0f} s; check that the broker runs"
            ) from None


class _Unmendable(Exception):
    """What was committed can't be taken back: the error that followed it stops the worker at once."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


def _reason(error: Exception) -> str:
    if isinstance(error, Fenced):
        return "fenced"
    if isinstance(error, LogUnavailable):
        return "unavailable"
    return "log" if isinstance(error, LogError) else "work"


def _doubled(first: float, times: int, longest: float) -> float:
    return float(min(longest, first * 2 ** min(times, 16)))


async def _closed(name: str, close: Awaitable[None], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await close
    except Exception as error:
        logger.warning("%s: what it held did not close cleanly: %s", name, type(error).__name__)
