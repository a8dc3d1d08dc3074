"""How the deliveries are attempted: no more at once than there may be, and with the pauses there should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from referral_bus.contracts.feed import Notice
from referral_bus.log.port import LogUnavailable
from referral_bus.runtime.health import Health
from referral_bus.wire.codec import Codec
from services.notifier import dispatch
from services.notifier.bell import Bell
from services.notifier.deliveries import Claimed
from services.notifier.dispatch import Dispatcher, Patience
from services.notifier.webhook import Answer
from tests.simulation.doubles import NoSecret, ShowsNothing
from tests.support.clocks import ManualClock
from tests.support.heard import lively_ledger
from tests.support.memory_database import Beside
from tests.support.memory_notifier import Delivery, MemoryDeliveries, NotifierTables
from tests.support.told_tables import FEEDS, SUBSCRIPTIONS, InMemory

AT = 1_000
CODEC = Codec.load()
PATIENCE = Patience(first_ms=500, longest_ms=4_000, give_up_ms=3_600_000, lease_ms=5_000, each=2, total=3)


class Words:
    """The delivery topic: what was said last of each delivery."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    async def delivered(self, claimed: Sequence[Claimed], *_: Any) -> None:
        self.said |= dict.fromkeys([one.identity for one in claimed], "delivered")

    async def failed(self, claimed: Sequence[Claimed], *_: Any) -> None:
        self.said |= dict.fromkeys([one.identity for one in claimed], "failed")

    async def given_up(self, claimed: Sequence[Claimed], *_: Any) -> None:
        self.said |= dict.fromkeys([one.identity for one in claimed], "given up")


class Receivers:
    """All receivers. They answer once they are open, and then as they are told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.answer = Answer(True)
        self.at_once = 0
        self.most = 0
        self.asked: list[str] = []

    async def send(self, _: str, __: str, ___: str, identity: str, *____: Any) -> Answer:
        self.asked.append(identity)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.open.wait()
        self.at_once -= 1
        return self.answer


class FeedTopics:
    """The topics of all feeds. Nothing can be written there while they are shut."""

    def __init__(self) -> None:
        self.shut = True
        self.written: list[str] = []

    async def write(self, leaving: Sequence[tuple[Claimed, Notice]]) -> None:
        if self.shut:
            raise LogUnavailable("it is shut")
        self.written += [claimed.identity for claimed, _ in leaving]


@pytest.fixture
async def tables(monkeypatch: pytest.MonkeyPatch) -> NotifierTables:
    """Something to deliver to each who subscribed."""
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.01)
    side = InMemory(NotifierTables(list(SUBSCRIPTIONS)))
    await side.fold().apply(lively_ledger(CODEC), AT)
    return side.tables


@asynccontextmanager
async def dispatching(
    tables: NotifierTables,
    receivers: Receivers,
    clock: ManualClock,
    feeds: FeedTopics | None = None,
    words: Words | None = None,
) -> AsyncIterator[MemoryDeliveries]:
    """The deliveries at work."""
    deliveries = MemoryDeliveries(Beside(), tables)
    parts: dict[str, Any] = {
        "deliveries": deliveries,
        "disclosing": ShowsNothing(),
        "sender": receivers,
        "secrets": NoSecret(),
        "feeds": feeds,
        "words": words or Words(),
    }
    dispatcher = Dispatcher(
        codec=CODEC, clock=clock, health=Health(), bell=Bell(), patience=PATIENCE, chance=lambda: 1.0, **parts
    )
    running = asyncio.create_task(dispatcher.run())
    try:
        yield deliveries
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_no_more_are_attempted_at_once_than_there_may_be_in_all(tables: NotifierTables) -> None:
    receivers, clock = Receivers(), ManualClock(AT)
    async with dispatching(tables, receivers, clock) as deliveries, asyncio.timeout(20):
        await until(lambda: receivers.at_once >= PATIENCE.total)
        await asyncio.sleep(0.05)
        assert receivers.most == PATIENCE.total < PATIENCE.each * len(SUBSCRIPTIONS)
        receivers.open.set()
        while (await deliveries.waiting(AT)).deliveries:
            await asyncio.sleep(0.01)
    assert receivers.most == PATIENCE.total
    assert len(receivers.asked) == len(set(receivers.asked)) == len(tables.deliveries)


async def test_what_receivers_took_meanwhile_is_written_down_together(
    tables: NotifierTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction and one wait for the disk for all of them."""
    written: list[int] = []
    slowly = asyncio.Event()
    finish = MemoryDeliveries.finish

    async def finished(self: MemoryDeliveries, claimed: list[Any], *rest: Any) -> None:
        written.append(len(claimed))
        await slowly.wait()
        await finish(self, claimed, *rest)

    monkeypatch.setattr(MemoryDeliveries, "finish", finished)
    receivers, clock = Receivers(), ManualClock(AT)
    async with dispatching(tables, receivers, clock) as deliveries, asyncio.timeout(20):
        await until(lambda: receivers.at_once == PATIENCE.total)
        receivers.open.set()
        await until(lambda: receivers.at_once == 0 and written == [1])
        slowly.set()
        while (await deliveries.waiting(AT)).deliveries:
            await asyncio.sleep(0.01)
    assert written[1] == PATIENCE.total - 1
    assert sum(written) == len(tables.deliveries)


async def test_what_was_given_up_and_is_sent_anew_is_tried_again_as_soon_as_it_first_was(
    tables: NotifierTables,
) -> None:
    receivers, clock = Receivers(), ManualClock(AT)
    receivers.open.set()
    receivers.answer = Answer(False, "http_503")
    [one] = [d for d in tables.deliveries.values() if d.subscription.subscription == "sb-pantry"]
    async with dispatching(tables, receivers, clock) as deliveries, asyncio.timeout(20):
        pauses = []
        for attempts in range(1, 6):
            await until(lambda attempts=attempts: one.attempts == attempts and not one.leased_until)
            pauses.append(one.due_at - clock.now())
            clock.set(one.due_at)
        assert pauses == [500, 1_000, 2_000, 4_000, 4_000]
        receivers.answer = Answer(False, "http_410", final=True)
        await until(lambda: one.result == "given_up")
        receivers.answer = Answer(False, "http_503")
        assert await deliveries.resend("pantry", clock.now(), 0) == 1
        await until(lambda: one.attempts == 7 and not one.leased_until)
        assert one.due_at - clock.now() == 500


async def test_of_a_feed_only_what_is_itself_too_old_is_given_up_and_what_is_fresh_comes_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.01)
    [police, _] = FEEDS
    side, feeds, words, clock = InMemory(NotifierTables([police])), FeedTopics(), Words(), ManualClock(AT)
    ledger = lively_ledger(CODEC)
    await side.fold().apply(ledger[: len(ledger) // 2], AT)
    rows = side.tables.deliveries
    old = list(rows.values())
    async with dispatching(side.tables, Receivers(), clock, feeds, words), asyncio.timeout(20):
        await until(lambda: all(one.attempts == 1 and not one.leased_until for one in old))
        clock.set(AT + PATIENCE.give_up_ms)
        await side.fold().apply(ledger[len(ledger) // 2 :], clock.now())
        fresh = [one for one in rows.values() if one not in old]
        assert len(old) > 3 and len(fresh) > 3
        await until(lambda: all(one.attempts == 1 and not one.leased_until for one in fresh))
        assert [one.result for one in (*old, *fresh)] == ["given_up"] * len(old) + [None] * len(fresh)
        assert words.said == {identity(one): "given up" for one in old} | {
            identity(one): "failed" for one in fresh
        }
        [due] = {one.due_at for one in fresh}
        feeds.shut = False
        clock.set(due)
        await until(lambda: all(one.result == "delivered" for one in fresh))
    assert feeds.written == [identity(one) for one in sorted(fresh, key=lambda one: one.notice.number)]


def identity(delivery: Delivery) -> str:
    return f"{delivery.subscription.subscription}.{delivery.notice.region}.{delivery.notice.sequence}"


async def until(held: Callable[[], bool]) -> None:
    while not held():
        await asyncio.sleep(0.01)
