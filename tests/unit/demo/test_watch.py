from __future__ import annotations

import asyncio

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    Entry,
    Event,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferralWithdrawn,
)
from referral_bus.demo.watch import Seen, Watch
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.log.topics import ledger, topics
from referral_bus.wire.codec import Codec

REFERRAL = "rf-north-aaaaaaaaaaaaaaaaaaaa"
TASK = task_id(REFERRAL, 1)


def entry(event: Event) -> Entry:
    meta = Meta(region="north", sequence=1, prev_hash=bytes(32), decided_through=0, now=1, rules=1)
    return Entry(meta, event)


def made() -> OfferMade:
    return OfferMade(
        referral=REFERRAL,
        task=TASK,
        service="sv-north-a",
        unit="un-north-a",
        provider="harbor",
        expires_at=9,
    )


@pytest.mark.parametrize(
    "end",
    [
        OfferAccepted(referral=REFERRAL, task=TASK, provider="harbor"),
        OfferDeclined(referral=REFERRAL, task=TASK, provider="harbor", reason="other"),
        OfferExpired(referral=REFERRAL, task=TASK, provider="harbor"),
        ReferralWithdrawn(referral=REFERRAL, reason="other", task=TASK),
    ],
    ids=lambda end: type(end).__name__,
)
def test_an_offer_waits_until_it_is_answered_or_ends(end: Event) -> None:
    seen = Seen()
    seen.take(entry(made()))
    assert seen.waiting == {TASK}
    seen.take(entry(end))
    assert seen.waiting == set()


def test_a_withdrawal_before_any_offer_ends_none() -> None:
    seen = Seen()
    seen.take(entry(made()))
    seen.take(entry(ReferralWithdrawn(referral="rf-north-bbbbbbbbbbbbbbbbbbbb", reason="other")))
    assert seen.waiting == {TASK}


async def test_who_waits_can_be_cancelled_at_any_moment_also_as_something_happens(codec: Codec) -> None:
    log = MemoryLog()
    await log.ensure(topics("demo", 1, 1))
    appender = await log.appender()
    watch = Watch(log, "demo", codec)
    watching = asyncio.create_task(watch.run())
    for steps in range(40):
        waiting = asyncio.create_task(watch.until(lambda seen: False, lambda seen: "all", 60.0))
        await asyncio.sleep(0.01)
        await appender.append([Outgoing(ledger("demo"), 0, None, codec.encode_entry(entry(made())))])
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=1.0)
        assert done and waiting.cancelled(), f"it went on after it was cancelled, {steps} steps later"
    watching.cancel()
    await asyncio.wait([watching])
