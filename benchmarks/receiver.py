"""``python -m benchmarks.receiver PORT``: webhooks of everybody, which take what comes and remember under which id and when.

What a webhook does is in its path: ``/at-once/...`` answers 204, ``/slowly/...`` the same after 200 ms, ``/never/...`` takes the request
and says nothing. ``GET /count`` is how many requests were answered or will be, ``GET /arrivals`` when each id of them came: seconds since
the epoch, once for each time it did.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final, cast

import uvloop

from benchmarks.processes import collect_as_services_do

SLOW_SECONDS: Final = 0.2
_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_END: Final = b"\r\n\r\n"


class Arrivals:
    """What came, by ``webhook-id``."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.count = 0

    def take(self, id: str) -> None:
        self.times.setdefault(id, []).append(time.time())
        self.count += 1


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(_END)) >= 0:
            first, *lines = self._came[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            following = end + len(_END) + int(headers.get("content-length", 0))
            if len(self._came) < following:
                return
            self._came = self._came[following:]
            self._requested(first.split(" ")[1], headers)

    def _requested(self, path: str, headers: dict[str, str]) -> None:
        if path == "/count":
            self._say(_content(self._arrivals.count))
        elif path == "/arrivals":
            self._say(_content(self._arrivals.times))
        elif not path.startswith("/never/"):
            self._arrivals.take(headers["webhook-id"])
            if path.startswith("/slowly/"):
                asyncio.get_running_loop().call_later(SLOW_SECONDS, self._say, _TAKEN)
            else:
                self._say(_TAKEN)

    def _say(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)


def _content(found: object) -> bytes:
    body = json.dumps(found).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def run(port: int) -> None:
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(arrivals), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(int(sys.argv[1])))
