"""The record of releases: on the topic before anything leaves, one person's in order."""

from __future__ import annotations

import pytest

from referral_bus.contracts.disclosure import Disclosed
from referral_bus.disclosure.releases import Releases
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import LogUnavailable
from referral_bus.log.topics import topics
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, organisation_of

TOPIC = "refbus.main.disclosure"
ADA, BEN = "sj-" + "a" * 26, "sj-" + "b" * 26


def release(subject: str, at: int = 1_000) -> Disclosed:
    return Disclosed(
        subject=subject,
        referral="rf-north-aaaaaaaaaaaaaaaaaaaa",
        recipient="shelter",
        data_classes=["facts", "identity"],
        purpose="care_coordination",
        grant="accepted",
        channel="api",
        at=at,
    )


@pytest.fixture
async def log() -> MemoryLog:
    log = MemoryLog()
    await log.ensure(topics("main", partitions=4, replication=1))
    return log


async def releases(log: MemoryLog, codec: Codec) -> Releases:
    return Releases(await log.appender(), "main", codec, await log.partitions(TOPIC))


async def test_a_release_says_who_was_shown_what_when_why_and_under_which_grant(
    log: MemoryLog, codec: Codec
) -> None:
    await (await releases(log, codec)).record([release(ADA)])
    [record] = log.records(TOPIC)
    assert codec.decode(record.value) == release(ADA)
    envelope = Envelope.from_headers(record.headers)
    assert organisation_of(envelope.source) == "shelter"
    assert (envelope.subject, envelope.time, record.key) == (release(ADA).referral, 1_000, ADA.encode())
    assert envelope.schema_id == codec.schema_id(Disclosed)


async def test_one_persons_releases_stay_in_order_and_every_process_puts_them_to_the_same_place(
    log: MemoryLog, codec: Codec
) -> None:
    for at in range(5):
        await (await releases(log, codec)).record([release(ADA, at), release(BEN, at)])
    for subject in (ADA, BEN):
        records = [record for record in log.records(TOPIC) if record.key == subject.encode()]
        assert len({record.partition for record in records}) == 1
        assert [Envelope.from_headers(record.headers).time for record in records] == [0, 1, 2, 3, 4]


async def test_every_release_has_an_id_of_its_own(log: MemoryLog, codec: Codec) -> None:
    await (await releases(log, codec)).record([release(ADA, 1), release(ADA, 2), release(BEN, 1)])
    assert len({Envelope.from_headers(record.headers).id for record in log.records(TOPIC)}) == 3


async def test_where_it_can_not_be_recorded_the_caller_hears_of_it(log: MemoryLog, codec: Codec) -> None:
    record = await releases(log, codec)
    log.away = True
    with pytest.raises(LogUnavailable):
        await record.record([release(ADA)])
    log.away = False
    assert log.records(TOPIC) == []


async def test_nothing_released_is_nothing_recorded(log: MemoryLog, codec: Codec) -> None:
    record = await releases(log, codec)
    log.away = True
    await record.record([])
