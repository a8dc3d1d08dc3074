"""The projector: it follows the ledger and keeps rows that reflect it, each record once, whoever owns a partition when.

Rows and position change together in the store, so the log's own committed offsets play no part. A partition that comes is
claimed (which locks out its former owner, however slow), sought to the stored position and resumed, in the background: a
rebalance waits for none of it. What the fold can't read stops the projector; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from referral_bus.log.port import GroupMember, Log, LogError, LogUnavailable, Partition, Record
from referral_bus.runtime import metrics, tracing
from referral_bus.runtime.by_partition import UnderWay
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import Membership
from referral_bus.store.port import StoreError, StoreUnavailable, Superseded, ViewStore

logger = logging.getLogger(__name__)

Change = TypeVar("Change")
Project = Callable[[Partition, Sequence[Record]], Awaitable[Sequence[Change]]]
"""Folds records into changes. It may read the store; what it raises besides StoreError stops the projector."""

BATCH = 1000
POLL_SECONDS = 0.25
LAG_SECONDS = 5.0
"""How often lag is asked of the broker for the metrics."""
RETRY_SECONDS = 1.0
"""How long a partition rests after it was lost to another owner or the store failed. A member that is no longer in the group
hears of it meanwhile; without the rest it would take the partition back from its rightful owner."""
BEAT_SECONDS = 120.0
"""Above the store's statement limit, and far above a batch: a loop that is slower than this hangs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Owned:
    """One claim. A new claim is a new object, so that records polled under an older one are recognised."""

    epoch: int
    start: int
    target: int


class Projector(Generic[Change]):
    """Applies ``topic`` to ``store`` as a member of ``group``. ``part`` is its name in the health report: not ready until every
    partition it was given has reached the end that was seen when it was claimed, nor while the group has not said what it is given."""

    def __init__(
        self,
        log: Log,
        store: ViewStore[Change],
        project: Project[Change],
        health: Health,
        *,
        topic: str,
        group: str,
        part: str = "projector",
        batch: int = BATCH,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._log = log
        self._store = store
        self._project = project
        self._health = health
        self._topic = topic
        self._group = group
        self._part = part
        self._batch = batch
        self._retry_seconds = retry_seconds
        self._owned: dict[Partition, _Owned] = {}
        self._positions: dict[Partition, int] = {}
        self._fetched: dict[Partition, int] = {}
        self._behind: set[Partition] = set()
        self._taking = UnderWay()
        self._refused: dict[Partition, int] = {}
        self._membership = Membership(log, group, topic, assigned=self._assigned, revoked=self._revoked)
        self._lag_at = 0.0
        self._applying = False

    async def run(self) -> None:
        """Until cancelled. Raises what the fold raises, LogError where the membership is lost, and StoreError where the store
        refuses the same records twice."""
        self._health.starting(self._part, "joins the ledger's readers")
        member = await self._membership.join([self._topic], self._health, self._part)
        watching = asyncio.create_task(self._watch(member), name="watch-the-lag")
        try:
            while True:
                self._health.beat(self._part, BEAT_SECONDS)
                await self._step(member)
                if watching.done():
                    watching.result()
        finally:
            self._health.silent(self._part)
            watching.cancel()
            await self._taking.give_up()
            await asyncio.gather(watching, return_exceptions=True)
            await member.close()

    async def _step(self, member: GroupMember) -> None:
        before = dict(self._owned)
        polled = await member.poll(self._batch, POLL_SECONDS)
        self._fetched |= {
            partition: records[-1].offset + 1 for partition, records in polled.items() if records
        }
        self._applying = True
        try:
            await self._take_in(member, before, polled)
        finally:
            self._applying = False

    async def _take_in(
        self,
        member: GroupMember,
        before: Mapping[Partition, _Owned],
        polled: Mapping[Partition, Sequence[Record]],
    ) -> None:
        """Apply what was polled, partition beside partition."""
        current = {
            partition: records
            for partition, records in polled.items()
            if records and self._is_current(member, partition, before.get(partition))
        }
        applied = await asyncio.gather(
            *(
                self._apply(member, partition, self._owned[partition], records)
                for partition, records in current.items()
            ),
            return_exceptions=True,
        )
        for result in applied:
            if result is not None:
                raise result
        self._taking.raise_failures()

    def _is_current(self, member: GroupMember, partition: Partition, before: _Owned | None) -> bool:
        """Whether what was polled was fetched under the claim that holds now; else the position is set again."""
        owned = self._owned.get(partition)
        if owned is not None and owned is before:
            return True
        if owned is not None:
            self._seek(member, partition)
        return False

    def _seek(self, member: GroupMember, partition: Partition) -> None:
        """Go on from what the store reflects."""
        self._fetched[partition] = self._positions[partition]
        member.seek({partition: self._positions[partition]})

    async def _apply(
        self, member: GroupMember, partition: Partition, owned: _Owned, polled: Sequence[Record]
    ) -> None:
        if self._owned.get(partition) is not owned:
            return
        start = self._positions[partition]
        records = _in_order(polled, start)
        if not records:
            return
        end = records[-1].offset + 1
        began = time.perf_counter()
        try:
            with tracing.tracer().reading("project", records):
                changes = await self._folded(partition, owned, start, records)
                await self._store.apply(partition, owned.epoch, start, end, changes)
        except StoreError as error:
            if self._owned.get(partition) is owned:
                self._bear(partition, start, error)
                self._take_again(member, partition, error)
            return
        if self._owned.get(partition) is owned:
            self._positions[partition] = end
        metrics.PROJECTION_SECONDS.observe(time.perf_counter() - began)
        self._report(partition)

    async def _folded(
        self, partition: Partition, owned: _Owned, start: int, records: Sequence[Record]
    ) -> Sequence[Change]:
        """What the fold can't read is damage only for the partition's owner: another may have gone on with the rows it was folded
        on, which the store knows. Raises what the fold raises, and StoreError."""
        try:
            return await self._project(partition, records)
        except StoreError:
            raise
        except Exception:
            await self._store.apply(partition, owned.epoch, start, start, ())
            raise

    def _bear(self, partition: Partition, start: int, error: StoreError) -> None:
        """Raise what trying again won't mend: the store refused the same records twice."""
        if isinstance(error, Superseded | StoreUnavailable):
            return
        if self._refused.get(partition) == start:
            raise error
        self._refused[partition] = start

    def _take_again(self, member: GroupMember, partition: Partition, error: StoreError) -> None:
        superseded = isinstance(error, Superseded)
        metrics.PROJECTION_CLAIMS.labels(reason="superseded" if superseded else "store_failed").inc()
        logger.warning("%s/%d is claimed anew: %s", partition.topic, partition.number, error)
        member.pause([partition])
        self._owned.pop(partition, None)
        self._behind.add(partition)
        self._report(partition)
        self._taking.start(partition, self._take(member, partition, self._retry_seconds))

    async def _assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            metrics.PROJECTION_CLAIMS.labels(reason="assigned").inc()
            self._behind.add(partition)
            self._taking.start(partition, self._take(member, partition, 0.0))
        self._report(None)

    async def _revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)
            self._positions.pop(partition, None)
            self._fetched.pop(partition, None)
            self._behind.discard(partition)
            self._taking.cancel(partition)
            metrics.LAG.labels(partition.topic, str(partition.number)).set(0)
        self._report(None)

    async def _take(self, member: GroupMember, partition: Partition, rest: float) -> None:
        """Claim the partition and let it deliver from the stored position; again and again while store or broker are away."""
        await asyncio.sleep(rest)
        while True:
            try:
                reader = await self._log.reader(partition)
                try:
                    target = await reader.end()
                finally:
                    await reader.close()
                claim = await self._store.claim(partition)
                break
            except (StoreError, LogUnavailable) as error:
                logger.warning("%s/%d can't be claimed yet: %s", partition.topic, partition.number, error)
                await asyncio.sleep(self._retry_seconds)
        self._owned[partition] = _Owned(claim.epoch, claim.position, target)
        self._positions[partition] = claim.position
        self._seek(member, partition)
        member.resume([partition])
        self._report(partition)

    async def _watch(self, member: GroupMember) -> None:
        """Lag for the metrics, and whether what is behind has arrived: offsets at the end can be markers of transactions, which
        are never delivered, so only the log can say that nothing is left. It runs beside the polls, since a broker answers no
        question while it holds a long poll of the same connection."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._behind and time.monotonic() < self._lag_at + LAG_SECONDS:
                continue
            try:
                lags: Mapping[Partition, int] = await member.lag()
            except LogError as error:
                logger.warning("the lag is not known: %s", error)
                continue
            self._lag_at = time.monotonic()
            for partition, lag in lags.items():
                position = self._positions.get(partition)
                if position is not None:
                    # What was fetched is not reflected yet: a store that hangs must not hide it.
                    unreflected = lag + max(0, self._fetched.get(partition, 0) - position)
                    metrics.LAG.labels(partition.topic, str(partition.number)).set(unreflected)
                    metrics.POSITION.labels(partition.topic, str(partition.number)).set(position)
                # What was fetched may still have to be applied.
                if lag == 0 and not self._applying and partition in self._owned:
                    self._behind.discard(partition)
                    self._report(partition)

    def _report(self, partition: Partition | None) -> None:
        owned = self._owned.get(partition) if partition is not None else None
        if partition is not None and owned is not None:
            position = self._positions[partition]
            if position >= owned.target:
                self._behind.discard(partition)
            left, span = owned.target - position, max(1, owned.target - owned.start)
            done = 1.0 if partition not in self._behind else max(0.0, 1.0 - left / span)
            metrics.REBUILD_PROGRESS.labels(str(partition.number)).set(done)
        if not self._membership.is_held:
            self._health.starting(self._part, self._membership.waits)
        elif self._behind:
            self._health.starting(
                self._part, f"{len(self._behind)} partitions have not caught up with the ledger"
            )
        else:
            self._health.ready(self._part)


def _in_order(polled: Sequence[Record], start: int) -> list[Record]:
    """Each record from ``start`` on, once."""
    found = {record.offset: record for record in polled if record.offset >= start}
    return [found[offset] for offset in sorted(found)]
