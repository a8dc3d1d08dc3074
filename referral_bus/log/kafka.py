"""The log on a Kafka cluster, through aiokafka.

The settings are in :data:`PRODUCER`, :data:`TRANSACTIONS`, :data:`CONSUMER` and :data:`GROUP`, each with the reason for its
value; the time limits below them bound everything that would otherwise wait for a broker for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import create_conn, get_ip_port_afi
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from referral_bus.log.access import KafkaAccess
from referral_bus.log.connecting import connect_apart
from referral_bus.log.port import (
    LARGEST_RECORD,
    Appender,
    Fenced,
    GroupMember,
    Kept,
    LogError,
    LogRefused,
    LogUnavailable,
    Outgoing,
    Partition,
    Position,
    Reader,
    Rebalanced,
    Record,
    TopicSpec,
    Transactor,
    check,
    count_of,
    to_read,
)
from referral_bus.log.refusal import refusal

PRODUCER: Final[dict[str, Any]] = {
    "acks": "all",  # acknowledged means: on all in-sync replicas
    "enable_idempotence": True,  # a retry after a lost answer does not append twice
    # Sealed Avro still shares its headers and framing. A quarter smaller than lz4, and a quarter of its work: aiokafka's lz4 is the slow
    # kind (level 9), with no way to say otherwise.
    "compression_type": "zstd",
    "linger_ms": 0,  # what waits while a request is under way makes the next batch: no latency when idle
    "max_batch_size": 512
    * 1024,  # a transaction's records go out in one request; half of what a broker takes by itself
    "max_request_size": LARGEST_RECORD,  # a larger one is refused here before it is by the broker
    # A broker that hangs is noticed by this alone. It may happen twice in a transaction's time: by the request, and by the question who
    # leads now, which goes to any broker, also to the one that hangs.
    "request_timeout_ms": 5_000,
    # A client knows the brokers that were up when it last asked, and has nobody to ask once they are all down. Brokers that go and
    # come in turn, as in a rolling restart, must be known again before the next one goes.
    "metadata_max_age_ms": 10_000,
}
TRANSACTIONS: Final[dict[str, Any]] = {
    "transaction_timeout_ms": 15_000,  # a dead owner's open transaction holds committed readers up no longer
    # A transaction that follows another at once may be told that the former is still being marked, as a want of replicas: the
    # default of 100 ms would be waited several times a second.
    "retry_backoff_ms": 20,
}
CONSUMER: Final[dict[str, Any]] = {
    "isolation_level": "read_committed",  # what is not committed has not been said
    "enable_auto_commit": False,  # offsets move with the work, never by a timer
    "auto_offset_reset": "none",  # records deleted before they were read are an error, not a jump
    "request_timeout_ms": 8_000,  # longer than a join waits for a member that was killed; a leader that hangs is noticed by it alone
    # A long poll: it answers as soon as anything is there, but aiokafka has one at a time for a broker. One that holds only quiet
    # partitions keeps a busy one waiting for so long, with its backlog: at the default of 500 ms that is what throughput becomes.
    "fetch_max_wait_ms": 100,
    "metadata_max_age_ms": 10_000,  # as for the producer
}
GROUP: Final[dict[str, Any]] = {
    "session_timeout_ms": 6_000,  # the broker's minimum: a killed member's partitions move after this
    "heartbeat_interval_ms": 1_000,  # several chances before the session is over
    "rebalance_timeout_ms": 30_000,  # longer than the longest batch that a revocation may wait for
    # As good as none: aiokafka takes who has not polled for so long out of the group. A process that hangs sends the group no
    # heartbeat either, and a part that hangs in a process that lives breaks its promise to beat (runtime.health).
    "max_poll_interval_ms": 2**31 - 1,
    # By ranges, of topics of one partition each one member would be given all.
    "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
}

CONNECT_SECONDS: Final = 30.0
"""To start a client, which includes fencing a former owner and settling its transaction, or the first assignment."""
TRANSACTION_SECONDS: Final = 15.0
"""For one whole transaction; the broker aborts it after as long, so waiting longer could not help."""
APPEND_SECONDS: Final = 10.0
"""For an append outside transactions to be acknowledged."""
ASK_SECONDS: Final = 10.0
"""For a question to the broker: ends, offsets, metadata."""
LOOK_SECONDS: Final = 3.0
"""For one broker to say which topics there are, before another is asked: three fit into :data:`ASK_SECONDS`. Where none does in that
time, one is given all of it."""
UNKNOWN_SECONDS: Final = 2.0
"""For a topic that was just made to become known to every broker, before it is taken for missing."""
ANSWER_SECONDS: Final = 1.0
"""For a broker to answer at all, before a client begins with it: one that hangs takes connections and says nothing, and whoever begins with
it waits for it as long as for any request."""
STOP_SECONDS: Final = 5.0
"""For a client to stop: aiokafka waits for a broker that may be gone."""
GRACE_SECONDS: Final = 1.0
"""For a client that is given up while it starts to come through its bootstrap, and for what it does beside to end."""
POLL_GRACE_SECONDS: Final = 1.0
"""aiokafka's poll waits for a rebalance beyond its timeout; the loop that polls has to show that it lives."""
RETRY_SECONDS: Final = 0.2
"""Between two tries to reach a broker at all."""
_BROKERS_SECONDS: Final = 10.0
"""How long a topic is asked for again that fewer brokers can hold than it wants: they may be starting, or were away for a moment."""

_CREATED: Final = (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError)

_CREATE_TIME: Final = 0
"""Kafka's timestamp type of a record whose time its producer set."""
_LARGEST: Final = "max.message.bytes"
_IN_SYNC: Final = "min.insync.replicas"
_OUTLIVE_ONE: Final = 3
"""So many copies outlive a broker: a record is acknowledged once two have it, and is taken while one broker is away."""
_NOTHING: Final = TopicPartition("", 0)
"""For a poll of no partition: aiokafka takes an empty list for all there are."""
_Got = TypeVar("_Got")
_log = logging.getLogger(__name__)

_FENCING = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
    kafka_errors.TransactionCoordinatorFenced,
)
_UNAVAILABLE = (
    TimeoutError,
    OSError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.NotEnoughReplicasError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.StaleMetadata,
)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """aiokafka's errors as the port's, looking through the generic error it wraps the real one in."""
    try:
        yield
    except LogError:
        raise
    except (
        kafka_errors.KafkaError,
        kafka_errors.IllegalOperation,
        kafka_errors.ConsumerStoppedError,
        TimeoutError,
        OSError,
        AssertionError,
        ValueError,
    ) as error:
        for cause in _causes(error):
            if isinstance(cause, _FENCING):
                raise Fenced(
                    f"{doing}: another owner has started; forget the state and stop writing"
                ) from error
        for cause in _causes(error):
            if isinstance(cause, _UNAVAILABLE) or getattr(cause, "retriable", False):
                reason = type(cause).__name__
                raise LogUnavailable(
                    f"{doing}: no answer from Kafka ({reason}); check that the broker runs and is reachable"
                ) from error
        raise LogError(f"{doing}: {type(error).__name__}: {str(error)[:300]}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


async def _within(seconds: float, doing: str, work: Awaitable[_Got]) -> _Got:
    with _translated(doing):
        async with asyncio.timeout(seconds):
            return await work


async def _stopped(what: str, stop: Awaitable[None]) -> None:
    task = asyncio.current_task()
    cancelled = 0 if task is None else task.cancelling()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await stop
    except asyncio.CancelledError as error:
        # A consumer's fetch that rests after an error is cancelled by stop(), which then raises that as if its caller had been.
        _log.warning("%s did not stop cleanly: %s", what, type(error).__name__)
    except Exception as error:
        _log.warning("%s did not stop cleanly: %s", what, type(error).__name__)
    if task is None or task.cancelling() > cancelled:
        # It was asked of us meanwhile. aiokafka takes that for the end of what it has cancelled itself, and says nothing.
        raise asyncio.CancelledError


async def _started(doing: str, access: KafkaAccess, make: Callable[[dict[str, Any]], Any]) -> Any:
    """A started client, made with where to begin and how. A new one is made for every try: aiokafka's own can't be started twice."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        client = make({"bootstrap_servers": await _answering(access), **access.options})
        starting = asyncio.ensure_future(client.start())
        try:
            await _within(max(0.1, deadline - time.monotonic()), doing, asyncio.shield(starting))
        except LogUnavailable as error:
            await _stopped(doing, _give_up(client, starting))
            # Who is let in by none has nothing to wait for.
            if (why := await refusal(access)) is not None:
                raise LogRefused(f"{doing}: {why}") from error
            if time.monotonic() + RETRY_SECONDS >= deadline:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        except BaseException:
            await _stopped(doing, _give_up(client, starting))
            raise
        else:
            return client


async def _answering(access: KafkaAccess) -> str:
    """The first of the addresses to answer; all of them where none does in time."""
    addresses = access.bootstrap.split(",")
    if len(addresses) == 1:
        return access.bootstrap
    asked = [asyncio.create_task(_answers(address, access)) for address in addresses]
    try:
        for answer in asyncio.as_completed(asked):
            if (first := await answer) is not None:
                return first
        return access.bootstrap
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _answers(address: str, access: KafkaAccess) -> str | None:
    host, port, _ = get_ip_port_afi(address)
    try:
        connection = await create_conn(
            host, port, request_timeout_ms=int(ANSWER_SECONDS * 1000), **access.options
        )
    except (OSError, TimeoutError, kafka_errors.KafkaError):
        return None
    connection.close()
    return address


async def _strangers(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    doing = f"look who is in the group {group}"
    # One at a time: aiokafka reads an answer about several wrongly.
    [answer] = await _within(ASK_SECONDS, doing, admin.describe_consumer_groups([group]))
    [(code, _, _, _, way, members, *_)] = answer.groups
    with _translated(doing):
        if code:
            raise kafka_errors.for_code(code)(group)
    # No way is agreed on while members are coming in, or where there are none.
    if way in ("", RoundRobinPartitionAssignor.name):
        return []
    return [f"{client} at {host.removeprefix('/')}" for _, client, host, *_ in members]


async def _known_to_any(doing: str, admin: AIOKafkaAdminClient) -> ClusterMetadata:
    """What the first broker to answer knows, asked by a client that is stopped then. The client's own question goes to any one of them, and
    no further."""
    try:
        # All topics: to ask for one by its name makes it, on a broker that creates topics by itself.
        return await _within(ASK_SECONDS, doing, admin._client.fetch_all_metadata())
    except LogUnavailable:
        raise
    except LogError as error:
        raise LogUnavailable(
            f"{doing}: no answer from Kafka; check that the broker runs and is reachable"
        ) from error
    finally:
        await _stopped("the admin client", _stop(admin))


async def _give_up(client: Any, starting: asyncio.Future[None]) -> None:
    """Stop a client that may be starting still. Cancelled while it bootstraps it would forget the connection it does that with."""
    await asyncio.wait([starting], timeout=GRACE_SECONDS)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await _stop(client)


async def _stop(client: Any) -> None:
    """Stop a client, and end what it would leave behind: aiokafka closes its connections last, and comes to that neither where a
    flush or a farewell waits for a broker until our time is over, nor after a fetch that rests after an error."""
    try:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
    finally:
        tasks = {task for task in _tasks(client) if task is not None and not task.done()}
        connections = client.client if isinstance(client, AIOKafkaProducer) else client._client
        for _ in range(2):  # cancelled once, a sender goes on to wait for its requests
            for task in tasks:
                task.cancel()
            await connections.close()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        if isinstance(client, AIOKafkaProducer):
            # Whoever waits for what was not sent, and the flush in stop(), hear that nobody sends it any more. What was to be tried
            # again is put back among the pending, which it takes itself off as it fails.
            unsent = client._message_accumulator
            unsent._pending_batches.update(*unsent._batches.values())
            unsent.fail_all(kafka_errors.ProducerClosed())


def _tasks(client: Any) -> Iterator[asyncio.Task[None] | None]:
    """What a client does in the background: each would connect anew."""
    if isinstance(client, AIOKafkaProducer):
        yield client._sender.sender_task
    elif isinstance(client, AIOKafkaConsumer):
        if client._fetcher is not None:
            yield client._fetcher._fetch_task
            yield from client._fetcher._pending_tasks
        if client._group_id is not None and client._coordinator is not None:
            yield client._coordinator._coordination_task
            yield client._coordinator._heartbeat_task


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        message.headers,
    )


async def _known(producer: AIOKafkaProducer, records: Iterable[Outgoing]) -> None:
    for topic, numbers in _numbers(records).items():
        there = await _partitions_of(producer, topic)
        if there is None:
            raise LogError(f"there is no topic {topic}: create the topics of the bus first")
        if not there or max(numbers) not in there:
            raise LogError(
                f"topic {topic} has no partition {max(numbers)}: create the topics of the bus first"
            )


async def _partitions_of(producer: AIOKafkaProducer, topic: str) -> set[int] | None:
    """The topic's partitions; None where a broker answers and knows no such topic."""
    try:
        async with asyncio.timeout(UNKNOWN_SECONDS):
            there: set[int] = await producer.partitions_for(topic)
            return there
    except TimeoutError:
        # aiokafka asks for as long as a request may take, and does not tell a missing topic from a missing broker.
        if await producer.client.force_metadata_update() and topic not in producer.client.cluster.topics():
            return None
        raise


def _numbers(records: Iterable[Outgoing]) -> dict[str, set[int]]:
    numbers: dict[str, set[int]] = defaultdict(set)
    for record in records:
        check(record)
        numbers[record.topic].add(record.partition)
    return numbers


class KafkaLog:
    """A Kafka cluster, named by how it is reached; by its addresses alone where that is in the clear. Nothing connects before it must."""

    def __init__(self, access: KafkaAccess | str) -> None:
        connect_apart()
        self._access = KafkaAccess.of(access)
        self._open: set[_Client] = set()

    async def appender(self) -> Appender:
        def make() -> Awaitable[AIOKafkaProducer]:
            return self._producer("start an appender")

        return self._kept(KafkaAppender(await make(), make))

    async def transactor(self, transactional_id: str) -> Transactor:
        producer = await self._producer(
            f"take over {transactional_id}", transactional_id=transactional_id, **TRANSACTIONS
        )
        return self._kept(KafkaTransactor(transactional_id, producer))

    async def reader(self, partition: Partition) -> Reader:
        await self._must_exist(partition)
        consumer = await _started(
            f"read {partition.topic}/{partition.number}",
            self._access,
            lambda reached: AIOKafkaConsumer(**reached, **CONSUMER),
        )
        return self._kept(KafkaReader(partition, consumer))

    async def join(
        self, group: str, topics: Iterable[str], *, assigned: Rebalanced, revoked: Rebalanced
    ) -> GroupMember:
        names = to_read(group, topics, await self.topics())
        members: list[KafkaMember] = []

        def make(reached: dict[str, Any]) -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(**reached, group_id=group, **CONSUMER, **GROUP)
            members.append(KafkaMember(group, consumer, assigned, revoked))
            consumer.subscribe(names, listener=members[-1])
            return consumer

        await _started(f"join the group {group}", self._access, make)
        return self._kept(members[-1])

    async def topics(self) -> dict[str, int]:
        doing = "look up topics"
        admin = await self._admin(doing, LOOK_SECONDS)
        try:
            found = await _known_to_any(doing, admin)
        except LogUnavailable:
            # Where there is much to tell even a broker that is well may take longer.
            found = await _known_to_any(doing, await self._admin(doing, ASK_SECONDS))
        counts = {topic: len(found.partitions_for_topic(topic) or ()) for topic in found.topics(False)}
        return {topic: count for topic, count in counts.items() if count}

    async def partitions(self, topic: str) -> int:
        return count_of(await self.topics(), topic)

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        wanted = {spec.name: spec for spec in topics}
        admin = await self._admin("create the topics")
        try:
            with _translated("create the topics"):
                async with asyncio.timeout(CONNECT_SECONDS):
                    there = set(await admin.list_topics())
                    await self._create(admin, [spec for spec in wanted.values() if spec.name not in there])
                    await self._all_led(admin, wanted)
                    await self._compare(admin, [spec for spec in wanted.values() if spec.name in there])
        finally:
            await _stopped("the admin client", _stop(admin))

    async def delete(self, topic: str) -> None:
        """Delete a topic with what is in it, or do nothing where there is none. No service does: it is for what was made to be looked at
        once. Raises :class:`LogError`."""
        doing = f"delete topic {topic}"
        admin = await self._admin(doing)
        try:
            answer = await _within(CONNECT_SECONDS, doing, admin.delete_topics([topic]))
        finally:
            await _stopped("the admin client", _stop(admin))
        for _, code, *_ in answer.topic_error_codes:
            error = kafka_errors.for_code(code)
            if error not in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
                raise LogError(f"{doing}: {error.__name__}")

    async def strangers(self, groups: Sequence[str]) -> dict[str, list[str]]:
        """By group, where there are any, the members (client and host) that keep ours out: they deal out partitions in another way, and
        Kafka lets none into a group that has no way in common with those in it. No service asks: it is for who wonders why one waits.
        Raises :class:`LogError`."""
        found: dict[str, list[str]] = {}
        admin = await self._admin("look who is in the groups")
        try:
            for group in groups:
                if members := await _strangers(admin, group):
                    found[group] = members
        finally:
            await _stopped("the admin client", _stop(admin))
        return found

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in list(self._open)))

    async def _producer(self, doing: str, **more: Any) -> AIOKafkaProducer:
        producer: AIOKafkaProducer = await _started(
            doing,
            self._access,
            lambda reached: AIOKafkaProducer(**reached, **PRODUCER, **more),
        )
        return producer

    async def _admin(self, doing: str, seconds: float = 15.0) -> AIOKafkaAdminClient:
        admin: AIOKafkaAdminClient = await _started(
            doing,
            self._access,
            lambda reached: AIOKafkaAdminClient(**reached, request_timeout_ms=int(seconds * 1000)),
        )
        return admin

    async def _must_exist(self, partition: Partition) -> None:
        count = await self.partitions(partition.topic)
        if not 0 <= partition.number < count:
            raise LogError(
                f"topic {partition.topic} has {count} partitions, so there is no {partition.number}"
            )

    async def _create(self, admin: AIOKafkaAdminClient, missing: Sequence[TopicSpec]) -> None:
        deadline = time.monotonic() + _BROKERS_SECONDS
        while missing:
            answer = await admin.create_topics(
                [NewTopic(s.name, s.partitions, s.replication, topic_configs=configs_of(s)) for s in missing]
            )
            failed = {topic: kafka_errors.for_code(code) for topic, code, *_ in answer.topic_errors}
            missing = [spec for spec in missing if failed.get(spec.name) not in _CREATED]
            for spec in missing:
                error = failed.get(spec.name, kafka_errors.UnknownError)
                if error is not kafka_errors.InvalidReplicationFactorError or time.monotonic() >= deadline:
                    raise LogError(f"topic {spec.name} could not be created: {error.__name__}")
            if missing:
                await asyncio.sleep(RETRY_SECONDS)

    async def _all_led(self, admin: AIOKafkaAdminClient, wanted: Mapping[str, TopicSpec]) -> None:
        """A topic is created some time before each of its partitions has a leader."""
        while wanted:
            described = await admin.describe_topics(list(wanted))
            led = {t["topic"]: sum(p["leader"] >= 0 for p in t["partitions"]) for t in described}
            if all(led.get(name) for name in wanted) and all(
                led[t["topic"]] == len(t["partitions"]) for t in described
            ):
                break
            await asyncio.sleep(RETRY_SECONDS)
        for topic in described if wanted else ():
            spec, count = wanted[topic["topic"]], len(topic["partitions"])
            if count != spec.partitions:
                raise LogError(
                    f"topic {spec.name} has {count} partitions where {spec.partitions} are wanted: "
                    "set the wanted number to what is there, or use another bus id"
                )
            copies = min(len(p["replicas"]) for p in topic["partitions"])
            if copies < spec.replication:
                raise LogError(
                    f"topic {spec.name} has {copies} {'copy' if copies == 1 else 'copies'} where {spec.replication} are wanted: "
                    "give its partitions more replicas with kafka-reassign-partitions"
                )

    async def _compare(self, admin: AIOKafkaAdminClient, existing: Sequence[TopicSpec]) -> None:
        if not existing:
            return
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, s.name, configs=dict.fromkeys(configs_of(s)))
            for s in existing
        ]
        found: dict[str, dict[str, str]] = {}
        for answer in await admin.describe_configs(resources):
            for _code, _message, _kind, name, entries in answer.resources:
                found[name] = {entry[0]: entry[1] for entry in entries}
        otherwise = [
            f"topic {spec.name} has {key}={found.get(spec.name, {}).get(key)} where {value} is wanted"
            for spec in existing
            for key, value in configs_of(spec).items()
            if not _does(key, found.get(spec.name, {}).get(key), value)
        ]
        if otherwise:
            raise LogError(f"{'; '.join(otherwise)}: change the topic's setting, or use another bus id")

    def _kept(self, client: _ClientKind) -> _ClientKind:
        self._open.add(client)
        client.closed = self._open.discard
        return client


def configs_of(spec: TopicSpec) -> dict[str, str]:
    """The settings of a topic, as Kafka names them."""
    return {
        "retention.ms": str(spec.retention_ms),
        _LARGEST: str(LARGEST_RECORD),
        "message.timestamp.type": "LogAppendTime" if spec.append_time else "CreateTime",
        # With fewer copies it would stand still for want of one broker.
        **({_IN_SYNC: "2"} if spec.replication >= _OUTLIVE_ONE else {}),
    }


def _does(key: str, found: str | None, wanted: str) -> bool:
    if key in (_LARGEST, _IN_SYNC) and found is not None:
        return int(found) >= int(wanted)
    return found == wanted


class _Client:
    """What has a connection of its own, and takes itself off the log's list when it is closed."""

    closed: Any = None

    def __init__(self, what: str, client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
        self._what, self._client = what, client

    async def close(self) -> None:
        await _stopped(self._what, _stop(self._client))
        if self.closed is not None:
            self.closed(self)


_ClientKind = TypeVar("_ClientKind", bound=_Client)


class KafkaAppender(_Client):
    """An idempotent producer. Records of concurrent appends share requests.

    aiokafka numbers each batch at its first try. One that it gives up later, because a partition was without a leader for longer than a
    request may take, leaves a gap in the numbers, and the broker takes nothing more of that producer: another takes its place.
    """

    def __init__(self, producer: AIOKafkaProducer, make: Callable[[], Awaitable[AIOKafkaProducer]]) -> None:
        super().__init__("an appender", producer)
        self._producer, self._make = producer, make
        self._replacing = asyncio.Lock()
        self._replaced: set[asyncio.Task[None]] = set()

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        producer = self._producer
        with _translated("append"):
            async with asyncio.timeout(APPEND_SECONDS):
                try:
                    return await self._append(producer, records)
                except kafka_errors.OutOfOrderSequenceNumber as error:
                    await self._replace(producer)
                    raise LogUnavailable("append: Kafka was away for too long; say it again") from error
                except kafka_errors.ProducerClosed as error:
                    if producer is self._producer:
                        raise
                    raise LogUnavailable("append: its producer was replaced; say it again") from error

    async def close(self) -> None:
        await super().close()
        await asyncio.gather(*self._replaced)

    async def _append(self, producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[Position]:
        await _known(producer, records)
        now = int(time.time() * 1000)
        waiting = [
            await producer.send(
                r.topic,
                r.value,
                r.key,
                partition=r.partition,
                headers=list(r.headers),
                timestamp_ms=now,
            )
            for r in records
        ]
        # Where the broker sets no time of its own, aiokafka says that of the batch's first record for all of them.
        return [
            Position(d.topic, d.partition, d.offset, now if d.timestamp_type == _CREATE_TIME else d.timestamp)
            for d in await asyncio.gather(*waiting)
        ]

    async def _replace(self, broken: AIOKafkaProducer) -> None:
        async with self._replacing:
            if self._producer is not broken:
                return
            self._producer = self._client = await self._make()
            _log.warning("a producer whose numbers have a gap was replaced")
        # What it has under way for others comes to its end first.
        ending = asyncio.create_task(_stopped(self._what, _stop(broken)))
        self._replaced.add(ending)
        ending.add_done_callback(self._replaced.discard)


class KafkaTransactor(_Client):
    """A transactional producer with one transaction at a time."""

    def __init__(self, transactional_id: str, producer: AIOKafkaProducer) -> None:
        super().__init__(transactional_id, producer)
        self._producer = producer
        self._failed: LogError | None = None

    async def commit(
        self, records: Sequence[Outgoing], group: str, next_offsets: Mapping[Partition, int]
    ) -> None:
        if self._failed is not None:
            kind = Fenced if isinstance(self._failed, Fenced) else LogError
            raise kind(f"{self._what} failed before and can't go on: make a new one") from self._failed
        offsets = {TopicPartition(*partition): offset for partition, offset in next_offsets.items()}
        try:
            with _translated(f"commit of {self._what}"):
                async with asyncio.timeout(TRANSACTION_SECONDS):
                    await _known(self._producer, records)
                    await self._producer.begin_transaction()
                    # The commit itself does not look at whether the records arrived: it must wait for them here.
                    await asyncio.gather(
                        self._send(records), self._producer.send_offsets_to_transaction(offsets, group)
                    )
                    await self._producer.commit_transaction()
        except LogError as error:
            self._failed = error
            raise
        except BaseException:
            self._failed = LogError("interrupted")
            raise

    async def _send(self, records: Sequence[Outgoing]) -> None:
        waiting = []
        for partition, part in _by_partition(records).items():
            for batch in self._batches(part):
                waiting.append(
                    await self._producer.send_batch(batch, partition.topic, partition=partition.number)
                )
        await asyncio.gather(*waiting)

    def _batches(self, records: Sequence[Outgoing]) -> Iterator[Any]:
        """Whole batches, which cost a fraction of sending record by record."""
        batch = self._producer.create_batch()
        for record in records:
            if not _append(batch, record):
                yield batch
                batch = self._producer.create_batch()
                _append(batch, record)
        yield batch


def _append(batch: Any, record: Outgoing) -> bool:
    added = batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None


def _by_partition(records: Sequence[Outgoing]) -> dict[Partition, list[Outgoing]]:
    parts: dict[Partition, list[Outgoing]] = defaultdict(list)
    for record in records:
        parts[Partition(record.topic, record.partition)].append(record)
    return parts


class KafkaReader(_Client):
    """A consumer without a group, on one partition."""

    def __init__(self, partition: Partition, consumer: AIOKafkaConsumer) -> None:
        super().__init__(f"the reader of {partition.topic}/{partition.number}", consumer)
        self._consumer = consumer
        self._partition = TopicPartition(*partition)
        self._position = 0
        self._consumer.assign([self._partition])
        self._consumer.seek(self._partition, 0)

    async def start(self) -> int:
        starts = await _within(ASK_SECONDS, self._what, self._consumer.beginning_offsets([self._partition]))
        return int(starts[self._partition])

    async def end(self) -> int:
        ends = await _within(ASK_SECONDS, self._what, self._consumer.end_offsets([self._partition]))
        return int(ends[self._partition])

    async def read(self, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        if start != self._position:
            self._consumer.seek(self._partition, start)
            self._position = start
        with _translated(self._what):
            try:
                got = await self._consumer.getmany(
                    self._partition, timeout_ms=int(wait * 1000), max_records=limit
                )
            except kafka_errors.OffsetOutOfRangeError:
                raise LogError(
                    f"{self._what}: offset {start} is not there; it was deleted, or the topic was made anew"
                ) from None
            self._position = await self._consumer.position(self._partition)
        return [_record(message) for message in got.get(self._partition, ())]

    def position(self) -> int:
        return self._position


class KafkaMember(_Client, ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer in a group. It keeps a rebalance's partitions shut until the runtime has sought and resumed them."""

    def __init__(
        self, group: str, consumer: AIOKafkaConsumer, assigned: Rebalanced, revoked: Rebalanced
    ) -> None:
        super().__init__(f"the member of {group}", consumer)
        self._consumer = consumer
        self._assigned, self._revoked = assigned, revoked
        self._mine: frozenset[Partition] = frozenset()
        self._sought: set[Partition] = set()
        self._resumed: set[Partition] = set()
        self._failed: Exception | None = None

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        gone, self._mine = self._mine, frozenset()
        self._sought.clear()
        self._resumed.clear()
        await self._tell(self._revoked, gone)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._mine = frozenset(Partition(*partition) for partition in assigned)
        self._sought.clear()
        self._resumed.clear()
        self._consumer.pause(*(TopicPartition(*partition) for partition in self._mine))
        await self._tell(self._assigned, self._mine)

    async def _tell(self, callback: Rebalanced, partitions: frozenset[Partition]) -> None:
        try:
            await callback(self, partitions)
        except Exception as error:
            # aiokafka would log it and go on half-assigned; the next poll raises it instead.
            self._failed = error

    async def poll(self, limit: int = 500, wait: float = 0.1) -> Mapping[Partition, list[Record]]:
        if self._failed is not None:
            raise LogError(f"{self._what}: a rebalance failed; restart the process") from self._failed
        # Who wants nothing polls too: aiokafka tells of a membership that ended, and takes who polls for alive, nowhere else.
        wanted = [TopicPartition(*partition) for partition in self._resumed] or [_NOTHING]
        try:
            with _translated(self._what):
                async with asyncio.timeout(wait + POLL_GRACE_SECONDS):
                    got = await self._consumer.getmany(
                        *wanted, timeout_ms=int(wait * 1000), max_records=limit
                    )
        except LogUnavailable:
            return {}
        except LogError as error:
            if isinstance(error.__cause__, kafka_errors.NoOffsetForPartitionError):
                await asyncio.sleep(min(wait, RETRY_SECONDS))  # it has no position before the runtime seeks
                return {}
            if isinstance(error.__cause__, kafka_errors.OffsetOutOfRangeError):
                raise LogError(
                    f"{self._what}: records were deleted before they were read; look at the topic's retention"
                ) from error
            raise
        found = {Partition(*tp): [_record(m) for m in messages] for tp, messages in got.items()}
        return {partition: records for partition, records in found.items() if partition in self._resumed}

    async def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        offsets = {TopicPartition(*partition): offset for partition, offset in next_offsets.items()}
        await _within(ASK_SECONDS, f"{self._what}: commit", self._consumer.commit(offsets))

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        async def one(partition: Partition) -> tuple[Partition, int]:
            return partition, await self._consumer.committed(TopicPartition(*partition)) or 0

        return dict(await _within(ASK_SECONDS, self._what, asyncio.gather(*map(one, partitions))))

    async def kept(self, partitions: Iterable[Partition]) -> dict[Partition, Kept]:
        asked = {partition: TopicPartition(*partition) for partition in partitions}
        starts, ends = await _within(
            ASK_SECONDS,
            self._what,
            asyncio.gather(
                self._consumer.beginning_offsets([*asked.values()]),
                self._consumer.end_offsets([*asked.values()]),
            ),
        )
        return {partition: Kept(starts[tp], ends[tp]) for partition, tp in asked.items()}

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        for partition, offset in next_offsets.items():
            if partition in self._mine and TopicPartition(*partition) in self._consumer.assignment():
                self._consumer.seek(TopicPartition(*partition), offset)
                self._sought.add(partition)

    def pause(self, partitions: Iterable[Partition]) -> None:
        # It is only asked for no longer. aiokafka's own pause would throw away what it has fetched of the partition, to fetch
        # it anew, and leave it out of the long polls that the others wait in.
        self._resumed.difference_update(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        for partition in self._mine.intersection(partitions):
            if partition not in self._sought:
                raise LogError(
                    f"{partition.topic}/{partition.number} has no position: seek before resuming it"
                )
            self._resumed.add(partition)
            if TopicPartition(*partition) in self._consumer.assignment():
                self._consumer.resume(TopicPartition(*partition))

    async def lag(self) -> dict[Partition, int]:
        sought = [TopicPartition(*partition) for partition in sorted(self._sought)]
        if not sought:
            return {}
        ends = await _within(ASK_SECONDS, f"{self._what}: lag", self._consumer.end_offsets(sought))
        lag = {}
        for tp in sought:
            if tp in self._consumer.assignment() and Partition(*tp) in self._sought:
                at = await _within(ASK_SECONDS, self._what, self._consumer.position(tp))
                lag[Partition(*tp)] = max(0, ends[tp] - at)
        return lag
