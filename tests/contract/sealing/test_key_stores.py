"""What both key stores promise: the same keys for ever, and once they are destroyed, none for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.sealing.keys import CACHED_SECONDS, KeyStore
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.port import (
    DESTROYED,
    SECTIONS,
    Keys,
    KeyStoreError,
    KeyStoreUnavailable,
    Section,
    SubjectKeys,
)
from referral_bus.sealing.secrets import Secrets
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate

ADA, BEN, CAL = ("sj-" + letter * 26 for letter in "abc")
DERIVED = Secrets.derive(bytes(32), "main")
WRAPPING: dict[Section, bytes] = {"facts": DERIVED.facts_key, "identity": DERIVED.identity_key}


class Bus(Protocol):
    """Stores of the same bus, each as if in a process of its own."""

    def process(self, sections: Collection[Section] = SECTIONS) -> Keys: ...

    def later(self, seconds: float) -> None: ...


@dataclass
class MemoryBus:
    table: KeyTable = field(default_factory=KeyTable)

    def process(self, sections: Collection[Section] = SECTIONS) -> Keys:
        return MemoryKeyStore(self.table, sections)

    def later(self, seconds: float) -> None:
        """Nothing in memory ages."""


@dataclass
class PostgresBus:
    engine: AsyncEngine
    now: float = 0.0

    def process(self, sections: Collection[Section] = SECTIONS) -> Keys:
        return KeyStore(self.engine, {section: WRAPPING[section] for section in sections}, lambda: self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds


@asynccontextmanager
async def sealing_schema(url: str) -> AsyncIterator[AsyncEngine]:
    engine = new_engine(url)
    await migrate(engine, "sealing", "referral_bus.sealing.migrations")
    yield engine
    async with engine.begin() as connection:
        await connection.execute(text("truncate sealing.subject_keys, sealing.replayed"))
    await engine.dispose()


@pytest.fixture
async def engine(postgres: str) -> AsyncIterator[AsyncEngine]:
    async with sealing_schema(postgres) as engine:
        yield engine


@pytest.fixture(params=["memory", "postgres"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    async with sealing_schema(request.getfixturevalue("postgres")) as engine:
        yield PostgresBus(engine)


async def made(keys: Keys, subject: str) -> SubjectKeys:
    found = (await keys.ensure([subject]))[subject]
    assert isinstance(found, SubjectKeys)
    return found


async def test_each_subject_has_two_keys_of_its_own(bus: Bus) -> None:
    found = await bus.process().ensure([ADA, BEN])
    keys = [key for pair in found.values() if isinstance(pair, SubjectKeys) for key in pair]
    assert len(set(keys)) == 4
    assert {len(key) for key in keys} == {32}


async def test_a_subject_keeps_its_keys_and_every_process_gets_the_same(bus: Bus) -> None:
    first, other = bus.process(), bus.process()
    keys = await made(first, ADA)
    assert await made(first, ADA) == keys
    assert await made(other, ADA) == keys
    assert await other.fetch([ADA], "facts") == {ADA: keys.facts}
    assert await other.fetch([ADA], "identity") == {ADA: keys.identity}


async def test_known_and_new_subjects_come_from_one_call(bus: Bus) -> None:
    keys = bus.process()
    ada = await made(keys, ADA)
    await keys.destroy([BEN])
    found = await bus.process().ensure([CAL, BEN, ADA, CAL])
    assert set(found) == {ADA, BEN, CAL}
    assert (found[ADA], found[BEN]) == (ada, DESTROYED)
    assert found[CAL] == await made(keys, CAL)


async def test_a_subject_nobody_made_keys_for_is_left_out(bus: Bus) -> None:
    keys = bus.process()
    ada = await made(keys, ADA)
    assert await keys.fetch([ADA, BEN], "facts") == {ADA: ada.facts}


async def test_nothing_asked_is_nothing_answered(bus: Bus) -> None:
    keys = bus.process()
    await keys.destroy([])
    assert (await keys.ensure([]), await keys.fetch([], "facts")) == ({}, {})


async def test_a_destroyed_subject_has_no_key_and_gets_no_other(bus: Bus) -> None:
    keys = bus.process()
    await made(keys, ADA)
    await keys.destroy([ADA])
    for process in (keys, bus.process()):
        assert await process.fetch([ADA], "facts") == {ADA: DESTROYED}
        assert await process.fetch([ADA], "identity") == {ADA: DESTROYED}
        assert await process.ensure([ADA]) == {ADA: DESTROYED}


async def test_the_destruction_of_one_leaves_the_others(bus: Bus) -> None:
    keys = bus.process()
    ben = await made(keys, BEN)
    await made(keys, ADA)
    await keys.destroy([ADA])
    assert await bus.process().ensure([BEN]) == {BEN: ben}


async def test_a_subject_can_be_destroyed_before_it_is_known_and_more_than_once(bus: Bus) -> None:
    keys = bus.process()
    await keys.destroy([ADA, ADA])
    await keys.destroy([ADA])
    assert await keys.ensure([ADA]) == {ADA: DESTROYED}
    assert await keys.fetch([ADA], "facts") == {ADA: DESTROYED}


async def test_destruction_by_another_process_is_noticed_when_the_memory_of_keys_ends(bus: Bus) -> None:
    one, other = bus.process(), bus.process()
    await made(one, ADA)
    await other.destroy([ADA])
    bus.later(CACHED_SECONDS)
    assert await one.fetch([ADA], "facts") == {ADA: DESTROYED}
    assert await one.ensure([ADA]) == {ADA: DESTROYED}


async def test_destruction_by_another_process_is_noticed_at_once_by_who_forgets(bus: Bus) -> None:
    one, other = bus.process(), bus.process()
    await made(one, ADA)
    await other.destroy([ADA])
    one.forget(ADA)
    assert await one.fetch([ADA], "identity") == {ADA: DESTROYED}
    assert await one.ensure([ADA]) == {ADA: DESTROYED}


async def test_forgetting_what_is_not_destroyed_changes_no_key(bus: Bus) -> None:
    keys = bus.process()
    ada = await made(keys, ADA)
    keys.forget(ADA)
    assert await made(keys, ADA) == ada


async def test_processes_that_make_keys_at_once_agree(bus: Bus) -> None:
    subjects = [f"sj-{number:026d}" for number in range(40)]
    processes = [bus.process() for _ in range(6)]
    answers = await asyncio.gather(
        *(
            process.ensure(subjects if turn % 2 else reversed(subjects))
            for turn, process in enumerate(processes)
        )
    )
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) == set(subjects)


async def test_a_subject_destroyed_while_its_keys_are_made_stays_destroyed(bus: Bus) -> None:
    subjects = [f"sj-{number:026d}" for number in range(60)]
    makers, destroyers = [bus.process() for _ in range(4)], [bus.process() for _ in range(2)]
    await asyncio.gather(
        *(maker.ensure(subjects) for maker in makers),
        *(destroyer.destroy(reversed(subjects)) for destroyer in destroyers),
        *(maker.ensure(reversed(subjects)) for maker in makers),
    )
    gone = dict.fromkeys(subjects, DESTROYED)
    assert await bus.process().ensure(subjects) == gone
    assert await bus.process().fetch(subjects, "facts") == gone
    for maker in makers:
        for subject in subjects:
            maker.forget(subject)
        assert await maker.ensure(subjects) == gone


async def test_a_process_with_the_facts_key_alone_fetches_facts_and_nothing_else(bus: Bus) -> None:
    ada = await made(bus.process(), ADA)
    facts_only = bus.process(["facts"])
    assert await facts_only.fetch([ADA], "facts") == {ADA: ada.facts}
    with pytest.raises(KeyStoreError, match="identity"):
        await facts_only.fetch([ADA], "identity")
    with pytest.raises(KeyStoreError, match="identity"):
        await facts_only.ensure([BEN])
    assert await bus.process().fetch([BEN], "facts") == {}


async def test_a_process_with_the_facts_key_alone_can_destroy(bus: Bus) -> None:
    await made(bus.process(), ADA)
    await bus.process(["facts"]).destroy([ADA])
    assert await bus.process().ensure([ADA]) == {ADA: DESTROYED}


async def test_a_store_that_is_away_says_that_trying_again_may_help() -> None:
    memory = MemoryKeyStore()
    memory.away = True
    engine = new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for keys in (memory, KeyStore(engine, WRAPPING)):
        with pytest.raises(KeyStoreUnavailable):
            await keys.ensure([ADA])
        with pytest.raises(KeyStoreUnavailable):
            await keys.fetch([ADA], "facts")
        with pytest.raises(KeyStoreUnavailable):
            await keys.destroy([ADA])
    await engine.dispose()


# Of the database alone: what rests in it, and what happens when it is not as it should be.


async def test_no_key_rests_in_the_clear(engine: AsyncEngine) -> None:
    ada = await made(KeyStore(engine, WRAPPING), ADA)
    async with engine.connect() as connection:
        rows = (
            (await connection.execute(text("select wrapped_key from sealing.subject_keys"))).scalars().all()
        )
    assert len(rows) == 2
    assert not any(key in bytes(row) for key in ada for row in rows)


async def test_destroying_leaves_a_tombstone_and_no_key_and_keeps_the_time_of_the_first(
    engine: AsyncEngine,
) -> None:
    keys = KeyStore(engine, WRAPPING)
    await made(keys, ADA)
    look = text("select section, wrapped_key, destroyed_at from sealing.subject_keys order by section")
    await keys.destroy([ADA])
    async with engine.connect() as connection:
        first = (await connection.execute(look)).all()
    await keys.destroy([ADA])
    async with engine.connect() as connection:
        second = (await connection.execute(look)).all()
    assert [(row.section, row.wrapped_key) for row in first] == [("facts", None), ("identity", None)]
    assert all(row.destroyed_at is not None for row in first)
    assert first == second


async def test_half_a_tombstone_is_a_destroyed_subject(engine: AsyncEngine) -> None:
    insert = "insert into sealing.subject_keys (subject, section, key_version, destroyed_at) values (:subject, 'facts', 1, now())"
    async with engine.begin() as connection:
        await connection.execute(text(insert), {"subject": ADA})
    assert await KeyStore(engine, WRAPPING).ensure([ADA]) == {ADA: DESTROYED}
    assert await KeyStore(engine, WRAPPING).fetch([ADA], "identity") == {ADA: DESTROYED}


async def test_a_destruction_whose_answer_is_lost_is_not_answered_from_memory(engine: AsyncEngine) -> None:
    keys = KeyStore(engine, WRAPPING)
    await made(keys, ADA)
    # The caller hears of a broken connection, and can't know what was done; another one then finishes it.
    async with engine.begin() as connection:
        await connection.execute(
            text("""
            create function sealing.lose() returns trigger language plpgsql as
            $$ begin raise exception using errcode = '08006', message = 'gone'; end $$""")
        )
        await connection.execute(
            text("create trigger lose before update on sealing.subject_keys execute function sealing.lose()")
        )
    try:
        with pytest.raises(KeyStoreUnavailable):
            await keys.destroy([ADA])
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("drop function sealing.lose() cascade"))
    await KeyStore(engine, WRAPPING).destroy([ADA])
    assert await keys.fetch([ADA], "facts") == {ADA: DESTROYED}


async def test_another_master_secret_is_named_as_the_cause(engine: AsyncEngine) -> None:
    await made(KeyStore(engine, WRAPPING), ADA)
    other = Secrets.derive(bytes(31) + b"\x01", "main")
    stranger = KeyStore(engine, {"facts": other.facts_key, "identity": other.identity_key})
    with pytest.raises(KeyStoreError, match="master secret") as refusal:
        await stranger.fetch([ADA], "facts")
    assert ADA not in str(refusal.value)
    assert not isinstance(refusal.value, KeyStoreUnavailable)


async def test_a_missing_schema_is_not_taken_for_an_outage(postgres: str) -> None:
    engine = new_engine(postgres)
    async with engine.begin() as connection:
        await connection.execute(text("drop schema if exists sealing cascade"))
    try:
        with pytest.raises(KeyStoreError, match="schema") as refusal:
            await KeyStore(engine, WRAPPING).ensure([ADA])
        assert not isinstance(refusal.value, KeyStoreUnavailable)
        assert ADA not in str(refusal.value)
    finally:
        await engine.dispose()
