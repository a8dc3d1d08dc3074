"""The provider programs of the demo: each hears of its offers through the SDK, answers them, and reports
start and outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Final

from referral_bus.client.bus import Bus
from referral_bus.client.notices import open_notice
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import OfferAccepted, OfferMade
from referral_bus.contracts.vocabulary import DeclineReason, OutcomeResult

ACCEPTED: Final = 0.80
DECLINED: Final = 0.14
"""The rest is not answered, and expires."""
REASONS: Final[tuple[DeclineReason, ...]] = (
    "no_capacity",
    "could_not_reach",
    "not_eligible",
    "person_declined",
    "other",
)
"""Why offers are declined, each as often."""
_OUTCOMES: Final[tuple[OutcomeResult, ...]] = (
    "need_met",
    "need_met",
    "need_met",
    "partly_met",
    "not_met",
    "no_show",
)


class Program:
    """One provider. It follows its stream from the beginning, so that it misses no offer whenever it comes
    up."""

    def __init__(self, bus: Bus, private_jwk: str, seed: int, faults: list[str]) -> None:
        self._bus = bus
        self._private_jwk = private_jwk
        self._seed = seed
        self._faults = faults

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            async for heard in self._bus.follow("provider", last_event_id="0"):
                work = self._work(heard.notice)
                if work is not None:
                    group.create_task(work)

    def _work(self, notice: Notice) -> Coroutine[None, None, None] | None:
        shown = open_notice(notice, self._private_jwk) or {}
        if notice.type == OfferMade.event_type() and notice.task is not None:
            if "identity" in shown:
                self._faults.append(
                    f"{notice.organisation}: the identity was shown with the offer {notice.task}"
                )
            if notice.expires_at is not None and notice.expires_at <= time.time_ns() // 1_000_000:
                return None
            return self._answer(notice.task)
        if notice.type == OfferAccepted.event_type() and notice.referral is not None:
            return self._serve(notice.referral)
        return None

    async def _answer(self, task: str) -> None:
        chance = random.Random(f"{task} {self._seed}")  # noqa: S311
        await asyncio.sleep(chance.uniform(0.05, 0.6))
        drawn = chance.random()
        if drawn < ACCEPTED:
            await self._bus.accept(task, id=f"accept-{task}")
        elif drawn < ACCEPTED + DECLINED:
            await self._bus.decline(task, chance.choice(REASONS), id=f"decline-{task}")

    async def _serve(self, referral: str) -> None:
        chance = random.Random(f"{referral} {self._seed}")  # noqa: S311
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        await self._bus.start(referral, time.time_ns() // 1_000_000, id=f"start-{referral}")
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        note = "A made-up note on how it went." if chance.random() < 0.3 else None
        await self._bus.outcome(referral, chance.choice(_OUTCOMES), note, id=f"outcome-{referral}")
