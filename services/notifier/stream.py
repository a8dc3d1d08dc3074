"""The ledger as a stream: a Faust app that reads committed data only, hands over raw records one by one, and takes over nothing.

Faust reads with ``read_uncommitted`` unless it runs its own transactions; the consumer made here does not. An agent acknowledges
what it raises on, so the one here only passes records on: they are handled beside it, in batches of what waits, and acknowledged
by hand after that. A record that can't be handled stops the stream where it stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

import aiokafka
import faust
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport, server_list
from faust.types import TP, AppT
from mode.services import WaitResults

from referral_bus.log.access import KafkaAccess
from referral_bus.log.port import LogError, LogUnavailable, Record

logger = logging.getLogger(__name__)

SESSION_SECONDS: Final = 6.0
HEARTBEAT_SECONDS: Final = 1.0
REBALANCE_SECONDS: Final = 30.0
REQUEST_SECONDS: Final = 8.0
"""Longer than a join waits for a member that was killed; a leader that hangs is noticed by it alone."""
METADATA_SECONDS: Final = 10.0
"""Who leads is asked for again at least so often: after five minutes, as Faust has it, a client still asked one that had hung."""
COMMIT_SECONDS: Final = 1.0
_FETCH_WAIT_MS: Final = 500
_WATCH_SECONDS: Final = 1.0
_POSITION_SECONDS: Final = 0.05
_ASK_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 5.0
_BATCH: Final = 500
_LOOK_SECONDS: Final = 0.2
STALLED_SECONDS: Final = 12.0
"""After so long in which nothing was read of a partition that has more, Faust is taken to have lost it in a rebalance."""

Handle = Callable[[Sequence[Record]], Awaitable[None]]
"""Handles records: returns once they are stored for good, raises where one never can be."""


class _Place(NamedTuple):
    """Where the consumer stands in a partition: the end of what is committed, the position once it has one, the offset of what it gave
    first since the partition came, and the one behind what it gave last."""

    end: int
    position: int | None
    first: int | None
    given: int | None


class _Stand(NamedTuple):
    """Where the stream stands in a partition: the offset behind what was handled, if that is known yet, the end of what is committed, and
    whether something of it was given and waits to be handled."""

    handled: int | None
    end: int
    waits: bool


class _CommittedConsumerThread(AIOKafkaConsumerThread):
    """Builds a consumer that hears of nothing until its transaction is committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first: dict[TP, int] = {}
        self.given: dict[TP, int] = {}
        self.fetches = 0
        """How often it has asked for records, and had an answer."""
        self._given_up = False

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        records = await super()._fetch_records(*args, **kwargs)
        self.fetches += 1
        # What comes while the flow is suspended is dropped, and read again.
        if self.consumer.flow_active:
            for tp, batch in records.items():
                self.first.setdefault(tp, batch[0].offset)
                self.given[tp] = batch[-1].offset + 1
        return records

    def _start_thread(self) -> None:
        try:
            super()._start_thread()
        except RuntimeError:
            if not self._given_up:
                raise

    def give_up(self) -> None:
        """End the thread where it stands. What was not acknowledged is read again."""
        self._given_up = True
        if not self.thread_loop.is_closed():
            self.thread_loop.call_soon_threadsafe(self.thread_loop.stop)

    async def places(self, partitions: Sequence[TP]) -> dict[int, _Place]:
        """Where it stands in each. Raises what aiokafka raises, and TimeoutError.

        It is run on the thread's loop beside what Faust does there. As a call of Faust's it would hold one of the two hands with which
        Faust seeks and fetches, for as long as a broker does not answer; and it could not tell that neither comes back.
        """
        if self.thread_loop.is_closed():
            raise ConsumerNotStarted("the thread has ended")
        answer = asyncio.run_coroutine_threadsafe(self._places(partitions), self.thread_loop)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if asking is not None and asking.cancelling():
                raise
            raise ConsumerNotStarted("the thread has ended") from None

    async def _places(self, partitions: Sequence[TP]) -> dict[int, _Place]:
        consumer = self._ensure_consumer()
        ends = await consumer.end_offsets(partitions)
        # A known position is told without a turn of the loop, so it goes with what was given.
        return {
            tp.partition: _Place(
                ends[tp], await _position(consumer, tp), self.first.get(tp), self.given.get(tp)
            )
            for tp in partitions
        }

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            **cast(_CommittedTransport, transport).access.options,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
            metadata_max_age_ms=int(METADATA_SECONDS * 1000),
            rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
            # As good as none: a member without partitions asks for nothing, and would be taken out of the group for good.
            max_poll_interval_ms=2**31 - 1,
        )


class _CommittedConsumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        self.reading = _CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)
        return self.reading

    async def wait_first(self, *waited: Any, timeout: Any = None) -> WaitResults:  # noqa: ASYNC109 - as Faust has it
        """Faust puts each record to its stream in a race with the event that suspends the flow, with four tasks and some turns of the
        loop for a record; while deliveries keep the loop busy, no more than a few records came in the time of one batch. Here a
        record is put and no more, which waits for nothing while the flow goes on. Once it is suspended Faust's race gives the record up:
        Faust keeps the fetcher over a rebalance, and a record held until the flow goes on would set what was read to where it stood
        before the seek, so that all up to there is dropped."""
        if len(waited) != 2 or not self.flow_active:
            return await super().wait_first(*waited, timeout=timeout)
        put, suspended = waited
        suspended.close()
        await put
        return WaitResults(done=[put], results=[None], stopped=False)

    def _new_offset(self, tp: TP) -> int | None:
        """Behind all that was acknowledged, which is done in order. Faust's own gets no further than to the next mark of a transaction:
        where each held a few events, one a second was committed, and whoever came next read nearly all of it again."""
        acked = self._acked[tp]
        if not acked:
            return None
        following = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return following

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: Faust sorts all the gaps it has at each new one, for its own :meth:`_new_offset` alone."""


class _CommittedTransport(Transport):
    Consumer = _CommittedConsumer

    def __init__(self, access: KafkaAccess, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access = access


class _ReadOnly(BootStrategy):
    """A consumer and its agents; no producer and no web server."""

    enable_kafka_producer = False
    enable_web = False


class _App(faust.App):
    BootStrategy = _ReadOnly

    async def on_first_start(self) -> None:
        """Nothing: without tables there is nothing to keep in a folder."""


class StreamStopped(Exception):
    """The stream ended without having been asked to. The message says why."""


class LedgerStream:
    """Reads a topic as a member of ``group`` and gives each record to ``handle``, in order within a partition."""

    def __init__(self, access: KafkaAccess | str, group: str, topic: str, handle: Handle) -> None:
        self._access = KafkaAccess.of(access)
        self._group = group
        self._topic = topic
        self._handle = handle
        self._app: _App | None = None
        self._following: dict[int, int] = {}
        self._partitions: frozenset[int] | None = None
        self._targets: dict[int, int] = {}
        self._behind: set[int] = set()
        self.positions: dict[int, int] = {}
        """The offset behind what was handled, by partition. As of the last :meth:`lag`."""
        self.assigned = asyncio.Event()
        """Set once the group has given this member its partitions."""

    @property
    def behind(self) -> int | None:
        """How many of its partitions have not been handled up to the end that was seen after they came; None while it has none. As of
        the last :meth:`lag`."""
        return None if self._partitions is None else len(self._behind & self._partitions)

    async def run(self) -> None:
        """Read until cancelled. Raises what ``handle`` raises, and StreamStopped where Faust gives up by itself."""
        queue: asyncio.Queue[Any] = asyncio.Queue(_BATCH)
        async with self._started(queue) as app:
            ended = asyncio.create_task(_ended(app))
            handling = asyncio.create_task(self._work(queue))
            stalling = asyncio.create_task(self._stalled())
            beside = (ended, handling, stalling)
            try:
                await asyncio.wait(beside, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
            for task in (handling, stalling):
                if not task.cancelled():
                    task.result()
            raise StreamStopped(
                f"the stream of {self._topic} ended: {app.crash_reason or 'no reason was given'}"
            )

    async def _work(self, queue: asyncio.Queue[Any]) -> None:
        """Handle what waits, all of it at once, and acknowledge it then."""
        while True:
            events = [await queue.get()]
            while not queue.empty() and len(events) < _BATCH:
                events.append(queue.get_nowait())
            await self._handle([_record(event.message) for event in events])
            for event in events:
                self._following[event.message.partition] = event.message.offset + 1
                event.ack()

    async def _stalled(self) -> None:
        """Raises StreamStopped once a partition stands still that has more to give. After a member was expelled Faust may leave a
        partition it was assigned without a reader, for minutes; whoever joins anew has it at once."""
        since: dict[tuple[int, int | None], float] = {}
        fetches = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                stands = await self._stands()
            except LogError:
                stands = {}  # then it is not the stream that is away
            asked, fetches = fetches, self._fetches()
            if asked == fetches and any(stand.waits for stand in stands.values()):
                stands = {}  # so much waits that nothing more is fetched
            now = time.monotonic()
            since = {
                (partition, stand.handled): since.get((partition, stand.handled), now)
                for partition, stand in stands.items()
                if (stand.handled or 0) < stand.end and not stand.waits
            }
            for (partition, handled), began in since.items():
                if now - began >= STALLED_SECONDS:
                    raise StreamStopped(
                        f"nothing came of {self._topic}/{partition} behind offset {handled or 0} for {STALLED_SECONDS:g} s, though more is "
                        "there: the process ends, and takes its partitions anew when it is started again"
                    )

    async def lag(self) -> dict[int, int]:
        """Offsets between what was handled and the end, by partition, of those that have a position. The marks that end transactions are
        never handed over: where all that was handed over is handled, it counts from the consumer's position, which passes over them.
        Raises LogError."""
        stands = await self._stands()
        self.positions = {
            partition: stand.handled for partition, stand in stands.items() if stand.handled is not None
        }
        for partition, stand in stands.items():
            target = self._targets.setdefault(partition, stand.end)
            if self.positions.get(partition, -1) >= target:
                self._behind.discard(partition)
        return {
            partition: max(0, stands[partition].end - handled)
            for partition, handled in self.positions.items()
        }

    async def _stands(self) -> dict[int, _Stand]:
        """Where it stands in each of its partitions. Raises LogError."""
        partitions = self._partitions
        if self._app is None or not partitions:
            return {}
        try:
            places = await _reading(self._app).places(
                [TP(self._topic, partition) for partition in partitions]
            )
        except (TimeoutError, OSError, ConsumerNotStarted) as error:
            raise LogUnavailable(f"{self._topic}: the end is not known: {type(error).__name__}") from error
        except KafkaError as error:
            raise LogError(f"{self._topic}: the end is not known: {type(error).__name__}") from error
        if self._partitions is not partitions:
            return {}
        return {partition: self._stand(partition, place) for partition, place in places.items()}

    def _stand(self, partition: int, place: _Place) -> _Stand:
        # A batch of a former ownership may end after that, so what is given of this one counts where it is further on.
        known = [offset for offset in (self._following.get(partition), place.first) if offset is not None]
        following = max(known, default=None)
        waits = place.given is not None and following is not None and following < place.given
        handled = following if waits or place.position is None else place.position
        return _Stand(handled, place.end, waits)

    def _fetches(self) -> int:
        return _reading(self._app).fetches if self._app is not None else 0

    @asynccontextmanager
    async def _started(self, queue: asyncio.Queue[Any]) -> AsyncIterator[_App]:
        app = self._app = self._new_app(queue)
        try:
            await app.start()
            yield app
        finally:
            self.assigned.clear()
            self._partitions = None
            await _stop(app)
            self._app = None

    def _new_app(self, queue: asyncio.Queue[Any]) -> _App:
        app = _App(
            self._group,
            broker=[f"kafka://{address}" for address in self._access.bootstrap.split(",")],
            loop=asyncio.get_running_loop(),
            autodiscover=False,
            key_serializer="raw",
            value_serializer="raw",
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_session_timeout=SESSION_SECONDS,
            broker_request_timeout=REQUEST_SECONDS,
            broker_commit_interval=COMMIT_SECONDS,
            stream_wait_empty=False,
            web_enabled=False,
        )
        app.transport = _CommittedTransport(self._access, app.conf.broker_consumer, cast(AppT, app))
        topic = app.topic(self._topic, key_serializer="raw", value_serializer="raw")

        async def ledger(stream: Any) -> None:
            async for event in stream.noack().events():
                await queue.put(event)

        app.agent(topic, name=f"{self._group}-ledger", concurrency=1)(ledger)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        return app

    def _on_assigned(self, _: object, /, *given: Any, **__: object) -> None:
        [partitions] = given
        self._partitions = frozenset(tp.partition for tp in partitions if tp.topic == self._topic)
        self._behind = set(self._partitions)
        self.assigned.set()

    def _on_revoked(self, app: _App, /, *_: object, **__: object) -> None:
        """Nothing is given until the next assignment, from positions of its own."""
        self._partitions = None
        self._targets.clear()
        self._following.clear()
        _reading(app).first.clear()
        _reading(app).given.clear()


def _reading(app: _App) -> _CommittedConsumerThread:
    return cast(_CommittedConsumer, app.consumer).reading


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp=int(message.timestamp * 1000),
        key=message.key,
        value=message.value,
        headers=tuple(message.headers or ()),
    )


async def _position(consumer: aiokafka.AIOKafkaConsumer, tp: TP) -> int | None:
    """None while it has none: after a rebalance it waits to be sought."""
    try:
        async with asyncio.timeout(_POSITION_SECONDS):
            return int(await consumer.position(tp))
    except TimeoutError:
        return None


async def _stop(app: _App) -> None:
    """Let Faust end in order, or, where its thread hangs and it would wait half a minute for it, without."""
    stopping = asyncio.create_task(app.stop())
    done, _ = await asyncio.wait([stopping], timeout=_STOP_SECONDS)
    if done:
        stopping.result()
        return
    logger.warning("Faust did not stop within %g s and is left", _STOP_SECONDS)
    stopping.cancel()
    _reading(app).give_up()


async def _ended(app: _App) -> None:
    """Returns once Faust has stopped or crashed. Its own way to wait for that leaves a task behind when it is cancelled."""
    while not app.should_stop:  # noqa: ASYNC110 - what Faust offers to wait for doesn't survive a cancel
        await asyncio.sleep(_LOOK_SECONDS)
