from __future__ import annotations

import json

import pytest

from referral_bus.client import Feed, Outbox, cloud_event, open_notice
from referral_bus.contracts.feed import AdmissionRefused, Notice
from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.requests import AcceptRequest
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition
from referral_bus.log.topics import feed, of_organisations, outbox
from referral_bus.sealing.jwe import JweError, new_encryption_keys, open_with, seal_to
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

TASK = "tk-north-aaaaaaaaaaaaaaaaaaaa-1"


async def log_with_topics() -> MemoryLog:
    log = MemoryLog()
    await log.ensure(of_organisations("main", 1, ["food-bank"]))
    return log


async def test_the_outbox_holds_what_only_intake_can_open() -> None:
    log, keys = await log_with_topics(), new_encryption_keys()
    event = cloud_event(AcceptRequest(task=TASK), "food-bank", "a-1", 0)

    positions = await Outbox(await log.appender(), "food-bank", keys.public).put([event, event])

    reader = await log.reader(Partition(outbox("food-bank"), 0))
    records = await reader.read(0)
    assert [p.offset for p in positions] == [r.offset for r in records] == [0, 1]
    assert TASK.encode() not in (records[0].value or b"")
    assert json.loads(open_with(keys.private, records[0].value or b"")) == event
    assert records[0].headers == (("content-type", b"application/jose"),)


async def test_the_feed_is_read_in_order_and_goes_on_where_it_was() -> None:
    log, codec = await log_with_topics(), Codec.load()
    notice = Notice(organisation="food-bank", type="x.v1", region="north", sequence=1, at=1)
    refused = AdmissionRefused(
        organisation="food-bank",
        outbox_partition=0,
        outbox_offset=3,
        at=1,
        status=422,
        reason="invalid",
        detail="Correct it.",
    )
    appender = await log.appender()
    topic = feed("main", "food-bank")
    await appender.append([Outgoing(topic, 0, None, codec.encode(m)) for m in (notice, refused)])

    heard = []
    async for offset, message in Feed(log, "main", "food-bank", codec).read():
        heard.append((offset, message))
        if len(heard) == 2:
            break
    assert heard == [(0, notice), (1, refused)]
    async for item in Feed(log, "main", "food-bank", codec).read(start=1):
        assert item == (1, refused)
        break


async def test_something_else_on_the_feed_is_an_error_that_says_where() -> None:
    log, codec = await log_with_topics(), Codec.load()
    topic = feed("main", "food-bank")
    await (await log.appender()).append([Outgoing(topic, 0, None, codec.encode(Tick(region="north", due=1)))])

    with pytest.raises(WireError, match=r"offset 0 of refbus.main.feed.food-bank"):
        await anext(Feed(log, "main", "food-bank", codec).read())


def test_a_notice_is_opened_with_the_organisations_own_key_only() -> None:
    ours, theirs = new_encryption_keys(), new_encryption_keys()
    shown = {"identity": {"name": "A Person"}}
    notice = Notice(
        organisation="food-bank",
        type="x.v1",
        region="north",
        sequence=1,
        at=1,
        disclosed=seal_to(ours.public, json.dumps(shown).encode()),
    )

    assert open_notice(notice, ours.private) == shown
    with pytest.raises(JweError):
        open_notice(notice, theirs.private)
    assert open_notice(notice.model_copy(update={"disclosed": None}), ours.private) is None
