"""The names of webhooks' hosts, looked up so that slow ones hold up nothing else.

Who answers for a name is its owner's choice, and so is how slowly. The loop's own lookups share a few threads of the process with those of
the database and of Kafka, and one that nobody waits for any more keeps its thread all the same.
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from contextlib import ExitStack, suppress
from threading import Thread
from typing import Final

from services.notifier.subscriptions import MOST_EACH

SHARE: Final = MOST_EACH
"""Lookups under way at once for one organisation: one for each subscription it may have, and no more for those it had."""
MOST: Final = 10 * SHARE
"""Lookups under way at once."""


class Names:
    """Looks up names. One per process, in its event loop.

    Each lookup has a thread, which nothing waits for as the process ends (those of an executor are waited for, shut down or not). It counts
    until it has really ended, and all who ask for its name meanwhile share it.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MOST)
        self._shares: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SHARE))
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def look_up(self, host: str, organisation: str) -> list[str]:
        """The host's IP addresses; none where it can't be looked up. Waits for a place among the organisation's, and then among all: set
        a time limit."""
        if host not in self._under_way:
            with ExitStack() as held:
                for places in (self._shares[organisation], self._places):
                    await places.acquire()
                    held.callback(places.release)
                if host not in self._under_way:
                    self._begin(host)
                    ended = held.pop_all().close
                    self._under_way[host].add_done_callback(lambda _: ended())
        return await asyncio.shield(self._under_way[host])

    def _begin(self, host: str) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            found: list[str] = []
            try:
                found = _addresses(host)
            finally:
                with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                    loop.call_soon_threadsafe(self._end, host, found)

        Thread(target=work, name="name", daemon=True).start()
        self._under_way[host] = loop.create_future()

    def _end(self, host: str, found: list[str]) -> None:
        self._under_way.pop(host).set_result(found)


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]).partition("%")[0] for entry in found]
