"""Dead letters: encrypted to operations, complete as far as they fit, and counted where the fault is ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Appender, LogUnavailable, Record
from referral_bus.log.topics import topics
from referral_bus.runtime.deadletters import DeadLetters, TooManyDeadLetters
from referral_bus.sealing.jwe import new_encryption_keys, open_with
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope
from tests.support.clocks import ManualClock

TOPIC = "refbus.main.deadletter"
NAME = b"Quentin Featherstonehaugh"
KEYS = new_encryption_keys()
BY_ITSELF = 1_048_588
"""What a broker takes unless it is told otherwise."""


def letters(codec: Codec, limit: int = 3) -> DeadLetters:
    return DeadLetters("main", "intake", KEYS.public, codec, ManualClock(7_000), limit)


def record(
    offset: int = 5, value: bytes | None = NAME, headers: tuple[tuple[str, bytes], ...] = (("ce_id", b"s-1"),)
) -> Record:
    return Record("agency.hospital.outbox", 0, offset, 1_000, b"key", value, headers)


@pytest.fixture
async def log() -> MemoryLog:
    log = MemoryLog()
    await log.ensure(topics("main", partitions=2, replication=1))
    return log


def opened(codec: Codec, value: bytes | None) -> tuple[DeadLetter, dict[str, Any]]:
    letter = codec.decode(value)
    assert isinstance(letter, DeadLetter)
    return letter, json.loads(open_with(KEYS.private, letter.sealed))


def test_a_letter_says_where_from_and_why_and_only_operations_can_read_what(codec: Codec) -> None:
    outgoing = letters(codec).letter(record(), "malformed")
    letter, content = opened(codec, outgoing.value)
    assert (letter.service, letter.topic, letter.partition, letter.offset) == (
        "intake",
        "agency.hospital.outbox",
        0,
        5,
    )
    assert (letter.reason, letter.tries, letter.at) == ("malformed", 1, 7_000)
    assert base64.b64decode(content["value"]) == NAME
    assert base64.b64decode(content["key"]) == b"key"
    assert [(name, base64.b64decode(text)) for name, text in content["headers"]] == [("ce_id", b"s-1")]
    shown = (outgoing.value or b"") + (outgoing.key or b"") + b"".join(value for _, value in outgoing.headers)
    assert NAME not in shown
    assert base64.b64encode(NAME) not in shown


def test_letters_stand_on_the_one_partition_of_their_topic_however_many_the_bus_has(codec: Codec) -> None:
    [spec] = [one for one in topics("main", partitions=8, replication=1) if one.name == TOPIC]
    assert (spec.partitions, letters(codec).letter(record(), "malformed").partition) == (1, 0)


def test_a_letter_names_its_record_so_that_one_put_twice_is_known_again(codec: Codec) -> None:
    ids = [Envelope.from_headers(letters(codec).letter(record(n), "malformed").headers).id for n in (5, 5, 6)]
    assert ids == ["intake/agency.hospital.outbox/0/5"] * 2 + ["intake/agency.hospital.outbox/0/6"]


def test_a_record_without_value_is_kept_as_such(codec: Codec) -> None:
    assert opened(codec, letters(codec).letter(record(value=None), "malformed").value)[1]["value"] is None


@pytest.mark.parametrize(
    "large",
    [
        record(value=b"v" * 1_000_000),
        record(value=b"", headers=(("h", b"h" * 1_000_000),)),
        record(value=b"", headers=tuple((f"h{n}", b"") for n in range(60_000))),
        record(value=b"", headers=(("n" * 1_000_000, b""),)),
        Record("agency.hospital.outbox", 0, 1, 1_000, b"k" * 1_000_000, b"", ()),
    ],
    ids=["value", "header", "headers", "name", "key"],
)
def test_the_largest_records_are_cut_to_what_a_broker_takes(codec: Codec, large: Record) -> None:
    outgoing = letters(codec).letter(large, "too_large")
    size = len(outgoing.value or b"") + sum(len(name) + len(value) for name, value in outgoing.headers)
    assert size < BY_ITSELF - 10_000
    content = opened(codec, outgoing.value)[1]
    assert (content["cut"], content["bytes"]) == (True, len(large.value or b""))


async def put(guard: DeadLetters, appender: Appender, *faults: Record) -> None:
    """As who puts records away for a fault of their own does it."""
    batch = guard.batch()
    await appender.append([batch.fault(one, "undecidable") for one in faults])
    batch.kept()
    guard.check()


async def test_at_the_limit_of_faults_in_a_row_the_service_stops_having_kept_the_letter(
    log: MemoryLog, codec: Codec
) -> None:
    guard, appender = letters(codec, limit=3), await log.appender()
    await put(guard, appender, record(1))
    await put(guard, appender, record(2))
    with pytest.raises(TooManyDeadLetters, match=r"3 records .*outbox/0/3 \(undecidable\).*intake"):
        await put(guard, appender, record(3))
    assert [opened(codec, kept.value)[0].offset for kept in log.records(TOPIC)] == [1, 2, 3]


async def test_faults_count_each_also_where_they_are_kept_together(log: MemoryLog, codec: Codec) -> None:
    guard, appender = letters(codec, limit=4), await log.appender()
    await put(guard, appender, record(1))
    with pytest.raises(TooManyDeadLetters, match=r"5 records .*outbox/0/5 \(undecidable\)"):
        await put(guard, appender, *(record(offset) for offset in range(2, 6)))


async def test_a_record_that_was_handled_starts_the_count_anew(log: MemoryLog, codec: Codec) -> None:
    guard, appender = letters(codec, limit=2), await log.appender()
    for offset in range(10):
        await put(guard, appender, record(offset))
        guard.handled()
    assert len(log.records(TOPIC)) == 10


def test_of_a_batch_only_the_faults_behind_what_was_handled_last_are_in_a_row(codec: Codec) -> None:
    guard = letters(codec, limit=3)
    for said in ("ff.", "f.ff", ".f.", "ff"):
        batch = guard.batch()
        for offset, one in enumerate(said):
            if one == "f":
                batch.fault(record(offset), "undecidable")
            else:
                batch.handled()
        batch.kept()
        guard.check()
    batch = guard.batch()
    batch.fault(record(9), "undecidable")
    batch.kept()
    with pytest.raises(TooManyDeadLetters, match="3 records"):
        guard.check()


def test_bad_input_from_outside_does_not_count(codec: Codec) -> None:
    guard = letters(codec, limit=1)
    for offset in range(50):
        batch = guard.batch()
        batch.letter(record(offset), "malformed")
        batch.kept()
        guard.check()


async def test_a_letter_that_could_not_be_kept_is_the_callers_to_try_again_and_does_not_count(
    log: MemoryLog, codec: Codec
) -> None:
    guard, appender = letters(codec, limit=2), await log.appender()
    log.away = True
    before = counted()
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            await put(guard, appender, record())
    guard.check()
    assert counted() == before
    log.away = False
    await put(guard, appender, record())
    assert counted() == before + 1


def test_what_was_handled_in_a_batch_that_was_not_kept_starts_no_count_anew(codec: Codec) -> None:
    guard = letters(codec, limit=2)
    for _ in range(2):
        guard.batch().handled()
        batch = guard.batch()
        batch.fault(record(), "undecidable")
        batch.kept()
    with pytest.raises(TooManyDeadLetters):
        guard.check()


def counted() -> float:
    return REGISTRY.get_sample_value("refbus_dead_letters_total", {"reason": "undecidable"}) or 0.0
