"""The ledger's stream on a real broker: committed data only, nothing lost to an error, nothing taken over."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import REGISTRY

from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Record, TopicSpec
from referral_bus.runtime.health import Health
from services.notifier import service, stream
from services.notifier.stream import LedgerStream, StreamStopped
from tests.integration.notifier import hanging

SECONDS = 30.0


async def until(held: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not held():
            await asyncio.sleep(0.02)


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[str]:
    name = f"ledger-{uuid4().hex[:8]}"
    log = KafkaLog(kafka)
    await log.ensure([TopicSpec(name, 2)])
    yield name
    await log.close()


async def put(kafka: str, topic: str, values: list[bytes], *, commit: bool, partition: int = 0) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t-{uuid4().hex[:8]}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(topic, value, key=b"north", partition=partition)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


@asynccontextmanager
async def running(stream: LedgerStream) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(stream.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_nobody_hears_of_what_was_aborted(kafka: str, topic: str) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    await put(kafka, topic, [b"before"], commit=True)
    await put(kafka, topic, [b"aborted-1", b"aborted-2"], commit=False)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: heard == [b"before"])
        await put(kafka, topic, [b"aborted-3"], commit=False)
        await put(kafka, topic, [b"after"], commit=True)
        await until(lambda: len(heard) > 1)
    assert heard == [b"before", b"after"]

    every = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await every.start()
    try:
        seen: list[bytes | None] = []
        async with asyncio.timeout(SECONDS):
            while len(seen) < 5:
                seen += [
                    record.value
                    for batch in (await every.getmany(timeout_ms=200)).values()
                    for record in batch
                ]
    finally:
        await every.stop()
    assert seen == [b"before", b"aborted-1", b"aborted-2", b"aborted-3", b"after"]


async def test_what_is_still_open_is_not_heard_either(kafka: str, topic: str) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t-{topic}")
    await producer.start()
    try:
        async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"open", partition=0)
            await put(kafka, topic, [b"other partition"], commit=True, partition=1)
            await until(lambda: heard == [b"other partition"])
            await producer.commit_transaction()
            await until(lambda: len(heard) == 2)
    finally:
        await producer.stop()
    assert heard == [b"other partition", b"open"]


async def test_a_partition_that_nobody_reads_any_more_ends_the_stream_and_nothing_is_lost(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes | None] = []
    lost = asked = False

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    class Losing(stream._CommittedConsumerThread):
        async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
            # As Faust leaves a partition after a member was expelled: assigned, and never asked for.
            nonlocal asked
            if lost:
                asked = True
                await asyncio.sleep(0.05)
                return {}
            return await super()._fetch_records(*args, **kwargs)

    monkeypatch.setattr(stream, "_CommittedConsumerThread", Losing)
    monkeypatch.setattr(stream, "STALLED_SECONDS", 2.0)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)) as task:
        await put(kafka, topic, [b"one"], commit=True)
        await until(lambda: heard == [b"one"])
        lost = True
        # A fetch that had begun before would bring it still.
        await until(lambda: asked)
        await put(kafka, topic, [b"two"], commit=True)
        with pytest.raises(StreamStopped, match="nothing came of"):
            async with asyncio.timeout(SECONDS):
                await task
    lost = False
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: heard[-1] == b"two")


async def test_a_partition_that_nobody_reads_ends_the_stream_though_others_keep_it_busy(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes | None] = []
    reading = True

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)
        # Busy whenever somebody looks.
        await asyncio.sleep(0.3)

    class Losing(stream._CommittedConsumerThread):
        async def _fetch_records(self, consumer: Any, partitions: Any, **kwargs: Any) -> Any:
            kept = {tp for tp in partitions if tp.partition != 0}
            return await super()._fetch_records(consumer, kept, **kwargs)

    async def goes_on() -> None:
        while reading:
            await put(kafka, topic, [b"kept"], commit=True, partition=1)

    monkeypatch.setattr(stream, "_CommittedConsumerThread", Losing)
    monkeypatch.setattr(stream, "STALLED_SECONDS", 3.0)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)) as task:
        await put(kafka, topic, [b"lost"], commit=True)
        load = asyncio.create_task(goes_on())
        try:
            await until(lambda: heard != [])
            with pytest.raises(StreamStopped, match=f"nothing came of {topic}/0 "):
                async with asyncio.timeout(SECONDS):
                    await task
        finally:
            reading = False
            await load
    assert len(heard) > 3
    assert b"lost" not in heard


async def test_where_the_hands_of_the_consumer_hang_the_lag_is_told_and_the_process_ends(
    kafka: str, topic: str
) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    await put(kafka, topic, [b"one"], commit=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", hanging.__name__, kafka, f"g-{topic}", topic, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            assert await child.stdout.readline() == b"heard b'one'\n"
            assert await child.stdout.readline() == b"hangs\n"
            await put(kafka, topic, [b"two"], commit=True)
            assert await child.stdout.readline() == b"lag 2\n"
            assert f"stopped: nothing came of {topic}/0 " in (await child.stdout.readline()).decode()
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: heard[-1:] == [b"two"])


async def test_who_asks_for_the_lag_while_a_partition_has_no_position_keeps_nothing_from_being_read(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    async def waits(*_: Any) -> int:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits so long")

    ledger = LedgerStream(kafka, f"g-{topic}", topic, handle)
    async with running(ledger):
        await put(kafka, topic, [b"one"], commit=True)
        await until(lambda: heard == [b"one"])
        monkeypatch.setattr(AIOKafkaConsumer, "position", waits)
        asked = [asyncio.create_task(ledger.lag()) for _ in range(4)]
        await asyncio.sleep(0.5)
        await put(kafka, topic, [b"two"], commit=True)
        async with asyncio.timeout(8.0):
            while heard != [b"one", b"two"]:
                await asyncio.sleep(0.02)
        await asyncio.gather(*asked)


async def test_a_stream_that_waits_or_has_nothing_to_read_is_left_alone(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        await asyncio.sleep(1.5)
        heard.extend(record.value for record in records)

    monkeypatch.setattr(stream, "STALLED_SECONDS", 0.5)
    monkeypatch.setattr(stream, "_WATCH_SECONDS", 0.05)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t-{topic}")
    await producer.start()
    try:
        async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)) as task:
            await put(kafka, topic, [b"slow"], commit=True)
            await put(kafka, topic, [b"aborted"], commit=False)
            await until(lambda: heard == [b"slow"])
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"open", partition=0)
            await asyncio.sleep(1.5)
            assert not task.done()
            await producer.commit_transaction()
            await until(lambda: heard == [b"slow", b"open"])
    finally:
        await producer.stop()


async def test_a_record_that_cannot_be_handled_stops_the_stream_and_is_read_again(
    kafka: str, topic: str
) -> None:
    heard: list[bytes | None] = []
    broken = True

    async def handle(records: Sequence[Record]) -> None:
        for record in records:
            if broken and record.value == b"bad":
                raise ValueError("bad")
            heard.append(record.value)

    await put(kafka, topic, [b"good", b"bad", b"behind"], commit=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            async with asyncio.timeout(SECONDS):
                await LedgerStream(kafka, f"g-{topic}", topic, handle).run()
    assert b"behind" not in heard
    broken = False
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: b"behind" in heard)
    assert heard[-2:] == [b"bad", b"behind"]


async def test_a_handler_under_way_when_it_stops_is_not_acknowledged(kafka: str, topic: str) -> None:
    begun = asyncio.Event()
    hangs = True
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        if hangs:
            begun.set()
            await asyncio.Event().wait()
        heard.extend(record.value for record in records)

    await put(kafka, topic, [b"one", b"two"], commit=True)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        async with asyncio.timeout(SECONDS):
            await begun.wait()
    hangs = False
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: heard == [b"one", b"two"])


async def test_a_clean_stop_keeps_the_position(kafka: str, topic: str) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    values = [b"%d" % number for number in range(300)]
    await put(kafka, topic, values[:200], commit=True)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: len(heard) == 200)
    await put(kafka, topic, values[200:], commit=True)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: len(heard) >= 300)
    assert heard == values


async def test_what_was_handled_is_committed_soon_however_many_transactions_it_came_in(
    kafka: str, topic: str
) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t-{topic}")
    await producer.start()
    for number in range(60):
        async with producer.transaction():
            last = await producer.send_and_wait(topic, b"%d" % number, partition=0)
    await producer.stop()
    group = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=f"g-{topic}", enable_auto_commit=False)
    await group.start()
    try:
        async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
            await until(lambda: len(heard) == 60)
            await asyncio.sleep(5.0)
            assert await group.committed(TopicPartition(topic, 0)) == last.offset + 1
    finally:
        await group.stop()


async def test_lag_is_nought_once_only_the_marks_of_transactions_are_left(kafka: str, topic: str) -> None:
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    stream = LedgerStream(kafka, f"g-{topic}", topic, handle)
    await put(kafka, topic, [b"one", b"two"], commit=True)
    async with running(stream):
        await until(lambda: len(heard) == 2)
        await lag_is(stream, {0: 0, 1: 0})
        await put(kafka, topic, [b"aborted"], commit=False)
        await put(kafka, topic, [b"three"], commit=True, partition=1)
        await until(lambda: len(heard) == 3)
        await lag_is(stream, {0: 0, 1: 0})
    async with running(stream):
        await lag_is(stream, {0: 0, 1: 0})
    assert heard == [b"one", b"two", b"three"]


async def test_while_the_first_of_its_records_is_handled_it_stands_before_that(
    kafka: str, topic: str
) -> None:
    hangs = False
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)
        if hangs:
            await asyncio.Event().wait()

    await put(kafka, topic, [b"%d" % number for number in range(20)], commit=True)
    async with running(LedgerStream(kafka, f"g-{topic}", topic, handle)):
        await until(lambda: len(heard) == 20)
    hangs = True
    await put(kafka, topic, [b"first", b"second"], commit=True)
    ledger = LedgerStream(kafka, f"g-{topic}", topic, handle)
    lags: set[float | None] = set()

    def shown(metric: str) -> float | None:
        return REGISTRY.get_sample_value(metric, {"topic": topic, "partition": "0"})

    def is_known() -> bool:
        lags.add(shown("refbus_lag_records"))
        return b"first" in heard and shown("refbus_position_offset") is not None

    async with running(ledger):
        watching = asyncio.create_task(service._watch(ledger, topic, Health()))
        await until(is_known)
        await asyncio.sleep(3.0)
        assert is_known()
        watching.cancel()
    # Two records and the mark that ends their transaction, behind twenty and theirs; and that mark too until it was passed.
    assert lags <= {None, 4.0, 3.0} and 3.0 in lags
    assert shown("refbus_position_offset") == 21.0


async def test_it_is_behind_until_all_is_handled_that_was_there_when_its_partitions_came(
    kafka: str, topic: str
) -> None:
    handled, at_once = 0, asyncio.Semaphore(0)

    async def handle(records: Sequence[Record]) -> None:
        nonlocal handled
        for _ in records:
            await at_once.acquire()
        handled += len(records)

    stream = LedgerStream(kafka, f"g-{topic}", topic, handle)
    assert stream.behind is None
    await put(kafka, topic, [b"%d" % number for number in range(20)], commit=True)
    async with running(stream):
        async with asyncio.timeout(SECONDS):
            while 0 not in await stream.lag():
                await asyncio.sleep(0.02)
        for _ in range(5):
            # All of it was fetched long before the last of these.
            assert (await stream.lag())[0] > 0
            assert stream.behind in (1, 2)
            await asyncio.sleep(0.3)
        assert stream.behind == 1, "where nothing was, nothing is to be caught up with"
        for _ in range(20):
            at_once.release()
        await lag_is(stream, {0: 0, 1: 0})
        assert (stream.behind, handled) == (0, 20)
        await put(kafka, topic, [b"later"], commit=True)

        async def seen() -> bool:
            return (await stream.lag())[0] > 0

        async with asyncio.timeout(SECONDS):
            while not await seen():
                await asyncio.sleep(0.05)
        assert stream.behind == 0, "what comes later is lag, and no catching up"
        at_once.release()


async def lag_is(stream: LedgerStream, wanted: dict[int, int]) -> None:
    async with asyncio.timeout(SECONDS):
        while await stream.lag() != wanted:
            await asyncio.sleep(0.05)


async def test_it_takes_over_neither_signals_nor_logs_nor_the_folder(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    signals = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def handle(records: Sequence[Record]) -> None:
        raise AssertionError(records)

    stream = LedgerStream(kafka, f"g-{topic}", topic, handle)
    async with running(stream):
        async with asyncio.timeout(SECONDS):
            await stream.assigned.wait()
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == (handlers, level)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == signals
    assert list(tmp_path.iterdir()) == []
