"""Killed, restarted, restored or doubled: the notifier loses nothing and doubles nothing in SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from referral_bus.contracts.ledger import Entry
from referral_bus.runtime.health import Health
from referral_bus.store.engine import new_engine
from services.notifier.deliveries import _LOCK, Deliveries
from services.notifier.fold import Fold, Located
from services.notifier.hearer import LedgerUnreadable
from services.notifier.service import build
from tests.support.notifying import SECONDS, Receiver, World, until


async def subscribed(world: World, url: str) -> None:
    async with world.http("hospital") as http:
        made = await http.post("/v1/subscriptions", json={"channel": "webhook", "role": "agency", "url": url})
    assert made.status_code == 201


async def numbers(world: World) -> list[tuple[int, int]]:
    rows = await world.rows("select number, sequence from notifier.notices order by number")
    return [(row.number, row.sequence) for row in rows]


async def test_killed_again_and_again_in_between_nothing_is_lost_or_doubled_in_sql(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    total = 0

    async def reflected_at_least(count: int) -> None:
        async def enough() -> bool:
            return len(await numbers(world)) >= count

        await until(enough)

    async with world.running():
        await subscribed(world, receiver.url)
        await world.adopt()
    for _ in range(3):
        await world.ledger.put(*[await world.opened() for _ in range(30)])
        async with world.running():
            await reflected_at_least(total + 5)
        total += 30
        assert len(await numbers(world)) <= total
    async with world.running():
        await world.reflected()
        await until(lambda: len({one.headers["webhook-id"] for one in receiver.received}) == total)

        async def finished() -> bool:
            rows = await world.rows("select count(*) from notifier.deliveries where result = 'delivered'")
            return bool(rows[0][0] == total)

        await until(finished)
    first = len(world.organisation_keys) + 1
    assert await numbers(world) == [(number, first + number - 1) for number in range(1, total + 1)]
    deliveries = await world.rows("select sequence from notifier.deliveries order by sequence")
    assert [row.sequence for row in deliveries] == list(range(first, first + total))


async def test_several_notifiers_at_the_same_events_reflect_them_once(world: World) -> None:
    async with world.running():
        pass
    engine = new_engine(world.database)
    try:
        folds = [Fold(engine) for _ in range(4)]
        batch: list[Located] = []
        for sequence in range(1, 41):
            batch.append(Located(world.ledger.entry(await world.opened()), 0, sequence))
            world.ledger.sequence = sequence
        for start in range(0, 40, 5):
            came = await asyncio.gather(
                *(fold.apply(batch[max(0, start - 3) : start + 5], 1) for fold in folds)
            )
            assert came == [[], [], [], []]
        [gap] = await folds[0].apply([Located(_beyond(world.ledger.entry(await world.opened())), 0, 99)], 1)
        assert (gap.region, gap.next_offset, gap.found.offset) == ("north", 41, 99)
    finally:
        await engine.dispose()
    assert await numbers(world) == [(number, number) for number in range(1, 41)]


def _beyond(entry: Entry) -> Entry:
    return Entry(entry.meta.model_copy(update={"sequence": entry.meta.sequence + 1}), entry.event)


async def test_a_restored_database_is_brought_up_to_date_from_the_ledger(world: World) -> None:
    async with world.running():
        await world.adopt()
        await world.ledger.put(*[await world.opened() for _ in range(5)])
        await world.reflected()
    before = await numbers(world)
    await world.rows(
        "truncate notifier.notices, notifier.streams, notifier.standings, notifier.regions cascade"
    )
    await world.ledger.put(await world.opened())
    async with world.running():
        await world.reflected()
    assert await numbers(world) == [*before, (6, world.ledger.sequence)]


async def test_an_event_that_cannot_be_read_stops_the_notifier_and_is_never_passed_over(world: World) -> None:
    async with world.running():
        await world.adopt()
        await world.reflected()
    await world.ledger.put_bytes(b"\x00\x00\x00\xff\xffnonsense")
    await world.ledger.put(await world.opened())
    for _ in range(2):
        async with build(world.settings, Health()) as parts:
            tasks = {part.name: asyncio.create_task(part.work) for part in parts}
            try:
                async with asyncio.timeout(SECONDS):
                    with pytest.raises(LedgerUnreadable, match="schema id 65535"):
                        await tasks["ledger"]
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert await numbers(world) == []


async def test_what_a_killed_process_was_at_is_claimed_again_when_its_lease_ends(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        await subscribed(world, receiver.url)
    engine = new_engine(world.database)
    try:
        for sequence in range(1, 4):
            entry = world.ledger.entry(await world.opened())
            world.ledger.sequence = sequence
            assert await Fold(engine).apply([Located(entry, 0, sequence)], 100) == []
        deliveries = Deliveries(engine)
        assert await deliveries.claim(99, 500, 2, 64) == []
        first = await deliveries.claim(100, 500, 2, 64)
        assert [one.notice.sequence for one in first] == [1, 2]
        assert await deliveries.claim(499, 900, 2, 64) == []
        again = await deliveries.claim(500, 900, 2, 64)
        assert [(one.identity, one.attempts) for one in again] == [(one.identity, 2) for one in first]
        await deliveries.finish(first, "delivered", 600)
        assert await world.rows("select count(*) from notifier.deliveries where done_at is not null") == [
            (0,)
        ]
        await deliveries.finish(again, "delivered", 600)
        assert [one.notice.sequence for one in await deliveries.claim(601, 900, 2, 64)] == [3]
    finally:
        await engine.dispose()


async def test_a_feed_waits_for_its_oldest_notice(world: World) -> None:
    async with world.running(), world.http("hospital") as http:
        await http.post("/v1/subscriptions", json={"channel": "feed", "role": "agency"})
    engine = new_engine(world.database)
    try:
        for sequence in range(1, 4):
            entry = world.ledger.entry(await world.opened())
            world.ledger.sequence = sequence
            assert await Fold(engine).apply([Located(entry, 0, sequence)], 100) == []
            if sequence == 1:
                deliveries = Deliveries(engine)
                [failed] = await deliveries.claim(100, 500, 2, 64)
        assert await deliveries.claim(101, 900, 2, 64) == []
        await deliveries.postpone([failed], 300, "log_unavailable")
        assert await deliveries.claim(299, 900, 2, 64) == []
        assert [one.notice.sequence for one in await deliveries.claim(300, 900, 2, 64)] == [1, 2, 3]
    finally:
        await engine.dispose()


async def test_a_feeds_batch_is_one_attempt(world: World, receivers: Callable[[], Any]) -> None:
    receiver: Receiver = await receivers()
    async with world.running(), world.http("hospital") as http:
        feed = (await http.post("/v1/subscriptions", json={"channel": "feed", "role": "agency"})).json()
        await subscribed(world, receiver.url)
    engine = new_engine(world.database)
    try:
        for sequence in range(1, 4):
            entry = world.ledger.entry(await world.opened())
            world.ledger.sequence = sequence
            assert await Fold(engine).apply([Located(entry, 0, sequence)], 100 + sequence) == []
        deliveries = Deliveries(engine)
        claimed = await deliveries.claim(200, 500, 4, 2)
        assert [one.notice.sequence for one in claimed if one.subscription == feed["subscription"]] == [
            1,
            2,
            3,
        ]
        assert [one.notice.sequence for one in claimed if one.channel == "webhook"] == [1]
        await deliveries.postpone(claimed, 200, "interrupted")
        # What was due first is the feed's oldest and the webhook's: either may come, and the other with what room is left.
        shares = [await deliveries.claim(200, 500, 4, 1) for _ in range(2)]
        assert sorted([one.notice.sequence for one in share] for share in shares) == [[1], [1, 2, 3]]
    finally:
        await engine.dispose()


async def test_a_feed_that_was_claimed_while_another_looked_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what came in between would be the other's, and come first on the feed."""
    async with world.running(), world.http("hospital") as http:
        await http.post("/v1/subscriptions", json={"channel": "feed", "role": "agency"})
    engine = new_engine(world.database)
    try:
        for sequence in (1, 2):
            entry = world.ledger.entry(await world.opened())
            world.ledger.sequence = sequence
            assert await Fold(engine).apply([Located(entry, 0, sequence)], 100) == []
        slowly = _LOCK.text.replace("where channel", "where (select pg_sleep(2)) is not null and channel")
        monkeypatch.setattr("services.notifier.deliveries._LOCK", text(slowly))
        looking = asyncio.create_task(Deliveries(engine).claim(100, 500, 2, 64))

        async def has_begun() -> bool:
            asleep = await world.rows("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
            return [tuple(row) for row in asleep] == [(1,)]

        await until(has_begun)
        await world.rows("update notifier.deliveries set leased_until = 500, attempts = 1 where sequence = 1")
        assert await looking == []
    finally:
        await engine.dispose()


async def test_it_is_not_ready_before_it_has_heard_what_was_on_the_ledger_when_it_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.adopt()
    await world.ledger.put(*[await world.opened() for _ in range(3)])
    apply, open_now = Fold.apply, asyncio.Event()

    async def slow(self: Fold, batch: Any, now: int) -> Any:
        found = await apply(self, batch, now)
        await open_now.wait()
        return found

    monkeypatch.setattr(Fold, "apply", slow)
    health = Health()
    async with build(world.settings, health) as parts:
        tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
        try:

            async def behind() -> bool:
                return "have not caught up" in health.problems().get("ledger", "")

            await until(behind)
            await asyncio.sleep(1.0)
            assert await behind()
            open_now.set()
            await until(lambda: not health.problems())
            [row] = await world.rows("select count(*) from notifier.notices")
            assert row[0] == 3
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
