"""Brokers that listen in this process: one that hangs until it is let go, and one that says which versions it speaks, who there is, and
which topics."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.structs import BrokerMetadata

HANGS, ANSWERS, IS_DOWN = 1, 2, 3
HOST: Final = "127.0.0.1"
_VERSIONS, _METADATA = 18, 3


class Brokers:
    """``knocked`` tells who was connected to, in order; ``topics`` how many partitions each has."""

    def __init__(self) -> None:
        self.knocked: list[int] = []
        self.topics: dict[str, int] = {}
        self.wakes = asyncio.Event()
        self.ports = {IS_DOWN: 1}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for node in (HANGS, ANSWERS):
            server = await asyncio.start_server(lambda *ends, node=node: self._serve(node, *ends), HOST, 0)
            self.ports[node] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    def stop(self) -> None:
        self.wakes.set()
        for server in self._servers:
            server.close()

    @property
    def known(self) -> dict[int, BrokerMetadata]:
        """As a client knows them."""
        return {node: BrokerMetadata(node, HOST, port, None) for node, port in sorted(self.ports.items())}

    async def _serve(self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocked.append(node)
        if node == HANGS:
            await self.wakes.wait()
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request, _, number = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                answer = {_VERSIONS: self._versions, _METADATA: self._metadata}[request]()
                said = struct.pack(">i", number) + answer
                writer.write(struct.pack(">i", len(said)) + said)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _versions(self) -> bytes:
        answer: bytes = ApiVersionResponse_v0(0, [(_VERSIONS, 0, 0), (_METADATA, 1, 1)]).encode()
        return answer

    def _metadata(self) -> bytes:
        brokers = [(node, HOST, port, None) for node, port in self.ports.items()]
        topics = [
            (0, topic, False, [(0, number, ANSWERS, [ANSWERS], [ANSWERS]) for number in range(partitions)])
            for topic, partitions in self.topics.items()
        ]
        answer: bytes = MetadataResponse_v1(brokers, ANSWERS, topics).encode()
        return answer
