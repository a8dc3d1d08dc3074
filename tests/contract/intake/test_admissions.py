"""What the table of admissions promises, in PostgreSQL and in memory: the first to come stands, and everybody is answered by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from services.intake.outages import OUTAGES
from services.intake.repeats import Admissions, Reservation, Standing
from tests.support.memory_database import Beside
from tests.support.memory_intake import IntakeTables, MemoryAdmissions

Table = Admissions | MemoryAdmissions

ONE, OTHER, THIRD = ("hospital", "n-1"), ("hospital", "n-2"), ("police", "n-1")


@pytest.fixture(params=["memory", "postgres"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[Table]:
    if request.param == "memory":
        yield MemoryAdmissions(Beside(), IntakeTables())
        return
    engine = new_engine(request.getfixturevalue("postgres"))
    await migrate(engine, "intake", "services.intake.migrations")
    yield Admissions(engine)
    async with engine.begin() as connection:
        await connection.execute(text("truncate intake.admissions, intake.referrals"))
    await engine.dispose()


def asked(key: tuple[str, str], digest: bytes = b"a", region: str = "north") -> Reservation:
    """Something that is said of a referral."""
    return Reservation(*key, digest, region, "rf-north-1", None)


def opening(key: tuple[str, str], referral: str = "rf-north-1", subject: str = "sj-1") -> Reservation:
    return Reservation(*key, b"a", "north", referral, subject)


def standing(digest: bytes = b"a", region: str = "north", at: tuple[int, int] | None = None) -> Standing:
    partition, offset = at or (None, None)
    return Standing(digest, region, partition, offset, "rf-north-1")


async def test_what_is_reserved_stands(table: Table) -> None:
    found = await table.reserve([asked(ONE), asked(THIRD, b"c", "south")])
    assert found == {ONE: standing(), THIRD: standing(b"c", "south")}
    assert await table.find([ONE, OTHER, THIRD]) == found


async def test_the_first_stands_whatever_comes_under_its_key_later(table: Table) -> None:
    await table.reserve([asked(ONE)])
    await table.place([(*ONE, 1, 7)])
    other = Reservation(*ONE, b"b", "south", "rf-south-9", None)
    assert await table.reserve([other, asked(OTHER)]) == {ONE: standing(at=(1, 7)), OTHER: standing()}


async def test_a_key_that_comes_twice_at_once_is_a_fault_and_reserves_nothing(table: Table) -> None:
    with pytest.raises((DBAPIError, ValueError)):
        await table.reserve([asked(ONE), asked(ONE, b"b")])
    assert await table.find([ONE]) == {}


async def test_the_first_position_stands(table: Table) -> None:
    await table.reserve([asked(ONE), asked(OTHER)])
    assert await table.place([(*ONE, 1, 7)]) == {ONE: (1, 7)}
    assert await table.place([(*ONE, 1, 9), (*OTHER, 0, 0)]) == {ONE: (1, 7), OTHER: (0, 0)}
    assert await table.find([ONE, OTHER]) == {ONE: standing(at=(1, 7)), OTHER: standing(at=(0, 0))}


async def test_a_position_of_what_nobody_reserved_is_left_out(table: Table) -> None:
    await table.reserve([asked(ONE)])
    assert await table.place([(*OTHER, 1, 7), (*ONE, 1, 8)]) == {ONE: (1, 8)}
    assert await table.find([OTHER]) == {}


async def test_of_many_at_the_same_time_all_are_answered_alike(table: Table) -> None:
    digests = [bytes([number]) for number in range(10)]
    answers = await asyncio.gather(*(table.reserve([asked(ONE, digest)]) for digest in digests))
    assert len({answer[ONE] for answer in answers}) == 1
    places = await asyncio.gather(*(table.place([(*ONE, 0, number)]) for number in range(10)))
    assert len({place[ONE] for place in places}) == 1


async def test_a_referral_that_is_opened_is_somebodys_from_then_on(table: Table) -> None:
    await table.reserve([opening(ONE), asked(OTHER)])
    assert await table.subjects_of(["rf-north-1", "rf-north-2"]) == {"rf-north-1": "sj-1"}
    assert await table.subjects_of([]) == {}


async def test_what_is_said_of_a_referral_says_nothing_of_whose_it_is(table: Table) -> None:
    await table.reserve([asked(ONE)])
    assert await table.subjects_of(["rf-north-1"]) == {}


async def test_the_same_key_again_opens_the_same_referral_and_changes_nothing(table: Table) -> None:
    first = await table.reserve([opening(ONE)])
    assert await table.reserve([opening(ONE, subject="sj-2")]) == first
    assert await table.subjects_of(["rf-north-1"]) == {"rf-north-1": "sj-1"}


async def test_nothing_stands_under_a_new_key_that_would_open_a_referral_that_is_known(table: Table) -> None:
    await table.reserve([opening(ONE)])
    assert await table.reserve([opening(OTHER, subject="sj-2"), asked(THIRD)]) == {THIRD: standing()}
    assert await table.find([OTHER]) == {}
    assert await table.subjects_of(["rf-north-1"]) == {"rf-north-1": "sj-1"}


async def test_two_that_open_one_referral_at_once_both_stand_and_it_is_the_first_ones(table: Table) -> None:
    found = await table.reserve([opening(ONE), opening(OTHER)])
    assert found == {ONE: standing(), OTHER: standing()}
    assert await table.subjects_of(["rf-north-1"]) == {"rf-north-1": "sj-1"}


async def test_what_is_remembered_of_parts_does_not_change_what_was_known(table: Table) -> None:
    await table.reserve([opening(ONE)])
    await table.remember({"rf-north-1": "sj-2", "rf-north-2": "sj-2"})
    await table.remember({"rf-north-2": "sj-3"})
    known = await table.subjects_of(["rf-north-1", "rf-north-2"])
    assert known == {"rf-north-1": "sj-1", "rf-north-2": "sj-2"}


async def test_nothing_asked_is_nothing_answered(table: Table) -> None:
    assert (await table.reserve([]), await table.find([]), await table.place([])) == ({}, {}, {})
    await table.remember({})


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_database_that_is_away_is_waited_out(kind: str) -> None:
    database = Beside()
    database.away = True
    table: Table = MemoryAdmissions(database, IntakeTables())
    if kind == "postgres":
        table = Admissions(new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    for ask in (
        table.reserve([asked(ONE)]),
        table.find([ONE]),
        table.place([(*ONE, 0, 1)]),
        table.subjects_of(["rf-north-1"]),
        table.remember({"rf-north-1": "sj-1"}),
    ):
        with pytest.raises(OUTAGES):
            await ask
