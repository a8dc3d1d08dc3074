"""How long a delivery waits for its next attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import OfferMade
from referral_bus.log.port import LogUnavailable
from referral_bus.runtime.health import Health
from referral_bus.wire.codec import Codec
from services.notifier.bell import Bell
from services.notifier.deliveries import Claimed, SendingChannel
from services.notifier.dispatch import Dispatcher, Patience
from services.notifier.notices import Kept
from services.notifier.webhook import Answer
from tests.simulation.doubles import NoSecret, ShowsNothing

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
NOTICE = Kept(
    organisation="shelter",
    number=1,
    region="north",
    sequence=7,
    role="provider",
    type=OfferMade.event_type(),
    at=NOW,
    referral="rf-north-aaaaaaaaaaaaaaaaaaaa",
    task="tk-north-aaaaaaaaaaaaaaaaaaaa-1",
    reason=None,
    expires_at=None,
    submission=None,
)


class Away:
    """One delivery, and nobody who takes it: neither the broker of the feed nor the receiver of the webhook."""

    def __init__(self, channel: SendingChannel, attempts: int) -> None:
        self._claimed = [
            Claimed("sb-1", channel, "https://a.example/", b"", attempts, 0, NOW - HOUR_MS, NOTICE)
        ]
        self.due: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def claim(self, now: int, until: int, each: int, most: int) -> list[Claimed]:
        claimed, self._claimed = self._claimed, []
        return claimed

    async def postpone(self, claimed: list[Claimed], due_at: int, reason: str) -> None:
        if claimed:
            self.due.set_result(due_at)

    async def finish(self, claimed: list[Claimed], *_: Any) -> None:
        assert claimed == []

    async def write(self, notices: Sequence[tuple[Claimed, Notice]]) -> None:
        raise LogUnavailable("no leader")

    async def send(self, *_: Any) -> Answer:
        return Answer(False, "http_503")

    async def failed(self, *_: Any) -> None:
        """It is said on the delivery topic."""

    def now(self) -> int:
        return NOW


@pytest.mark.parametrize(
    ("channel", "attempts", "seconds"),
    [
        ("webhook", 1, 5),
        ("webhook", 40, 3_600),
        ("feed", 1, 5),
        # Waiting longer spares nobody: the broker is the bus's own, and all later notices of the feed wait behind these.
        ("feed", 40, 30),
    ],
)
async def test_a_feed_is_never_silent_for_long_once_its_broker_is_back(
    codec: Codec, channel: SendingChannel, attempts: int, seconds: int
) -> None:
    away: Any = Away(channel, attempts)
    dispatcher = Dispatcher(
        deliveries=away,
        disclosing=ShowsNothing(),  # type: ignore[arg-type]
        sender=away,
        secrets=NoSecret(),  # type: ignore[arg-type]
        feeds=away,
        words=away,
        codec=codec,
        clock=away,
        health=Health(),
        bell=Bell(),
        patience=Patience(5_000, HOUR_MS, 72 * HOUR_MS, 25_000, 4, 64),
        chance=lambda: 1.0,
    )
    running = asyncio.create_task(dispatcher.run())
    try:
        assert await asyncio.wait_for(away.due, 5) == NOW + seconds * 1_000
    finally:
        running.cancel()
        await asyncio.wait([running])
