"""A client of the log that is closed leaves nothing open, whatever the broker does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.log import kafka as adapter
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import GroupMember, LogError, Outgoing, Partition
from tests.integration.log.conftest import TOPIC
from tests.support.commands import waited_for

ONE = Outgoing(TOPIC, 0, None, b"1")
SECONDS = 20.0


def _states(pid: int) -> list[str]:
    """Of each of its threads, up to the letter of its state (proc(5))."""
    told = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [one[: one.rindex(")") + 3] for one in told]


@contextmanager
def frozen(broker: EmbeddedKafka) -> Iterator[None]:
    """It answers nothing, and its connections stay as they are."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        # On a busy machine its threads stop a moment after the signal was sent.
        waited_for(lambda: all(one.endswith("T") for one in _states(broker.pid)))
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def connections() -> list[AIOKafkaConnection]:
    return [one for one in gc.get_objects() if isinstance(one, AIOKafkaConnection) and one.connected()]


async def nothing_is_left() -> None:
    """No connection is open, and no task of a client goes on that would open another."""
    assert connections() == []
    async with asyncio.timeout(SECONDS):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.02)
    assert connections() == []


async def test_an_appender_that_waits_for_a_frozen_broker_leaves_nothing_open(
    broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "STOP_SECONDS", 0.3)
    appender = await KafkaLog(broker.bootstrap).appender()
    await appender.append([ONE])
    with frozen(broker):
        appending = asyncio.create_task(appender.append([ONE]))
        await asyncio.wait([appending], timeout=0.3)
        await appender.close()
        with pytest.raises(LogError, match="ProducerClosed"):
            await appending
        await nothing_is_left()


async def test_a_member_that_waits_for_a_frozen_broker_leaves_nothing_open(
    broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "STOP_SECONDS", 0.3)
    arrived = asyncio.Event()

    async def assigned(member: GroupMember, partitions: frozenset[Partition]) -> None:
        arrived.set()

    async def revoked(member: GroupMember, partitions: frozenset[Partition]) -> None:
        arrived.clear()

    member = await KafkaLog(broker.bootstrap).join("readers", [TOPIC], assigned=assigned, revoked=revoked)
    async with asyncio.timeout(SECONDS):
        await arrived.wait()
    member.seek({Partition(TOPIC, 0): 0})
    member.resume([Partition(TOPIC, 0)])
    await member.poll()
    with frozen(broker):
        await member.close()
        await nothing_is_left()


async def test_a_reader_whose_fetch_failed_leaves_nothing_open(broker: EmbeddedKafka) -> None:
    reader = await KafkaLog(broker.bootstrap).reader(Partition(TOPIC, 0))
    await reader.read(0)
    # A fetch that fails rests; closing the reader cancels it in its rest.
    await asyncio.to_thread(broker.stop)
    reading = asyncio.create_task(reader.read(0, wait=0.2))
    await asyncio.wait([reading])
    await asyncio.to_thread(broker.start)
    await reader.close()
    await nothing_is_left()


@asynccontextmanager
async def before(bootstrap: str, asked: asyncio.Event, answered: asyncio.Event) -> AsyncIterator[str]:
    """Stands before the broker and holds back what it is asked second on a connection, its metadata, until ``answered``."""
    host, port = bootstrap.split(":")

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, held: int | None) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            count = 0
            while True:
                size = await source.readexactly(4)
                frame = await source.readexactly(int.from_bytes(size, "big"))
                count += 1
                if count == held:
                    asked.set()
                    await answered.wait()
                target.write(size + frame)
                await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, upstream_writer, 2), pass_on(upstream_reader, writer, None))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_who_is_cancelled_while_a_client_starts_leaves_nothing_open(kafka: str) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    async with before(kafka, asked, answered) as bootstrap:
        starting = asyncio.create_task(KafkaLog(bootstrap).appender())
        await asked.wait()
        starting.cancel()
        asyncio.get_running_loop().call_later(0.1, answered.set)
        with pytest.raises(asyncio.CancelledError):
            await starting
        del starting
        assert connections() == []
    await nothing_is_left()


async def test_who_is_cancelled_while_a_client_stops_ends_though_the_client_keeps_it_to_itself() -> None:
    class Stubborn(AIOKafkaProducer):  # type: ignore[misc]
        async def stop(self) -> None:
            self._closed = True
            with contextlib.suppress(asyncio.CancelledError):
                stopping.set()
                await asyncio.sleep(SECONDS)

    stopping = asyncio.Event()

    async def make() -> AIOKafkaProducer:
        return Stubborn(bootstrap_servers="127.0.0.1:1")

    appender = adapter.KafkaAppender(await make(), make)
    closing = asyncio.create_task(appender.close())
    await stopping.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
