"""What the deliveries promise, in PostgreSQL and in memory: a lease each, limits each and in all, the latest claim has the word, and a feed
is written in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from services.notifier.deliveries import Claimed, Deliveries, ResentJustNow
from tests.support.heard import lively_ledger
from tests.support.memory_database import Beside
from tests.support.memory_notifier import MemoryDeliveries, NotifierTables
from tests.support.told_tables import Side

AT, LEASE = 1_000, 500
MANY = 10_000
PAUSE = 60_000
LEDGER = lively_ledger(Codec.load())


@pytest.fixture
async def told(side: Side) -> Side:
    """The tables, with something to deliver to each who subscribed."""
    await side.fold().apply(LEDGER, AT)
    return side


async def claim(side: Side, at: int = AT, each: int = MANY, most: int = MANY) -> list[Claimed]:
    claimed: list[Claimed] = await side.deliveries.claim(at, at + LEASE, each, most)
    return claimed


def numbers(claimed: list[Claimed], subscription: str = "sb-shelter") -> list[int]:
    return [one.notice.number for one in claimed if one.subscription == subscription]


async def test_what_is_claimed_comes_by_subscription_in_order_and_not_again_while_it_is_leased(
    told: Side,
) -> None:
    waiting, *_ = await told.deliveries.waiting(AT)
    claimed = await claim(told)
    assert len(claimed) == waiting > 10
    assert [(one.subscription, one.notice.number) for one in claimed] == sorted(
        (one.subscription, one.notice.number) for one in claimed
    )
    assert {(one.attempts, one.enqueued_at, one.channel) for one in claimed} == {(1, AT, "webhook")}
    assert {one.url for one in claimed if one.subscription == "sb-shelter"} == {"https://shelter.example/"}
    assert await claim(told) == await claim(told, AT + LEASE - 1) == []
    assert await told.deliveries.waiting(AT) == (waiting, 0, 0)


async def test_nothing_is_claimed_before_it_is_due(told: Side) -> None:
    assert await claim(told, AT - 1) == []


async def test_what_nobody_finished_is_claimed_again_once_the_lease_is_over(told: Side) -> None:
    first = await claim(told)
    again = await claim(told, AT + LEASE)
    assert [one.identity for one in again] == [one.identity for one in first]
    assert {one.attempts for one in again} == {2}


async def test_no_more_are_under_way_for_one_than_there_may_be_and_the_others_are_not_kept_back(
    told: Side,
) -> None:
    first = await claim(told, each=2)
    assert numbers(first) == numbers(first, "sb-police") == [1, 2]
    assert await claim(told, each=2) == []
    assert numbers(await claim(told, each=3)) == [3]


async def test_no_more_are_claimed_than_there_is_room_for(told: Side) -> None:
    waiting, *_ = await told.deliveries.waiting(AT)
    assert await claim(told, most=0) == []
    shares = [await claim(told, most=9) for _ in range(waiting // 9 + 1)]
    assert [len(share) for share in shares] == [9] * (waiting // 9) + [waiting % 9]
    assert len({one.identity for share in shares for one in share}) == waiting


async def test_where_there_is_not_room_for_all_each_ones_first_comes_before_anybodys_second(
    told: Side,
) -> None:
    first = await claim(told, most=7)
    subscribed = [one.subscription for one in first]
    assert subscribed == sorted(set(subscribed)) and "sb-police" in subscribed
    # Who has none under way any more comes before who has.
    [mine] = [one for one in first if one.subscription == "sb-police"]
    await told.deliveries.finish([mine], "delivered", AT)
    [following] = await claim(told, most=1)
    assert (following.subscription, following.notice.number) == ("sb-police", 2)
    # Two of them have nothing more to be told.
    second = await claim(told, most=5)
    more = [name for name in subscribed if name not in ("sb-pantry", "sb-police-accepted")]
    assert [one.subscription for one in second] == more
    assert numbers(second) == [2]


async def test_where_there_is_not_room_for_all_what_was_due_first_comes_first(told: Side) -> None:
    claimed = await claim(told, each=1)
    [police] = [one for one in claimed if one.subscription == "sb-police"]
    [shelter] = [one for one in claimed if one.subscription == "sb-shelter"]
    rest = [one for one in await claim(told) if one not in claimed]
    await told.deliveries.finish(
        [one for one in [*claimed, *rest] if one not in (police, shelter)], "withheld", AT
    )
    await told.deliveries.postpone([police], AT + 20, "http_503")
    await told.deliveries.postpone([shelter], AT + 10, "http_503")
    again = [await claim(told, AT + 30, most=1) for _ in range(3)]
    assert [[one.subscription for one in share] for share in again] == [["sb-shelter"], ["sb-police"], []]


async def test_as_one_is_done_another_comes(told: Side) -> None:
    first = [one for one in await claim(told, each=2) if one.subscription == "sb-shelter"]
    assert numbers(await claim(told, each=2)) == []
    await told.deliveries.finish(first[:1], "delivered", AT + 1)
    assert numbers(await claim(told, AT + 1, each=2)) == [3]


async def test_what_is_done_is_never_claimed_again_and_waits_no_more(told: Side) -> None:
    claimed = await claim(told)
    await told.deliveries.finish(claimed[:3], "delivered", AT + 1)
    await told.deliveries.finish(claimed[3:5], "given_up", AT + 1, "http_503")
    await told.deliveries.finish(claimed[5:6], "withheld", AT + 1)
    assert await told.deliveries.waiting(AT + 5) == (len(claimed) - 6, 0, 0), "somebody is at each"
    assert await told.deliveries.waiting(AT + LEASE) == (len(claimed) - 6, LEASE, 0)
    again = await claim(told, AT + LEASE)
    assert [one.identity for one in again] == [one.identity for one in claimed[6:]]


async def test_what_is_postponed_comes_when_it_is_due_and_not_before(told: Side) -> None:
    [one, *_] = claimed = [one for one in await claim(told) if one.subscription == "sb-shelter"]
    await told.deliveries.postpone([one], AT + 100, "http_503")
    assert await claim(told, AT + 99) == []
    [again] = await claim(told, AT + 100)
    assert (again.identity, again.attempts, again.enqueued_at) == (one.identity, 2, AT)
    assert len(claimed) > 1


async def test_what_is_due_is_late_since_then_and_what_is_not_is_not_late(told: Side) -> None:
    claimed = await claim(told)
    await told.deliveries.finish(claimed[2:], "delivered", AT)
    await told.deliveries.postpone(claimed[:1], AT + 100, "http_503")
    await told.deliveries.postpone(claimed[1:2], AT + 300, "http_503")
    assert await told.deliveries.waiting(AT + 99) == (2, 0, 99)
    assert await told.deliveries.waiting(AT + 107) == (2, 7, 107)
    assert await told.deliveries.waiting(AT + 301) == (2, 201, 301), "the oldest counts"


async def test_what_failed_waits_since_it_was_enqueued_and_what_nobody_attempted_has_not_failed(
    told: Side,
) -> None:
    [first, second, *_] = claimed = [one for one in await claim(told) if one.subscription == "sb-shelter"]

    async def failed(at: int) -> int:
        found: int = (await told.deliveries.waiting(at)).failed_ms
        return found

    assert await failed(AT + LEASE) == 0, "who attempted it may have died"
    await told.deliveries.postpone([second], AT + 9 * LEASE, "http_503")
    assert await failed(AT + 2 * LEASE) == 2 * LEASE
    # The second attempt is under way; then it is taken.
    [again] = [one for one in await claim(told, AT + 9 * LEASE) if one.identity == second.identity]
    assert await failed(AT + 9 * LEASE) == 9 * LEASE
    await told.deliveries.finish([again], "delivered", AT + 9 * LEASE)
    assert await failed(AT + 20 * LEASE) == 0
    # What was given up waits for nothing, and sent anew it has all its time, and fails anew.
    [first, *_] = [one for one in await claim(told, AT + 20 * LEASE) if one.identity == first.identity]
    await told.deliveries.finish([first], "given_up", AT + 20 * LEASE, "http_410")
    assert await failed(AT + 21 * LEASE) == 0
    assert await resend(told, AT + 21 * LEASE) > 0
    assert await failed(AT + 22 * LEASE) == 0
    [first, *_] = [one for one in await claim(told, AT + 22 * LEASE) if one.identity == first.identity]
    await told.deliveries.postpone([first], AT + 30 * LEASE, "http_503")
    assert await failed(AT + 23 * LEASE) == 2 * LEASE
    assert len(claimed) > 2


async def test_who_claimed_before_has_no_word_any_more(told: Side) -> None:
    former = await claim(told)
    latter = await claim(told, AT + LEASE)
    await told.deliveries.finish(former, "delivered", AT + LEASE)
    assert await told.deliveries.waiting(AT) == (len(former), 0, 0)
    await told.deliveries.postpone(former, AT, "http_503")
    assert await claim(told, AT + LEASE) == [], "the lease is the latter's"
    await told.deliveries.finish(latter, "delivered", AT + LEASE)
    assert await told.deliveries.waiting(AT + 10 * LEASE) == (0, 0, 0)


async def test_what_is_done_stays_done_whatever_its_claimant_says_after(told: Side) -> None:
    claimed = await claim(told)
    await told.deliveries.finish(claimed, "delivered", AT)
    await told.deliveries.postpone(claimed, AT, "http_503")
    assert await claim(told, AT + LEASE) == []
    assert await told.deliveries.waiting(AT + LEASE) == (0, 0, 0)


async def test_what_two_claim_at_once_is_each_ones_alone(told: Side) -> None:
    waiting, *_ = await told.deliveries.waiting(AT)
    shares = await asyncio.gather(*(claim(told) for _ in range(5)))
    left = await claim(told)
    identities = [one.identity for share in (*shares, left) for one in share]
    assert len(identities) == len(set(identities)) == waiting


async def resend(side: Side, at: int, organisation: str = "shelter") -> int:
    resent: int = await side.deliveries.resend(organisation, at, PAUSE)
    return resent


async def test_what_was_given_up_is_sent_again_as_if_it_were_new(told: Side) -> None:
    await claim(told)
    claimed = await claim(told, AT + LEASE)
    mine = [one for one in claimed if one.subscription == "sb-shelter"]
    await told.deliveries.finish(claimed, "given_up", AT + LEASE, "http_410")
    later = AT + PAUSE
    assert await resend(told, later) == len(mine)
    again = await claim(told, later)
    assert [one.identity for one in again] == [one.identity for one in mine], "the others' are not its own"
    assert {(one.attempts, one.tries, one.enqueued_at) for one in again} == {(3, 1, later)}
    await told.deliveries.postpone(again, later + 1, "http_503")
    assert {(one.attempts, one.tries) for one in await claim(told, later + 1)} == {(4, 2)}


async def test_what_waits_is_sent_at_once_and_its_pauses_and_its_time_go_on(told: Side) -> None:
    await claim(told)
    claimed = await claim(told, AT + LEASE)
    mine = [one for one in claimed if one.subscription == "sb-shelter"]
    await told.deliveries.postpone(mine[:2], AT + 10 * PAUSE, "http_503")
    await told.deliveries.finish(mine[2:3], "delivered", AT + LEASE)
    assert await resend(told, AT + LEASE + 1) == 2, "somebody is at the others"
    again = await claim(told, AT + LEASE + 1)
    assert [one.identity for one in again] == [one.identity for one in mine[:2]]
    assert {(one.attempts, one.tries, one.enqueued_at) for one in again} == {(3, 3, AT)}


async def test_nothing_is_sent_again_that_nobody_attempted_yet(told: Side) -> None:
    assert await resend(told, AT) == 0


async def test_an_organisation_has_its_deliveries_sent_again_once_in_a_while(told: Side) -> None:
    await resend(told, AT)
    for at in (AT, AT + 1, AT + PAUSE - 1):
        with pytest.raises(ResentJustNow) as refused:
            await resend(told, at)
        assert refused.value.wait_ms == AT + PAUSE - at
    await resend(told, AT + 1, "police")
    await resend(told, AT + PAUSE)
    with pytest.raises(ResentJustNow):
        await resend(told, AT + PAUSE + 1)


async def test_what_is_not_sent_again_yet_stays_as_it_is(told: Side) -> None:
    await told.deliveries.finish(await claim(told), "given_up", AT, "http_410")
    await resend(told, AT)
    again = await claim(told)
    await told.deliveries.finish(again, "given_up", AT, "http_410")
    with pytest.raises(ResentJustNow):
        await resend(told, AT + 1)
    assert await claim(told, AT + 1) == []


async def test_a_clock_that_was_ahead_keeps_nobody_from_having_its_deliveries_sent_again(told: Side) -> None:
    await resend(told, AT + 10 * PAUSE)
    await resend(told, AT)
    with pytest.raises(ResentJustNow):
        await resend(told, AT + 1)


async def test_of_several_who_ask_at_once_one_has_its_deliveries_sent_again(told: Side) -> None:
    asked = await asyncio.gather(*(resend(told, AT) for _ in range(5)), return_exceptions=True)
    assert [one for one in asked if not isinstance(one, ResentJustNow)] == [0]


@pytest.fixture
async def read(fed: Side) -> Side:
    """The tables, with something to deliver to each who subscribed, by webhook or feed."""
    await fed.fold().apply(LEDGER, AT)
    return fed


FEED = "sb-feed-police"


async def test_a_feed_is_claimed_as_a_whole_whatever_limit_each_webhook_has(read: Side) -> None:
    claimed = await claim(read, each=1)
    assert numbers(claimed, "sb-police") == [1]
    mine = [one for one in claimed if one.subscription == FEED]
    assert numbers(mine, FEED) == sorted(numbers(mine, FEED)) and len(mine) > 3
    assert {(one.channel, one.url, one.sealed_secret, one.attempts) for one in mine} == {
        ("feed", None, None, 1)
    }


async def test_of_a_feed_nothing_is_claimed_while_anything_of_it_is_under_way_or_waits(read: Side) -> None:
    mine = [one for one in await claim(read) if one.subscription == FEED]
    await read.deliveries.finish(mine[1:], "delivered", AT)
    assert numbers(await claim(read), FEED) == [], "somebody is at the first"
    await read.deliveries.postpone(mine[:1], AT + 100, "log_unavailable")
    assert numbers(await claim(read, AT + 99), FEED) == []
    assert numbers(await claim(read, AT + 100), FEED) == [1]


async def test_of_a_feed_that_nobody_finished_all_is_claimed_again_in_order(read: Side) -> None:
    first = [one for one in await claim(read) if one.subscription == FEED]
    await read.deliveries.postpone(first[2:], AT, "interrupted")
    assert numbers(await claim(read), FEED) == [], "what comes before is another's still"
    assert numbers(await claim(read, AT + LEASE), FEED) == numbers(first, FEED)


async def test_a_feeds_batch_is_one_of_the_attempts_there_is_room_for(read: Side) -> None:
    waiting, *_ = await read.deliveries.waiting(AT)
    first = await claim(read, most=1)
    assert {one.subscription for one in first} == {"sb-clinic"}
    second = await claim(read, most=2)
    assert {one.subscription for one in second} == {"sb-feed-police", "sb-feed-shelter"}
    assert len(second) > 4
    assert await read.deliveries.waiting(AT) == (waiting, 0, 0)


async def test_what_was_given_up_of_a_feed_is_not_sent_again(read: Side) -> None:
    claimed = await claim(read)
    await read.deliveries.finish(claimed, "given_up", AT, "log_unavailable")
    mine = [one for one in claimed if one.subscription == "sb-shelter"]
    assert await resend(read, AT) == len(mine)
    assert {one.subscription for one in await claim(read)} == {"sb-shelter"}


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_database_that_is_away_says_so_unless_nothing_is_asked_of_it(kind: str) -> None:
    database = Beside()
    database.away = True
    deliveries: Any = MemoryDeliveries(database, NotifierTables([]))
    if kind == "postgres":
        deliveries = Deliveries(new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    for ask in (
        deliveries.claim(AT, AT + LEASE, MANY, MANY),
        deliveries.resend("shelter", AT, PAUSE),
        deliveries.waiting(AT),
    ):
        with pytest.raises((SQLAlchemyError, OSError)):
            await ask
    await deliveries.finish([], "delivered", AT)
    await deliveries.postpone([], AT, "interrupted")
