"""The guard around the ledger's stream: what fails is tried again, what can't be read stops it, what is missing is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from referral_bus.contracts.ledger import GENESIS_HASH, Entry, Event, KeyDestroyed, Meta, RulesActivated
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Record, TopicSpec
from referral_bus.runtime.health import Health
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.wire.codec import Codec
from services.notifier import hearer
from services.notifier.fold import Gap, Located
from services.notifier.hearer import Hearer, LedgerUnreadable
from tests.support.clocks import ManualClock

SUBJECT = "sj-" + "a" * 26
CODEC = Codec.load()


class ScriptedFold:
    """Keeps positions in memory, and raises what it is told to first."""

    def __init__(self, health: Health, *failures: Exception) -> None:
        self.health = health
        self.failures = list(failures)
        self.applied: list[tuple[str, int]] = []
        self.unready: list[dict[str, str]] = []
        self.offsets: dict[str, int] = {}

    async def apply(self, batch: Sequence[Located], now: int) -> list[Gap]:
        if self.failures:
            raise self.failures.pop(0)
        self.unready.append(self.health.problems())
        gaps: dict[str, Gap] = {}
        for located in batch:
            meta = located.entry.meta
            following = 1 + sum(region == meta.region for region, _ in self.applied)
            if meta.region in gaps or meta.sequence < following:
                continue
            if meta.sequence > following:
                gaps[meta.region] = Gap(meta.region, self.offsets.get(meta.region, 0), located)
                continue
            self.applied.append((meta.region, meta.sequence))
            self.offsets[meta.region] = located.offset + 1
        return list(gaps.values())


class Keyring:
    """Raises what it is told to first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.destroyed: list[str] = []

    async def destroy(self, subjects: Iterable[str]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.destroyed += subjects


def value(region: str, sequence: int, event: Event | None = None) -> bytes:
    meta = Meta(
        region=region,
        sequence=sequence,
        prev_hash=GENESIS_HASH,
        decided_through=0,
        now=1,
        rules=1,
        submission=None,
    )
    return CODEC.encode_entry(Entry(meta, event or RulesActivated(version=1)))


def record(offset: int, data: bytes | None) -> Record:
    return Record("ledger", 0, offset, 1, b"north", data)


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearer, "_FIRST_PAUSE", 0.001)


def made(health: Health, fold: ScriptedFold, log: Any = None, keys: Any = None) -> Hearer:
    return Hearer(
        log=log,
        fold=fold,  # type: ignore[arg-type]
        codec=CODEC,
        keys=keys or Keyring(),
        clock=ManualClock(1),
        health=health,
    )


async def test_a_database_that_fails_is_tried_until_the_events_are_stored(health: Health) -> None:
    away = OperationalError("select", {}, Exception("gone"))
    fold = ScriptedFold(health, away, OSError("gone"), away)
    await made(health, fold).handle([record(0, value("north", 1))])
    assert fold.applied == [("north", 1)]
    assert fold.unready == [{"store": "the database does not answer"}]
    assert health.problems() == {}


async def test_a_batch_that_is_stored_does_not_say_that_the_ledger_is_caught_up_with(health: Health) -> None:
    health.starting(hearer.PART, "is behind")
    await made(health, ScriptedFold(health)).handle([record(0, value("north", 1))])
    assert health.problems() == {hearer.PART: "is behind"}


async def test_a_fault_of_our_own_is_not_tried_for_ever(health: Health) -> None:
    fold = ScriptedFold(health, ProgrammingError("select", {}, Exception("no such table")))
    with pytest.raises(ProgrammingError):
        await made(health, fold).handle([record(0, value("north", 1))])


@pytest.mark.parametrize("data", [None, b"", b"\x00\x00\x00\xff\xffx", b"{}"])
async def test_what_stands_before_an_unreadable_event_is_stored_and_nothing_behind_it(
    health: Health, data: bytes | None
) -> None:
    fold = ScriptedFold(health)
    with pytest.raises(LedgerUnreadable, match="ledger/0/1"):
        await made(health, fold).handle(
            [record(0, value("north", 1)), record(1, data), record(2, value("north", 2))]
        )
    assert fold.applied == [("north", 1)]


async def test_events_the_stream_lost_are_read_from_the_ledger(health: Health) -> None:
    log = MemoryLog()
    await log.ensure([TopicSpec("ledger", 1)])
    appender = await log.appender()
    stored = [value("north", 1), value("south", 1), value("north", 2), value("north", 3), value("north", 4)]
    await appender.append([Outgoing("ledger", 0, b"x", one) for one in stored])
    fold = ScriptedFold(health)
    await made(health, fold, log).handle([record(offset, stored[offset]) for offset in (0, 1, 3, 4)])
    assert fold.applied == [("north", 1), ("south", 1), ("north", 2), ("north", 3), ("north", 4)]


async def stored(*values: bytes) -> MemoryLog:
    """A ledger that holds these."""
    log = MemoryLog()
    await log.ensure([TopicSpec("ledger", 1)])
    await (await log.appender()).append([Outgoing("ledger", 0, b"x", one) for one in values])
    return log


async def test_events_the_stream_lost_more_than_once_in_a_batch_are_all_read_from_the_ledger(
    health: Health,
) -> None:
    values = [value(region, sequence) for sequence in range(1, 10) for region in ("north", "south")]
    fold = ScriptedFold(health)
    came = [record(offset, values[offset]) for offset in (0, 1, 4, 5, 6, 10, 11, 14, 17)]
    await made(health, fold, await stored(*values)).handle(came)
    assert [sequence for region, sequence in fold.applied if region == "north"] == list(range(1, 9))
    assert [sequence for region, sequence in fold.applied if region == "south"] == list(range(1, 10))


async def test_a_second_loss_that_is_not_on_the_ledger_stops_it(health: Health) -> None:
    values = [value("north", sequence) for sequence in (1, 2, 3, 5)]
    fold = ScriptedFold(health)
    with pytest.raises(LedgerUnreadable, match="refbus verify"):
        await made(health, fold, await stored(*values)).handle([record(n, values[n]) for n in (0, 2, 3)])
    assert [sequence for _, sequence in fold.applied] == [1, 2, 3]


async def test_what_the_ledger_does_not_give_though_it_came_stops_it(health: Health) -> None:
    """The region gets no further by reading it again."""
    log = await stored(value("south", 1), value("south", 2), value("south", 3))
    with pytest.raises(LedgerUnreadable, match="refbus verify"):
        await made(health, ScriptedFold(health), log).handle([record(2, value("north", 2))])


async def test_events_that_are_not_on_the_ledger_stop_it(health: Health) -> None:
    log = MemoryLog()
    await log.ensure([TopicSpec("ledger", 1)])
    appender = await log.appender()
    stored = [value("north", 1), value("north", 3)]
    await appender.append([Outgoing("ledger", 0, b"x", one) for one in stored])
    with pytest.raises(LedgerUnreadable, match="refbus verify"):
        await made(health, ScriptedFold(health), log).handle([record(1, stored[1])])


async def test_a_key_that_the_ledger_says_is_destroyed_is_so_however_long_the_database_takes(
    health: Health,
) -> None:
    away = KeyStoreUnavailable("the key store is away")
    keys = Keyring(away, away)
    await made(health, ScriptedFold(health), keys=keys).handle(
        [record(0, value("north", 1, KeyDestroyed(subject=SUBJECT)))]
    )
    assert keys.destroyed == [SUBJECT]


async def test_a_key_is_destroyed_also_where_the_stream_lost_the_event_that_says_so(health: Health) -> None:
    log, keys = MemoryLog(), Keyring()
    await log.ensure([TopicSpec("ledger", 1)])
    said = [
        value("north", 1),
        value("north", 2, KeyDestroyed(subject=SUBJECT)),
        value("north", 3),
    ]
    await (await log.appender()).append([Outgoing("ledger", 0, b"north", one) for one in said])
    hears = made(health, ScriptedFold(health), log, keys)
    await hears.handle([record(0, said[0])])
    await hears.handle([record(2, said[2])])
    assert keys.destroyed == [SUBJECT]
