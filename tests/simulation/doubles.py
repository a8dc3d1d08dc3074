"""What stands here for keys and for HTTP: as small as it can be and keep the rules that matter.

What stands for a disk is in :mod:`tests.simulation.disk`, and what stands for PostgreSQL in ``tests/support``; ``tests/contract`` holds it
all to the real thing. What a notice shows (:mod:`services.notifier.disclosing`) and the Faust app under the notifier are proven in
``tests/integration``.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from referral_bus.contracts.feed import Notice
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.port import SECTIONS, Section
from services.notifier.disclosing import _notice
from services.notifier.notices import Kept
from services.notifier.webhook import Answer
from tests.simulation.loop import Node
from tests.simulation.network import Database, Weather
from tests.support.memory_database import away


class WiredKeys(MemoryKeyStore):
    """The keys, away where the database is."""

    def __init__(
        self, table: KeyTable, away: Callable[[], bool], sections: Collection[Section] = SECTIONS
    ) -> None:
        super().__init__(table, sections)
        self._is_away = away

    def _may(self, *sections: Section) -> None:
        self.away = self._is_away()
        super()._may(*sections)


class TellsTheTime:
    """What is asked of a database to see whether it answers, and what time it is; both by connections of their own."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database, self._now = database, now

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[TellsTheTime]:
        yield self

    async def execute(self, _: Any) -> TellsTheTime:
        self._told = await self._database.ask(self._now, away)
        return self

    def scalar_one(self) -> int:
        return self._told


class ShowsNothing:
    """As :class:`services.notifier.disclosing.Disclosing` would where no agreement lets anybody see anything of the person."""

    async def prepare(self, notices: Sequence[Kept], channel: str) -> list[Notice | None]:
        return [_notice(kept, kept.reason, None) for kept in notices]


class NoSecret:
    """As :class:`services.notifier.secrets.WebhookSecrets`."""

    def open(self, subscription: str, sealed: bytes) -> str:
        return "whsec_"


class Webhooks:
    """The recipients' doors, as :class:`services.notifier.webhook.WebhookSender` sees them. They break down, and an answer may be lost."""

    def __init__(self, node: Node, weather: Weather, receive: Callable[[str, dict[str, Any]], None]) -> None:
        self._node, self._weather, self._receive = node, weather, receive
        self._draw: random.Random = weather.draw

    async def send(
        self, organisation: str, url: str, secret: str, identity: str, body: bytes, at: int
    ) -> Answer:
        async def there() -> Answer:
            if self._draw.random() < self._weather.lost:
                return Answer(False, "http_503")
            self._receive(identity, json.loads(body))
            return Answer(True)

        try:
            return await self._weather.ask(self._node, there, TimeoutError)
        except TimeoutError:
            return Answer(False, "timeout")
