"""A key store that was restored from a backup forgets again whom the ledger forgot, before it opens anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.ledger import GENESIS_HASH, Entry, Event, KeyDestroyed, Meta, RulesActivated
from referral_bus.log.memory import MemoryLog, MemoryReader
from referral_bus.log.port import LogUnavailable, Outgoing, Partition, TopicSpec
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import DESTROYED, KeyStoreError, KeyStoreUnavailable, Section
from referral_bus.sealing.replay import UnreadableDestruction, replay_destroyed
from referral_bus.sealing.secrets import Secrets
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec

TOPIC = "refbus.main.ledger"
ADA, BEN, CAL = ("sj-" + letter * 26 for letter in "abc")
DERIVED = Secrets.derive(bytes(32), "main")
WRAPPING: dict[Section, bytes] = {"facts": DERIVED.facts_key, "identity": DERIVED.identity_key}


@pytest.fixture
async def engine(postgres: str) -> AsyncIterator[AsyncEngine]:
    engine = new_engine(postgres)
    await migrate(engine, "sealing", "referral_bus.sealing.migrations")
    yield engine
    async with engine.begin() as connection:
        await connection.execute(text("drop schema sealing cascade"))
    await engine.dispose()


@pytest.fixture
async def log() -> MemoryLog:
    return await ledger()


async def ledger() -> MemoryLog:
    log = MemoryLog()
    await log.ensure([TopicSpec(TOPIC, 2)])
    return log


def record(codec: Codec, event: Event, partition: int = 0) -> Outgoing:
    meta = Meta(region="north", sequence=1, prev_hash=GENESIS_HASH, decided_through=0, now=0, rules=1)
    return Outgoing(TOPIC, partition, b"north", codec.encode_entry(Entry(meta, event)))


async def append(log: MemoryLog, *records: Outgoing) -> None:
    await (await log.appender()).append(records)


async def positions(engine: AsyncEngine) -> dict[int, int]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("select partition, next_offset from sealing.replayed"))
        return {partition: offset for partition, offset in rows}


async def backup(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for table in ("subject_keys", "replayed"):
            await connection.execute(
                text(f"create table sealing.old_{table} as select * from sealing.{table}")
            )


async def restore(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for table in ("subject_keys", "replayed"):
            await connection.execute(text(f"truncate sealing.{table}"))
            await connection.execute(text(f"insert into sealing.{table} select * from sealing.old_{table}"))


def opened(engine: AsyncEngine) -> KeyStore:
    """The key store as a process that has just started sees it."""
    return KeyStore(engine, WRAPPING)


async def test_who_was_forgotten_stays_so_when_an_older_copy_of_the_keys_is_restored(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    ben = (await opened(engine).ensure([ADA, BEN]))[BEN]
    await append(log, record(codec, RulesActivated(version=1)), record(codec, KeyDestroyed(subject=CAL)))
    await replay_destroyed(log, TOPIC, codec, engine)
    await backup(engine)

    await opened(engine).destroy([ADA])
    await append(log, record(codec, RulesActivated(version=1)), record(codec, KeyDestroyed(subject=ADA)))
    await replay_destroyed(log, TOPIC, codec, engine)
    await restore(engine)
    assert (await opened(engine).ensure([ADA]))[ADA] is not DESTROYED, "the copy holds the key"

    assert await replay_destroyed(log, TOPIC, codec, engine) == 1
    assert await opened(engine).ensure([ADA, BEN]) == {ADA: DESTROYED, BEN: ben}
    assert await opened(engine).fetch([ADA], "facts") == {ADA: DESTROYED}


async def test_each_partition_is_replayed_once_and_then_from_where_it_stood(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    await append(
        log, record(codec, KeyDestroyed(subject=ADA), 0), record(codec, KeyDestroyed(subject=BEN), 1)
    )
    assert await replay_destroyed(log, TOPIC, codec, engine) == 2
    assert await replay_destroyed(log, TOPIC, codec, engine) == 0
    await append(log, record(codec, KeyDestroyed(subject=CAL), 1))
    assert await replay_destroyed(log, TOPIC, codec, engine) == 1
    assert await positions(engine) == {0: 1, 1: 2}
    assert set((await opened(engine).ensure([ADA, BEN, CAL])).values()) == {DESTROYED}


async def test_an_empty_ledger_leaves_nothing_behind(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    assert await replay_destroyed(log, TOPIC, codec, engine) == 0
    assert await positions(engine) == {}


async def test_what_was_aborted_destroys_nobody(engine: AsyncEngine, log: MemoryLog, codec: Codec) -> None:
    await log.abort([record(codec, KeyDestroyed(subject=ADA))])
    await append(log, record(codec, KeyDestroyed(subject=BEN)))
    assert await replay_destroyed(log, TOPIC, codec, engine) == 1
    assert (await opened(engine).ensure([ADA]))[ADA] is not DESTROYED


async def test_a_position_beyond_the_end_is_another_ledgers_so_all_is_replayed(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    await append(log, *(record(codec, RulesActivated(version=1)) for _ in range(9)))
    await replay_destroyed(log, TOPIC, codec, engine)
    other = await ledger()
    await append(other, record(codec, KeyDestroyed(subject=ADA)))
    assert await replay_destroyed(other, TOPIC, codec, engine) == 1
    assert (await positions(engine))[0] == 1
    assert await opened(engine).ensure([ADA]) == {ADA: DESTROYED}


async def test_an_event_counts_by_what_it_is_and_not_by_what_its_headers_say(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    plain = record(codec, KeyDestroyed(subject=ADA))
    for headers in ((), (("ce_type", b"org.referralbus.ledger.KeyDestroyed.v2"),)):
        await append(log, Outgoing(TOPIC, 0, plain.key, plain.value, headers))
    assert await replay_destroyed(log, TOPIC, codec, engine) == 1
    assert await opened(engine).ensure([ADA]) == {ADA: DESTROYED}


@pytest.mark.parametrize("value", [b"", b"\x00\xff\xff\xff\xff", b"garbage"])
async def test_a_destruction_that_can_not_be_read_stops_the_replay_and_says_where(
    engine: AsyncEngine, log: MemoryLog, codec: Codec, value: bytes
) -> None:
    headers = (("ce_type", b"org.referralbus.ledger.KeyDestroyed.v2"),)
    await append(log, record(codec, RulesActivated(version=1)), Outgoing(TOPIC, 0, b"north", value, headers))
    with pytest.raises(UnreadableDestruction, match=f"{TOPIC}/0/1"):
        await replay_destroyed(log, TOPIC, codec, engine)
    assert await positions(engine) == {}


async def test_what_this_version_can_not_read_is_left_for_one_that_can_and_hides_nobody(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    newer = Outgoing(TOPIC, 0, b"north", b"\x00\x00\x00\xff\xffnewer")
    await append(
        log, record(codec, KeyDestroyed(subject=ADA)), newer, record(codec, KeyDestroyed(subject=BEN))
    )
    for _ in range(2):
        await replay_destroyed(log, TOPIC, codec, engine)
        assert await positions(engine) == {0: 1}
    assert await opened(engine).ensure([ADA, BEN]) == {ADA: DESTROYED, BEN: DESTROYED}


async def test_several_processes_that_replay_at_once_do_each_other_no_harm(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    subjects = ["sj-" + "a" * 24 + one + other for one in "abcde" for other in "abcdefghij"]
    await opened(engine).ensure(subjects)
    for number, subject in enumerate(subjects):
        await append(log, record(codec, KeyDestroyed(subject=subject), number % 2))
    await asyncio.gather(*(replay_destroyed(log, TOPIC, codec, engine) for _ in range(5)))
    assert await opened(engine).ensure(subjects) == dict.fromkeys(subjects, DESTROYED)
    assert await positions(engine) == {0: 25, 1: 25}


async def test_the_position_moves_only_with_the_destruction(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    await append(log, record(codec, KeyDestroyed(subject=ADA)))
    async with engine.begin() as connection:
        await connection.execute(text("alter table sealing.subject_keys rename to elsewhere"))
    with pytest.raises(KeyStoreError):
        await replay_destroyed(log, TOPIC, codec, engine)
    async with engine.begin() as connection:
        await connection.execute(text("alter table sealing.elsewhere rename to subject_keys"))
    assert await positions(engine) == {}
    assert await replay_destroyed(log, TOPIC, codec, engine) == 1


async def test_a_database_that_is_away_says_that_trying_again_may_help(log: MemoryLog, codec: Codec) -> None:
    engine = new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(KeyStoreUnavailable):
        await replay_destroyed(log, TOPIC, codec, engine)
    await engine.dispose()


async def test_a_ledger_that_falls_silent_is_not_waited_for_without_end(
    engine: AsyncEngine, log: MemoryLog, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(log, record(codec, KeyDestroyed(subject=ADA)))
    end = MemoryReader.end

    async def then_silent(reader: MemoryReader) -> int:
        found = await end(reader)
        log.away = True
        return found

    monkeypatch.setattr(MemoryReader, "end", then_silent)
    with pytest.raises(LogUnavailable, match="offset 0"):
        await replay_destroyed(log, TOPIC, codec, engine, silence=0.05)
    assert await positions(engine) == {}


async def test_an_open_transaction_is_replayed_once_it_is_settled(
    engine: AsyncEngine, log: MemoryLog, codec: Codec
) -> None:
    transactor = await log.transactor("matching-0")
    log.break_commit("written")
    with pytest.raises(LogUnavailable):
        await transactor.commit([record(codec, KeyDestroyed(subject=BEN))], "matching", {})
    assert await replay_destroyed(log, TOPIC, codec, engine) == 0
    again = await log.transactor("matching-0")
    await again.commit(
        [record(codec, KeyDestroyed(subject=BEN))], "matching", {Partition("refbus.main.inbox", 0): 1}
    )
    assert await replay_destroyed(log, TOPIC, codec, engine) == 1
