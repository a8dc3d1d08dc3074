"""Every attribute of every event the bus writes has the type that CloudEvents 1.0 gives it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from referral_bus.client import cloud_event
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import EVENTS
from referral_bus.disclosure.releases import Releases
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Log, Partition, Record, TopicSpec
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, dataschema_of
from referral_bus.wire.errors import WireError
from referral_bus.wire.inbox import admitted_again, submission_record
from services.matching.chain import ledger_record
from services.notifier.deliveries import Claimed
from services.notifier.feed import Feeds
from services.notifier.notices import Kept, structured
from services.notifier.words import Words
from tests.support.admitting import SAID, now
from tests.support.attributes import faults, in_headers
from tests.support.clocks import ManualClock
from tests.support.deciding import REGION
from tests.support.lives import Lives

CODEC = Codec.load()
BUS = "main"
REFERRAL = f"rf-{REGION}-" + "a" * 20
KEPT: dict[str, Any] = {
    "organisation": "shelter",
    "number": 1,
    "region": REGION,
    "sequence": 7,
    "role": "provider",
    "type": "org.referralbus.ledger.OfferMade.v1",
    "at": 1_700_000_000_123,
    "referral": REFERRAL,
    "task": f"tk-{REGION}-" + "a" * 20 + "-1",
    "reason": None,
    "expires_at": 1_700_000_100_000,
    "submission": None,
}
HEARD = (Kept(**KEPT), Kept(**{**KEPT, "referral": None, "task": None, "submission": "s-1 (again)!"}))


def notice(kept: Kept, disclosed: bytes | None = None) -> Notice:
    shown = ("organisation", "type", "region", "sequence", "at", "referral", "task", "expires_at")
    return Notice(**{name: getattr(kept, name) for name in shown}, disclosed=disclosed)


def claimed(kept: Kept) -> Claimed:
    return Claimed("sb-1", "feed", None, None, 1, 0, 1, kept)


async def written(log: Log, topic: str) -> list[Record]:
    reader = await log.reader(Partition(topic, 0))
    return await reader.read(0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_ledger_of_whole_lives(seed: int) -> None:
    lives = Lives(CODEC, seed, windows=seed == 1)
    lives.steps(300)
    kinds = set()
    for entry, value in lives.world.entries:
        record = ledger_record(
            entry,
            value,
            bus=BUS,
            topic="ledger",
            partition=0,
            codec=CODEC,
            cause="s-1",
            correlation="c-1",
        )
        kinds.add(type(entry.event))
        assert faults(in_headers(record.headers)) == [], entry.event.event_type()
    assert len(kinds) > len(EVENTS) / 2


def test_what_is_put_on_inboxes() -> None:
    for _, about, request in SAID:
        event = cloud_event(request, "shelter", "s-1", now())
        assert faults({name: value for name, value in event.items() if name != "data"}) == [], about
    lives = Lives(CODEC, 3)
    lives.steps(50)
    admitted = [
        entry.meta.submission for entry, _ in lives.world.entries if entry.meta.submission is not None
    ]
    assert len(admitted) > 50
    for one in admitted:
        record = submission_record(
            admitted_again(one, CODEC).body,
            codec=CODEC,
            topic="inbox",
            partition=0,
            region=REGION,
            id="s-1",
            organisation="police",
            sent_at=now(),
            digest=b"d" * 32,
            about=REFERRAL,
        )
        assert faults(in_headers(record.headers)) == []


@pytest.mark.parametrize("kept", HEARD)
@pytest.mark.parametrize("disclosed", [None, b"jwe"])
def test_notices_by_webhook_and_on_feeds(kept: Kept, disclosed: bytes | None) -> None:
    told = notice(kept, disclosed)
    schema = CODEC.schema_id(Notice)
    event = json.loads(structured(told, kept, "sb-1.north.7", schema))
    assert event.pop("data")["sequence"] == kept.sequence
    assert faults(event) == []
    record = Feeds(None, BUS, CODEC).record(claimed(kept), told)  # type: ignore[arg-type]
    assert faults(in_headers(record.headers)) == []
    assert event["dataschema"] == in_headers(record.headers)["dataschema"] == dataschema_of(schema)


async def test_words_releases_and_dead_letters() -> None:
    log = MemoryLog()
    named = [topics.delivery(BUS), topics.disclosure(BUS), topics.deadletter(BUS)]
    await log.ensure([TopicSpec(topic, 1) for topic in named])
    appender = await log.appender()
    words = Words(appender, BUS, CODEC, 1)
    await words.delivered([claimed(kept) for kept in HEARD], 1)
    await words.failed([claimed(HEARD[0])], 1, "http_500", 2)
    await words.given_up([claimed(HEARD[0])], 1, "http_500")
    release = Disclosed(
        recipient="shelter",
        referral=REFERRAL,
        subject="sj-" + "a" * 26,
        data_classes=["facts"],
        purpose="care_coordination",
        grant="offered",
        channel="webhook",
        at=1,
    )
    await Releases(appender, BUS, CODEC, 1).record([release])
    letters = DeadLetters(BUS, "intake", new_encryption_keys().public, CODEC, ManualClock(1))
    await appender.append([letters.letter(Record("agency.a.outbox", 0, 3, 1, None, b"x"), "not_sealed")])
    records = [record for topic in named for record in await written(log, topic)]
    assert len(records) == 6
    assert [faults(in_headers(record.headers)) for record in records] == [[]] * 6


def test_a_schema_is_named_by_an_absolute_uri_and_read_back() -> None:
    envelope = Envelope("1", "/organisations/a", "t", 1, "s", 42, "north", "internal")
    headers = envelope.to_headers()
    assert dict(headers)["ce_dataschema"] == b"urn:referral-bus:schema:42"
    assert Envelope.from_headers(headers) == envelope
    for other in (b"/schemas/ids/42", b"urn:referral-bus:schema:x", b"42"):
        changed = tuple((name, other if name == "ce_dataschema" else value) for name, value in headers)
        with pytest.raises(WireError, match="dataschema: expected urn:referral-bus:schema:<number>"):
            Envelope.from_headers(changed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataschema", "/schemas/ids/1"),
        ("source", "a b"),
        ("source", "1:2"),
        ("time", "2024-01-01T00:00:00"),
        ("subject", "a\nb"),
        ("Upper", "x"),
        ("id", ""),
        ("number", 1),
    ],
)
def test_what_is_of_another_type_is_seen_here(name: str, value: object) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
    assert faults(event) == []
    assert faults({**event, name: value}) != []
