"""A client connects to each broker by itself. What a broker is here listens and is silent, or says which versions it speaks."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.structs import BrokerMetadata

from referral_bus.log.connecting import connect_apart

HANGS, ANSWERS, IS_DOWN = 1, 2, 3
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Brokers:
    def __init__(self) -> None:
        self.knocked: list[int] = []
        self.let_in = asyncio.Event()

    async def hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocked.append(HANGS)
        await self.let_in.wait()
        await self._say_versions(reader, writer)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocked.append(ANSWERS)
        await self._say_versions(reader, writer)

    async def _say_versions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        (asked,) = struct.unpack(">4xi", (await reader.readexactly(size))[:8])
        said = struct.pack(">ihi", asked, 0, 0)  # no error, of no request
        writer.write(struct.pack(">i", len(said)) + said)
        await reader.read()  # until the client goes
        writer.close()


@pytest.fixture
async def brokers() -> Brokers:
    return Brokers()


@pytest.fixture
async def client(brokers: Brokers) -> AsyncIterator[AIOKafkaClient]:
    connect_apart()
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1", request_timeout_ms=60_000)
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (brokers.hang, brokers.answer)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    client.cluster._brokers = {
        node: BrokerMetadata(node, "127.0.0.1", port, None)
        for node, port in zip((HANGS, ANSWERS, IS_DOWN), (*ports, 1), strict=True)
    }
    yield client
    brokers.let_in.set()
    await client.close()
    for server in servers:
        server.close()


async def _until(held: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not held():
            await asyncio.sleep(0.01)


async def test_who_wants_a_broker_that_lives_does_not_wait_for_one_that_hangs(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    groups = (ConnectionGroup.DEFAULT, ConnectionGroup.COORDINATION)
    knocking = [asyncio.create_task(client._get_conn(HANGS, group=group)) for group in groups]
    await _until(lambda: brokers.knocked == [HANGS, HANGS])
    assert (await client._get_conn(ANSWERS)).connected()
    assert await client._get_conn(IS_DOWN) is None
    assert not any(one.done() for one in knocking)
    brokers.let_in.set()
    assert all([connection.connected() for connection in await asyncio.gather(*knocking)])


async def test_who_want_the_same_broker_at_once_get_one_connection(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    connections = await asyncio.gather(*[client._get_conn(ANSWERS) for _ in range(3)])
    assert connections[0] is connections[1] is connections[2] is await client._get_conn(ANSWERS)
    assert brokers.knocked == [ANSWERS]


async def test_who_waits_behind_a_knock_in_vain_does_not_knock_again(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    client._request_timeout_ms = 100
    assert await asyncio.gather(*[client._get_conn(HANGS) for _ in range(3)]) == [None, None, None]
    assert brokers.knocked == [HANGS]
    brokers.let_in.set()
    client._request_timeout_ms = 60_000
    assert (await client._get_conn(HANGS)).connected()


async def test_a_connection_that_was_closed_is_made_anew(client: AIOKafkaClient, brokers: Brokers) -> None:
    connection = await client._get_conn(ANSWERS)
    connection.close()
    assert (await client._get_conn(ANSWERS)) is not connection
    assert brokers.knocked == [ANSWERS, ANSWERS]
