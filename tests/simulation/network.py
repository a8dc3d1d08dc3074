"""What lies between a process and what it asks: broker and database are some milliseconds away, sometimes seconds, sometimes for good.

An answer can get lost though what was asked is done, or is done later. Whoever is silent for too long is taken for dead by its groups
and by the transactions it left open, is not told, and goes on; it hears of it with its next heartbeat.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import (
    Appender,
    Fenced,
    GroupMember,
    Kept,
    LogError,
    LogUnavailable,
    Outgoing,
    Partition,
    Position,
    Reader,
    Rebalanced,
    Record,
    TopicSpec,
    Transactor,
)
from referral_bus.store.memory import MemoryViews
from referral_bus.store.port import Claim, StoreUnavailable
from referral_bus.store.rows import Put, Row, Wanted
from tests.simulation.loop import Node, SeededLoop

T = TypeVar("T")

SESSION_SECONDS: Final = 4.0
HEARTBEAT_SECONDS: Final = 2.0
REBALANCE_SECONDS: Final = 5.0
TRANSACTION_SECONDS: Final = 5.0
REVOKE_SECONDS: Final = 3.0
"""For so long a process that loses its partitions may go on with what is under way."""
COMMIT_SECONDS: Final = 5.0
"""For so long it waits for a transaction."""
PATIENCE_SECONDS: Final = 2.0
"""After which whoever asks gives up."""


class Weather:
    """How bad things are now. ``lost`` is the share of answers that are lost, ``slow`` that of those that take seconds, ``stale`` that
    of records that arrive long after they were fetched, ``mute`` that of transactions which, where no answer comes, nobody is told of:
    the client goes on asking."""

    def __init__(self, loop: SeededLoop) -> None:
        self.loop = loop
        self.lost = self.slow = self.stale = self.mute = 0.0
        self.draw: random.Random = loop.draw

    def fair(self) -> None:
        self.lost = self.slow = self.stale = self.mute = 0.0

    async def way(self) -> None:
        """As long as it takes to get there, or back."""
        slow = self.draw.random() < self.slow
        await asyncio.sleep(self.draw.uniform(0.2, 4.0) if slow else self.draw.uniform(0.001, 0.01))

    async def fetch(self) -> None:
        """As long as records are under way."""
        stale = self.draw.random() < self.stale
        await asyncio.sleep(self.draw.uniform(0.1, 2.5) if stale else self.draw.uniform(0.001, 0.01))

    async def ask(self, node: Node, what: Callable[[], Awaitable[T]], silent: Callable[[], Exception]) -> T:
        """Have it done on the other side. Raises what ``silent`` makes where no answer comes; it may be done all the same, and later."""
        if node.cut:
            await asyncio.sleep(PATIENCE_SECONDS)
            raise silent()

        lost = self.draw.random() < self.lost
        late = lost and self.draw.random() < 0.5

        async def there() -> T:
            await (asyncio.sleep(self.draw.uniform(0.1, 4.0)) if late else self.way())
            return await what()

        doing = self.loop.outside(there())
        if lost:
            await asyncio.sleep(self.draw.uniform(0.0, 0.1))
            raise silent()
        result = await asyncio.shield(doing)
        await self.way()
        if node.cut:
            raise silent()
        return result


class Broker:
    """The cluster, and what it believes of whom."""

    def __init__(self, log: MemoryLog, weather: Weather, told: Callable[[str], None]) -> None:
        self.log, self.weather = log, weather
        self.loop = weather.loop
        self.told = told
        self.members: list[tuple[Node, MemoryMember]] = []
        self.given_up: list[str] = []
        """Transactions that their own owner dropped as it lost its partition, though it had time."""
        self.misused: list[str] = []
        """Writers that were used again after they had failed."""
        self._writers: list[WireTransactor] = []
        self.furthest: dict[tuple[str, Partition], int] = {}
        """Up to where each group was ever stored to be, outside of transactions. Now it may be less: of two requests the first may be done
        last."""
        self._committing: dict[str, Node] = {}
        log.interrupt = self._in_the_middle

    def reach(self, node: Node) -> Wire:
        return Wire(self, node)

    def writes(self, writer: WireTransactor) -> WireTransactor:
        self._writers.append(writer)
        return writer

    def left_open(self) -> list[str]:
        """Writers that a process which lives keeps beside their successors."""
        last = {(writer.node, writer.id): writer for writer in self._writers}
        return [
            f"a writer of {writer.id} on {writer.node.name}"
            for writer in self._writers
            if not (writer.closed or writer.node.dead or last[writer.node, writer.id] is writer)
        ]

    async def commit(self, node: Node, id: str, inner: Transactor, *commit: Any) -> None:
        self._committing[id] = node
        await inner.commit(*commit)

    async def _in_the_middle(self, id: str) -> None:
        """Between a transaction's records and its end. The end must come from its owner."""
        node, open_one = self._committing[id], self.log._open[id]
        await self.weather.way()
        if self.log._open.get(id) is not open_one:
            return  # its next owner has settled it meanwhile
        if not (node.dead or node.cut or node.paused or self.weather.draw.random() < self.weather.lost):
            return
        self.told(f"{node.name} leaves a transaction of {id} open")
        if self.weather.draw.random() < 0.5:
            # As it may be where a broker is killed while it commits it (decision 0042).
            self.told(f"the offsets in the transaction of {id} are committed, and nothing else")
            for (group, partition), offset in open_one.offsets.items():
                self.log.store(group, {partition: offset})

        async def time_out() -> None:
            await asyncio.sleep(TRANSACTION_SECONDS)
            if self.log._open.get(id) is open_one:
                await self.log.transactor(id)  # as the broker does: the owner is fenced

        self.loop.outside(time_out())
        raise LogUnavailable(f"commit of {id}: its owner said no more")

    async def watch(self, node: Node) -> None:
        """The heartbeats of a process, until it is dead and its groups know."""
        heard = self.loop.time()
        while True:
            await asyncio.sleep(self.weather.draw.uniform(0.3, 1.0) * HEARTBEAT_SECONDS)
            mine = [member for owner, member in self.members if owner is node and not member.left]
            if not (node.dead or node.paused or node.cut):
                heard = self.loop.time()
                for member in mine:
                    if member.expelled:
                        await self._back(member)
            elif self.loop.time() >= heard + SESSION_SECONDS:
                for member in mine:
                    if member in member.group.members and not member.expelled:
                        self.told(f"{node.name} is taken for dead in {member.group.name}")
                        await self.log.expel(member)
                if node.dead:
                    self.members = [one for one in self.members if one[0] is not node]
                    return

    async def lost(self, member: MemoryMember) -> None:
        """Its process died, perhaps before it knew that it had joined: the group finds out in its time."""
        if not member.dead:
            self.log.crash(member)

            async def time_out() -> None:
                await asyncio.sleep(SESSION_SECONDS)
                await self.log.rebalance(member.group.name)

            self.loop.outside(time_out())

    async def _back(self, member: MemoryMember) -> None:
        """It hears that it was taken for dead, and joins anew: not amid a rebalance, which would give to it without having taken."""
        async with member.group.rebalancing:
            member.expelled = False
            if member not in member.group.members:
                member.group.members.append(member)
        await self.log.rebalance(member.group.name)


class Wire:
    """A process's way to the broker: the port to the log."""

    def __init__(self, broker: Broker, node: Node) -> None:
        self.broker, self.node, self.log = broker, node, broker.log
        self._losing: dict[str, float] = {}
        """Since when it is told by each group to give up what it has."""

    async def ask(self, doing: str, what: Callable[[], Awaitable[T]]) -> T:
        return await self.broker.weather.ask(self.node, what, lambda: LogUnavailable(f"{doing}: no answer"))

    async def appender(self) -> Appender:
        return WireAppender(self, await self.ask("start an appender", self.log.appender))

    async def transactor(self, transactional_id: str) -> Transactor:
        inner = await self.ask("take over", lambda: self.log.transactor(transactional_id))
        return self.broker.writes(WireTransactor(self, transactional_id, inner))

    async def reader(self, partition: Partition) -> Reader:
        return WireReader(self, await self.ask("read", lambda: self.log.reader(partition)))

    async def join(
        self, group: str, topics: Iterable[str], *, assigned: Rebalanced, revoked: Rebalanced
    ) -> GroupMember:
        """Its answer is never lost: a member nobody knows of would be one more that is silent, and there are enough."""
        mine: list[WireMember] = []
        last: list[asyncio.Task[None]] = []

        async def losing(member: GroupMember, partitions: frozenset[Partition]) -> None:
            self._losing[group] = self.broker.loop.time()
            await revoked(member, partitions)

        def here(callback: Rebalanced) -> Rebalanced:
            async def tell(raw: GroupMember, partitions: frozenset[Partition]) -> None:
                assert isinstance(raw, MemoryMember)
                if not mine:
                    mine.append(WireMember(self, raw))
                    self.broker.members.append((self.node, raw))
                if self.node.dead or raw.dead:
                    await self.broker.lost(raw)
                    return
                telling = self.node.spawn(_after(last[-1:], callback, mine[0], partitions))
                last[:] = [telling]
                done, _ = await asyncio.wait([telling], timeout=REBALANCE_SECONDS)
                if done:
                    telling.result()
                else:
                    raw.expelled = True

            return tell

        while self.node.cut:
            await asyncio.sleep(PATIENCE_SECONDS)
        joining = self.log.join(group, topics, assigned=here(assigned), revoked=here(losing))
        await asyncio.shield(self.broker.loop.outside(joining))
        return mine[0]

    def dropped(self, id: str, group: str, began: float) -> None:
        """A transaction is cancelled by its owner."""
        asked = [at for at in (self._losing.get(group, 0.0), self.node.stopped_at) if at >= began]
        has_time_until = min((began + COMMIT_SECONDS, *(at + REVOKE_SECONDS for at in asked)))
        if asked and self.broker.loop.time() < has_time_until:
            told = f"{self.node.name} gives up a transaction of {id} though it has time"
            self.broker.told(told)
            self.broker.given_up.append(told)

    async def topics(self) -> dict[str, int]:
        return await self.ask("look up", self.log.topics)

    async def partitions(self, topic: str) -> int:
        return await self.ask("look up", lambda: self.log.partitions(topic))

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        await self.log.ensure(topics)

    async def close(self) -> None:
        for owner, member in self.broker.members:
            if owner is self.node and not member.left:
                await asyncio.shield(self.broker.loop.outside(member.close()))


async def _after(
    former: list[asyncio.Task[None]],
    callback: Rebalanced,
    member: GroupMember,
    partitions: frozenset[Partition],
) -> None:
    """A client is told of one change of the group after the other, however late."""
    if former:
        await asyncio.wait(former)
    await callback(member, partitions)


class WireAppender:
    """Of one appender the records arrive in the order in which they were sent."""

    def __init__(self, wire: Wire, inner: Appender) -> None:
        self._wire, self._inner = wire, inner
        self._turn = asyncio.Lock()

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        async with self._turn:
            return await self._wire.ask("append", lambda: self._inner.append(records))

    async def close(self) -> None:
        return None


class WireTransactor:
    """As the real client, once it has failed in any way it does nothing any more but close."""

    def __init__(self, wire: Wire, id: str, inner: Transactor) -> None:
        self._wire, self.id, self._inner = wire, id, inner
        self.node = wire.node
        self.failed: BaseException | None = None
        self.closed = False
        """Or about to be."""

    async def commit(
        self, records: Sequence[Outgoing], group: str, next_offsets: Mapping[Partition, int]
    ) -> None:
        broker = self._wire.broker
        if self.failed is not None:
            used = f"{self.node.name} uses a writer of {self.id} again that had failed"
            broker.told(used)
            broker.misused.append(used)
            kind = Fenced if isinstance(self.failed, Fenced) else LogError
            raise kind(f"{self.id} failed before and can't go on: make a new one") from self.failed
        commit = (records, group, dict(next_offsets))
        began = broker.loop.time()
        try:
            await self._ask(*commit)
        except asyncio.CancelledError as error:
            self.failed = error
            self._wire.dropped(self.id, group, began)
            raise
        except BaseException as error:
            self.failed = error
            raise

    async def _ask(self, *commit: Any) -> None:
        broker = self._wire.broker
        try:
            await self._wire.ask("commit", lambda: broker.commit(self.node, self.id, self._inner, *commit))
        except LogUnavailable:
            if broker.weather.draw.random() < broker.weather.mute:
                broker.told(f"{self.node.name} is told nothing of its transaction of {self.id}")
                await broker.loop.create_future()
            raise

    async def close(self) -> None:
        """A client that reaches nobody waits for an answer that it will not get."""
        self.closed = True
        if self.node.cut or self._wire.log.away:
            await self._wire.broker.loop.create_future()


class WireReader:
    def __init__(self, wire: Wire, inner: Reader) -> None:
        self._wire, self._inner = wire, inner

    async def start(self) -> int:
        return await self._wire.ask("the start", self._inner.start)

    async def end(self) -> int:
        return await self._wire.ask("the end", self._inner.end)

    async def read(self, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        if self._wire.node.cut:
            await asyncio.sleep(wait)
            return []
        records = await self._inner.read(start, limit, wait)
        await self._wire.broker.weather.way()
        return records

    def position(self) -> int:
        return self._inner.position()

    async def close(self) -> None:
        return None


class WireMember:
    """What it polls was fetched some time before it arrives; the group may have changed meanwhile."""

    def __init__(self, wire: Wire, inner: MemoryMember) -> None:
        self._wire, self._inner = wire, inner
        self.pause, self.resume = inner.pause, inner.resume

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        """The client drops what it has fetched; only a poll that is under way may still bring it."""
        kept = [stale for stale in self._inner.stale if stale[0] not in next_offsets]
        self._inner.stale.clear()
        self._inner.stale.extend(kept)
        self._inner.seek(next_offsets)

    async def poll(self, limit: int = 500, wait: float = 0.1) -> Mapping[Partition, list[Record]]:
        if self._wire.node.cut:
            await asyncio.sleep(wait)
            return {}
        polled = await self._inner.poll(limit, wait)
        if polled:
            await self._wire.broker.weather.fetch()
        return polled

    async def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        async def there() -> None:
            await self._inner.commit(dict(next_offsets))
            furthest = self._wire.broker.furthest
            for partition, offset in next_offsets.items():
                key = self._inner.group.name, partition
                furthest[key] = max(offset, furthest.get(key, 0))

        await self._wire.ask("store offsets", there)

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        wanted = list(partitions)
        return await self._wire.ask("offsets", lambda: self._inner.committed(wanted))

    async def kept(self, partitions: Iterable[Partition]) -> dict[Partition, Kept]:
        wanted = list(partitions)
        return await self._wire.ask("what is kept", lambda: self._inner.kept(wanted))

    async def lag(self) -> dict[Partition, int]:
        return await self._wire.ask("lag", self._inner.lag)

    async def close(self) -> None:
        """The group hears of it, or finds out in its time."""
        broker = self._wire.broker
        leaving = broker.lost(self._inner) if self._wire.node.cut else self._inner.close()
        await asyncio.shield(broker.loop.outside(leaving))


class Database:
    """A process's way to the database. What is done there is done at once or not at all, as a transaction is."""

    def __init__(self, node: Node, weather: Weather, away: Callable[[], bool]) -> None:
        self._node, self._weather, self._away = node, weather, away

    async def ask(self, what: Callable[[], T], silent: Callable[[], Exception]) -> T:
        async def there() -> T:
            if self._away():
                raise silent()
            return what()

        return await self._weather.ask(self._node, there, silent)


class WireViews:
    """A process's way to the views."""

    def __init__(self, database: Database, views: MemoryViews) -> None:
        self._database, self._views = database, views

    async def _ask(self, what: Callable[[], Awaitable[T]]) -> T:
        return await self._database.ask(lambda: _at_once(what()), lambda: StoreUnavailable("no answer"))

    async def claim(self, partition: Partition) -> Claim:
        return await self._ask(lambda: self._views.claim(partition))

    async def apply(
        self, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Put]
    ) -> None:
        await self._ask(lambda: self._views.apply(partition, epoch, start, end, changes))

    async def rows(self, wanted: Wanted) -> list[tuple[str, Row]]:
        return await self._ask(lambda: self._views.rows(wanted))

    async def close(self) -> None:
        return None


def _at_once(work: Awaitable[T]) -> T:
    """The result of what awaits nothing."""
    try:
        work.__await__().send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a store in memory waits for nothing")
