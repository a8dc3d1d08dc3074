"""What an organisation hears: by event stream and where it left off, by webhook with a signature, and by a feed of its own on Kafka."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from referral_bus.client.answers import Heard
from referral_bus.client.errors import NotRecognised
from referral_bus.client.feed import Feed
from referral_bus.client.notices import open_notice
from referral_bus.client.webhooks import received_notice
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import (
    OfferAccepted,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralOpened,
    ServiceStarted,
)
from referral_bus.log import topics
from referral_bus.log.port import Partition
from tests.support.notifying import Receiver
from tests.support.whole_bus import SECONDS, Asked, WholeBus, new_need, now_ms, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

_LIFE = [
    event.event_type()
    for event in (ReferralOpened, OfferMade, OfferAccepted, ServiceStarted, OutcomeReported, ReferralClosed)
]
"""What the agency hears of a referral that goes well."""


async def _live(whole: WholeBus, agency: str = "hospital") -> Asked:
    """The life of a referral, from its submission to its outcome."""
    need = new_need()
    await whole.service("harbor", need)
    asked = await whole.refer(agency, need)
    await _served(whole, asked)
    return asked


async def _served(whole: WholeBus, asked: Asked) -> None:
    harbor = whole.party("harbor")
    await harbor.accept(asked.task)
    await harbor.start(asked.referral, now_ms())
    await harbor.outcome(asked.referral, "need_met", "Well.")


async def test_an_agency_follows_its_referral_by_event_stream(whole: WholeBus) -> None:
    heard: list[Notice] = []
    async with (
        asyncio.timeout(SECONDS),
        aclosing(whole.party("hospital").follow("agency", last_event_id="0")) as stream,
    ):
        asked = await _live(whole)
        async for one in stream:
            if one.notice.referral == asked.referral:
                heard.append(one.notice)
                if one.notice.type == ReferralClosed.event_type():
                    break
    assert [notice.type for notice in heard] == _LIFE
    outcome = heard[_LIFE.index(OutcomeReported.event_type())]
    shown = open_notice(outcome, whole.keys["hospital"].private)
    assert shown == {"referral": asked.referral, "outcome": "need_met", "note": "Well."}


async def test_a_stream_goes_on_behind_the_last_notice_that_was_seen(whole: WholeBus) -> None:
    harbor = whole.party("harbor")
    before, first = await _live(whole), []
    async with asyncio.timeout(SECONDS), aclosing(harbor.follow("provider", last_event_id="0")) as stream:
        async for one in stream:
            first.append(one)
            if (one.notice.referral, one.notice.type) == (before.referral, OfferAccepted.event_type()):
                break
    # Nobody is connected while this happens.
    later = await _live(whole)
    second: list[Heard] = []
    async with (
        asyncio.timeout(SECONDS),
        aclosing(harbor.follow("provider", last_event_id=first[-1].id)) as stream,
    ):
        async for one in stream:
            second.append(one)
            if (one.notice.referral, one.notice.type) == (later.referral, ReferralClosed.event_type()):
                break
    numbers = [int(one.id) for one in first + second]
    assert numbers == sorted(set(numbers))
    mine = [
        one.notice.type for one in first + second if one.notice.referral in (before.referral, later.referral)
    ]
    assert mine == _LIFE[1:] + _LIFE[1:]


async def test_a_webhook_gets_each_notice_with_a_signature_that_the_sdk_verifies(
    whole: WholeBus, receiver: Receiver
) -> None:
    subscription = await whole.subscribe("hospital", channel="webhook", role="agency", url=receiver.url)
    receiver.statuses = [503]
    asked = await _live(whole)

    def notices() -> list[Notice]:
        found = [received_notice(subscription["secret"], one.headers, one.body) for one in receiver.received]
        return [notice for notice in found if notice.referral == asked.referral]

    def again() -> bool:
        refused, *later = [one.headers["webhook-id"] for one in receiver.received]
        return refused in later

    # What was refused may come again after all the others.
    await until(lambda: set(_LIFE) <= {notice.type for notice in notices()} and again())
    one = receiver.received[-1]
    with pytest.raises(NotRecognised):
        received_notice(subscription["secret"], one.headers, one.body + b" ")
    with pytest.raises(NotRecognised):
        received_notice("whsec_" + "A" * 44, one.headers, one.body)
    await whole.unsubscribe("hospital", subscription["subscription"])


async def test_a_feed_on_kafka_carries_the_notices_and_what_they_disclose_sealed(whole: WholeBus) -> None:
    subscription = await whole.subscribe("harbor", channel="feed", role="provider")
    asked = await _live(whole)
    heard: list[Notice] = []
    feed = Feed(whole.log, whole.name, "harbor", whole.codec)
    async with asyncio.timeout(SECONDS), aclosing(feed.read()) as reading:
        async for _, message in reading:
            if isinstance(message, Notice) and message.referral == asked.referral:
                heard.append(message)
                if message.type == ReferralClosed.event_type():
                    break
    assert [notice.type for notice in heard] == _LIFE[1:]
    key = whole.keys["harbor"].private
    offered, accepted = (open_notice(notice, key) for notice in heard[:2])
    # By the time the offer left, it may have been accepted; facts are all that a notice of an offer shows.
    assert offered is None or offered.keys() <= {"referral", "facts"}
    assert accepted is not None
    assert accepted["identity"]["name"] == "Wilhelmina Ashgrove-Tester"
    await whole.unsubscribe("harbor", subscription["subscription"])


async def test_confluents_own_deserialiser_reads_a_feed_by_intakes_registry(whole: WholeBus) -> None:
    subscription = await whole.subscribe("harbor", channel="feed", role="provider")
    asked = await _live(whole)
    topic = topics.feed(whole.name, "harbor")

    async def there() -> bool:
        return any(
            isinstance(one, Notice)
            and (one.referral, one.type) == (asked.referral, ReferralClosed.event_type())
            for one in await whole.messages(topic)
        )

    await until(there)
    reader = await whole.log.reader(Partition(topic, 0))
    end = await reader.end()
    await reader.close()
    decoded = await asyncio.to_thread(_read_as_outsider, whole, topic, end)
    mine = [one for one in decoded if one["referral"] == asked.referral]
    assert [one["type"] for one in mine] == _LIFE[1:]
    assert {one["organisation"] for one in mine} == {"harbor"}
    await whole.unsubscribe("harbor", subscription["subscription"])


def _read_as_outsider(whole: WholeBus, topic: str, end: int) -> list[dict[str, Any]]:
    """The whole feed, with nothing of ours but addresses."""
    consumer = Consumer(
        {
            "bootstrap.servers": whole.bus.addresses.kafka,
            "group.id": "an-outsider",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        with SchemaRegistryClient({"url": whole.bus.addresses.intake}) as registry:
            deserialise = AvroDeserializer(registry)
            consumer.subscribe([topic])
            found: list[dict[str, Any]] = []
            while True:
                message = consumer.poll(SECONDS)
                assert message is not None, "the feed's end was not reached"
                assert message.error() is None
                found.append(deserialise(message.value(), SerializationContext(topic, MessageField.VALUE)))
                if message.offset() == end - 1:
                    return found
    finally:
        consumer.close()
