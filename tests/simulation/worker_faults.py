"""Known faults of the exactly-once worker: each of its rules undone. ``docs/reference/simulation.md`` says which rule is which."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

from referral_bus.log.memory import MemoryMember
from referral_bus.log.port import Outgoing, Partition, Reader, Record
from referral_bus.runtime import worker
from referral_bus.runtime.worker import CROWDED_POLL_SECONDS, Worker, _Owner, _Turn
from services.matching.partition import PartitionWork
from tests.simulation import world
from tests.simulation.known import fault
from tests.simulation.network import REBALANCE_SECONDS, Wire, WireReader, WireTransactor


@fault(
    "read-before-fencing",
    "The former owner is fenced before the ledger is read.",
    "broken",
    "duplicated",
)
def _read_before_fencing() -> AbstractContextManager[Any]:
    take_turn = _Owner._take_turn

    async def early(self: Any) -> None:
        make = self._make
        work = make(self._partition)
        proven = await self._load(work)
        await asyncio.sleep(0.3)  # as the rest of a long ledger takes

        async def loaded(_: Any) -> Any:
            return proven

        work.load, self._make = loaded, lambda _: work
        try:
            await take_turn(self)
        finally:
            self._make = make

    return patch.object(_Owner, "_take_turn", early)


@fault("await-after-seek", "Position and generation change with no await in between.", "unanswered")
def _await_after_seek() -> AbstractContextManager[Any]:
    loaded = _Owner._loaded

    async def late(self: Any, work: Any, writer: Any) -> Any:
        turn = await loaded(self, work, writer)
        await asyncio.sleep(0.05)
        return turn

    return patch.object(_Owner, "_loaded", late)


def _step(stale: Callable[[Any, Any, Partition, Sequence[Record]], None]) -> AbstractContextManager[Any]:
    """Worker._step, with another way to deal with what was fetched under a former assignment."""

    async def step(self: Any, member: Any) -> None:
        before = {partition: owner.turn for partition, owner in self._owners.items()}
        polled = await member.poll(self._batch, CROWDED_POLL_SECONDS if self._owners else 0.25)
        for partition, records in polled.items():
            turn: Any = self._owners[partition].turn if partition in self._owners else None
            if turn is None:
                continue
            former: Any = before.get(partition)
            if turn is former:
                turn.accept(records)
            else:
                stale(member, turn, partition, records)
        for owner in list(self._owners.values()):
            if owner.task.done():
                owner.task.result()

    return patch.object(Worker, "_step", step)


@fault("stale-batch-taken", "What was fetched under a former assignment is dropped.", "unanswered")
def _stale_taken() -> AbstractContextManager[Any]:
    return _step(lambda _, turn, __, records: turn.accept(records))


@fault("stale-batch-not-rewound", "What is dropped is fetched again.", "unanswered")
def _stale_not_rewound() -> AbstractContextManager[Any]:
    return _step(lambda *_: None)


@fault("state-kept", "After an error in a transaction the state is loaded anew.", "broken")
def _state_kept() -> AbstractContextManager[Any]:
    take_turn = _Owner._take_turn

    async def kept(self: Any) -> None:
        make = self._make
        if not hasattr(self, "kept"):
            self.kept = make(self._partition)
            first = self.kept.load

            async def once(progress: Any) -> Any:
                proven = await first(progress)

                async def never(_: Any) -> Any:
                    return proven

                self.kept.load = never
                return proven

            self.kept.load = once
        self._make = lambda _: self.kept
        await take_turn(self)

    return patch.object(_Owner, "_take_turn", kept)


@fault("offsets-believed", "What the ledger proves counts, whatever the group committed.", "unanswered")
def _offsets_believed() -> AbstractContextManager[Any]:
    async def all_deleted(_: Any) -> int:
        return sys.maxsize

    return patch.object(_Owner, "_first_kept", all_deleted)


@fault("gaps-refused", "Offsets have gaps by right.", "unanswered")
def _gaps_refused() -> AbstractContextManager[Any]:
    accept = _Turn.accept

    def strict(self: Any, records: Sequence[Record]) -> None:
        following = self.fetched
        taken = []
        for record in records:
            if record.offset == following:
                taken.append(record)
                following += 1
        accept(self, taken)

    return patch.object(_Turn, "accept", strict)


@fault(
    "batch-not-awaited",
    "A batch that is under way ends before its partition is given up.",
    "given up",
)
def _batch_not_awaited() -> AbstractContextManager[Any]:
    async def at_once(self: Any) -> None:
        self._is_released = True
        self.task.cancel()
        await asyncio.wait([self.task], timeout=self._limits.close_seconds)

    return patch.object(_Owner, "release", at_once)


@fault("close-awaited", "Nothing waits for a client to close without a limit.", "unanswered")
def _close_awaited() -> AbstractContextManager[Any]:
    async def without_limit(_: str, close: Awaitable[None], __: float) -> None:
        await close

    return patch.object(worker, "_closed", without_limit)


@fault(
    "writer-of-its-own",
    "The writer of a partition has one name, whoever owns it.",
    "broken",
    "duplicated",
)
def _writer_of_its_own() -> AbstractContextManager[Any]:
    transactor = Wire.transactor

    async def named(self: Any, transactional_id: str) -> Any:
        return await transactor(self, f"{transactional_id}-{self.node.name}")

    return patch.object(Wire, "transactor", named)


@fault(
    "record-by-record",
    "What comes of a batch and how far it goes are committed together.",
    "broken",
    "decided differently",
    "forgotten",
    "unanswered",
)
def _record_by_record() -> AbstractContextManager[Any]:
    commit = WireTransactor.commit

    async def apart(
        self: Any, records: Sequence[Outgoing], group: str, next_offsets: Mapping[Partition, int]
    ) -> None:
        for record in records:
            await commit(self, [record], group, {})
        await commit(self, [], group, next_offsets)

    return patch.object(WireTransactor, "commit", apart)


@fault("ledger-read-in-part", "The ledger is read to its end.", "broken", "failed")
def _ledger_read_in_part() -> AbstractContextManager[Any]:
    fold = PartitionWork._fold

    class Short:
        def __init__(self, inner: Any, end: int) -> None:
            self._inner, self._end = inner, end
            self.position = inner.position

        async def read(self, *asked: Any) -> list[Record]:
            return [record for record in await self._inner.read(*asked) if record.offset < self._end]

    async def short(self: Any, reader: Any, snapshot: Any, end: int, progress: Any) -> int:
        return await fold(self, cast("Reader", Short(reader, end - 2)), snapshot, end, progress)

    return patch.object(PartitionWork, "_fold", short)


@fault("ledger-read-uncommitted", "Of the ledger nothing counts that is not committed.", "broken", "failed")
def _ledger_read_uncommitted() -> AbstractContextManager[Any]:
    read = WireReader.read

    async def everything(self: Any, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        records = await read(self, start, limit, wait)
        of: Partition = self._inner._partition
        if not of.topic.endswith(".ledger"):
            return records
        slots = self._inner._log._slots[of][start : self._inner.position()]
        return [slot.record for slot in slots if slot.record is not None]

    return patch.object(WireReader, "read", everything)


@fault("repeats-taken", "What lies below the next offset was delivered before.", "duplicated", "failed")
def _repeats_taken() -> AbstractContextManager[Any]:
    accept = _Turn.accept

    def all_of_it(self: Any, records: Sequence[Record]) -> None:
        self.fetched = min(self.fetched, records[0].offset)
        accept(self, records)

    return patch.object(_Turn, "accept", all_of_it)


@fault("position-kept", "After an error what was not committed is fetched again.", "unanswered")
def _position_kept() -> AbstractContextManager[Any]:
    loaded = _Owner._loaded

    class Stays:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def seek(self, _: Mapping[Partition, int]) -> None:
            """It stands where it stands."""

    async def kept(self: Any, work: Any, writer: Any) -> Any:
        turn = await loaded(self, work, writer)
        if not isinstance(self._member, Stays):
            self._member = Stays(self._member)
        return turn

    return patch.object(_Owner, "_loaded", kept)


class _OneWriter:
    """A log, and its writer, by which an owner goes on with the first it made. Of one that ``forgets`` its client does not refuse to."""

    def __init__(self, log: Any, forgets: bool) -> None:
        self._log, self._forgets = log, forgets
        self._writer: Any = None
        self.reader = log.reader

    async def transactor(self, transactional_id: str) -> Any:
        if self._writer is None:
            self._writer = await self._log.transactor(transactional_id)
        return self

    async def commit(self, *commit: Any) -> None:
        if self._forgets:
            self._writer.failed = self._writer._inner._failed = None
        await self._writer.commit(*commit)

    async def close(self) -> None:
        """It is needed again."""


def _one_writer(forgets: bool) -> AbstractContextManager[Any]:
    run = _Owner._run

    async def with_one(self: Any) -> None:
        self._log = _OneWriter(self._log, forgets)
        await run(self)

    return patch.object(_Owner, "_run", with_one)


@fault("writer-used-again", "A writer that has failed is not used again.", "misused")
def _writer_used_again() -> AbstractContextManager[Any]:
    return _one_writer(forgets=False)


@fault("failed-writer-goes-on", "A writer that has failed refuses to go on.", "broken", "duplicated")
def _failed_writer_goes_on() -> AbstractContextManager[Any]:
    return _one_writer(forgets=True)


@fault("writer-left-open", "A writer that has failed is closed.", "left open")
def _writer_left_open() -> AbstractContextManager[Any]:
    async def not_at_all(_: str, close: Any, __: float) -> None:
        close.close()

    return patch.object(worker, "_closed", not_at_all)


@fault("transaction-awaited", "Nothing waits for a transaction without a limit.", "unanswered")
def _transaction_awaited() -> AbstractContextManager[Any]:
    without: Any = None
    return patch.object(world, "LIMITS", replace(world.LIMITS, commit_seconds=without))


@fault("listener-error-swallowed", "What a rebalance listener raises ends the process.", "unanswered")
@contextmanager
def _listener_error_swallowed() -> Iterator[None]:
    assigned = Worker._assigned

    async def asks_first(self: Any, member: Any, partitions: frozenset[Partition]) -> None:
        await member.committed(partitions)
        await assigned(self, member, partitions)

    async def only_logged(self: Any, callback: Any, partitions: frozenset[Partition]) -> None:
        with suppress(Exception):
            await callback(self, partitions)

    with (
        patch.object(Worker, "_assigned", asks_first),
        patch.object(MemoryMember, "_tell", only_logged),
    ):
        yield


@fault(
    "loaded-in-the-callback",
    "A rebalance callback waits for no load, which is left to the background.",
    "forgotten",
    "unanswered",
)
@contextmanager
def _loaded_in_the_callback() -> Iterator[None]:
    load, assigned = PartitionWork.load, Worker._assigned

    async def of_a_long_ledger(self: Any, progress: Callable[[float], None]) -> int:
        # In the background it may take so long, and does no harm.
        await asyncio.sleep(REBALANCE_SECONDS + 1.0)
        return await load(self, progress)

    async def waits(self: Any, member: Any, partitions: frozenset[Partition]) -> None:
        await assigned(self, member, partitions)
        owners = [self._owners[partition] for partition in partitions]
        while any(owner.turn is None and not owner.task.done() for owner in owners):
            await asyncio.sleep(0.1)

    with patch.object(PartitionWork, "load", of_a_long_ledger), patch.object(Worker, "_assigned", waits):
        yield


@fault("half-assigned", "Who can't work on a partition tries again, or ends the process.", "unanswered")
def _half_assigned() -> AbstractContextManager[Any]:
    async def once(self: Any) -> None:
        with suppress(Exception):
            await self._take_turn()
        await asyncio.get_running_loop().create_future()

    return patch.object(_Owner, "_run", once)
