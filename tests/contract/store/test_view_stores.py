"""What both view stores promise: rows and position change together, and only by the latest claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.schema import CreateSchema, DropSchema

from referral_bus.log.port import Partition
from referral_bus.store import tables
from referral_bus.store.engine import new_engine
from referral_bus.store.memory import MemoryViews
from referral_bus.store.port import StoreUnavailable, Superseded
from referral_bus.store.postgres import PostgresViews
from referral_bus.store.rows import Put, Row
from tests.simulation.network import WireViews
from tests.support.fair_weather import wire_to_views

LEDGER = Partition("refbus.main.ledger", 0)
OTHER = Partition("refbus.main.ledger", 1)

metadata = MetaData(schema="store_contract")
positions = tables.positions(metadata)
notes = Table(
    "notes",
    metadata,
    Column("region", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text),
    Column("sealed", LargeBinary),
    Column("open", Boolean),
    Column("at", BigInteger),
    Column("content", JSONB(none_as_null=True)),
    Column("roles", ARRAY(Text)),
)

_OF_AVRO = st.characters(codec="utf-8")
"""What a text on the ledger can hold: whole characters, NUL among them."""

Store = MemoryViews | WireViews | PostgresViews


def note(number: int, text: str, **more: Any) -> Put:
    row = {"region": "north", "number": number, "text": text, "sealed": None, "open": None}
    return Put("notes", {**row, "at": None, "content": None, "roles": None, **more})


@pytest.fixture(params=["memory", "simulated", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param != "postgres":
        views = MemoryViews([notes])
        yield views if request.param == "memory" else wire_to_views(views)
        return
    engine = new_engine(request.getfixturevalue("postgres"))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("store_contract"))
        await connection.run_sync(metadata.create_all)
    yield PostgresViews(engine, positions, [notes])
    async with engine.begin() as connection:
        await connection.execute(DropSchema("store_contract", cascade=True))
    await engine.dispose()


async def texts(store: Store) -> dict[int, str]:
    return {row["number"]: row["text"] for row in await found(store, "region", "north")}


async def found(store: Store, column: str, *values: str) -> list[Row]:
    """What is found, by number."""
    rows = [row for _, row in await store.rows({("notes", column): values})]
    return sorted(rows, key=lambda row: int(row["number"]))


async def test_the_first_claim_starts_at_the_beginning(store: Store) -> None:
    assert await store.claim(LEDGER) == (1, 0)


async def test_each_claim_has_a_higher_epoch_and_continues_where_the_rows_are(store: Store) -> None:
    first = await store.claim(LEDGER)
    await store.apply(LEDGER, first.epoch, 0, 7, [note(1, "a")])
    second = await store.claim(LEDGER)
    assert (second.epoch > first.epoch, second.position) == (True, 7)


async def test_rows_keep_every_kind_of_value(store: Store) -> None:
    claim = await store.claim(LEDGER)
    put = note(
        1,
        'quote " back\\slash 🙂 \n',
        sealed=b"\x00\x01\xff",
        open=True,
        at=2**52,
        content={"a": [1, None, "b"]},
        roles=["agency", "provider"],
    )
    await store.apply(LEDGER, claim.epoch, 0, 1, [put, note(2, "none of it")])
    assert await found(store, "region", "north") == [
        put.row,
        note(2, "none of it").row,
    ]


async def test_nul_which_a_database_has_no_place_for_is_kept_as_the_replacement_character(
    store: Store,
) -> None:
    claim = await store.claim(LEDGER)
    put = note(1, "Beds\0", sealed=b"\0", content={"n\0": [1, {"a": "\0\0", "b": "\\u0000"}]}, roles=["a\0"])
    await store.apply(
        LEDGER, claim.epoch, 0, 1, [put, note(2, "a literal \\u0000"), note(3, "\ud7ff\ue000\U0010ffff")]
    )
    found_now = await found(store, "region", "north")
    assert found_now == [
        note(
            1,
            "Beds\ufffd",
            sealed=b"\0",
            content={"n\ufffd": [1, {"a": "\ufffd\ufffd", "b": "\\u0000"}]},
            roles=["a\ufffd"],
        ).row,
        note(2, "a literal \\u0000").row,
        note(3, "\ud7ff\ue000\U0010ffff").row,
    ]
    assert await found(store, "text", "Beds\ufffd") == found_now[:1]
    assert put.row["text"] == "Beds\0", "what was handed over stays as it was"


@given(
    text=st.text(_OF_AVRO, max_size=40),
    content=st.recursive(
        st.text(_OF_AVRO, max_size=20) | st.none() | st.booleans() | st.integers(-(2**53), 2**53),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(_OF_AVRO, max_size=5), inner, max_size=3)
        ),
    ),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
async def test_any_text_of_a_ledger_is_kept_and_comes_out_of_all_stores_alike(
    store: Store, text: str, content: Any
) -> None:
    claim = await store.claim(LEDGER)
    put = note(1, text, content=content, roles=[text])
    await store.apply(LEDGER, claim.epoch, claim.position, claim.position + 1, [put])
    fresh = MemoryViews([notes])
    fresh_claim = await fresh.claim(LEDGER)
    await fresh.apply(LEDGER, fresh_claim.epoch, 0, 1, [put])
    [row] = await found(store, "region", "north")
    assert row == fresh.table("notes")[0]
    assert row["text"] == text.replace("\0", "\ufffd")


async def test_a_row_is_put_in_place_of_the_one_with_its_key(store: Store) -> None:
    claim = await store.claim(LEDGER)
    await store.apply(LEDGER, claim.epoch, 0, 1, [note(1, "a"), note(2, "b")])
    await store.apply(LEDGER, claim.epoch, 1, 2, [note(1, "c")])
    assert await texts(store) == {1: "c", 2: "b"}


async def test_the_last_change_of_a_key_in_a_batch_wins(store: Store) -> None:
    claim = await store.claim(LEDGER)
    await store.apply(LEDGER, claim.epoch, 0, 3, [note(1, "a"), note(2, "b"), note(1, "c")])
    assert await texts(store) == {1: "c", 2: "b"}


async def test_a_batch_without_changes_moves_the_position(store: Store) -> None:
    claim = await store.claim(LEDGER)
    await store.apply(LEDGER, claim.epoch, 0, 5, [])
    assert (await store.claim(LEDGER)).position == 5


async def test_a_slow_former_owner_changes_nothing(store: Store) -> None:
    former = await store.claim(LEDGER)
    latter = await store.claim(LEDGER)
    with pytest.raises(Superseded):
        await store.apply(LEDGER, former.epoch, 0, 1, [note(1, "from the former")])
    await store.apply(LEDGER, latter.epoch, 0, 1, [note(1, "from the latter")])
    assert await texts(store) == {1: "from the latter"}


async def test_whoever_moves_nothing_learns_whether_the_claim_holds(store: Store) -> None:
    former = await store.claim(LEDGER)
    await store.apply(LEDGER, former.epoch, 0, 3, [])
    await store.apply(LEDGER, former.epoch, 3, 3, [])
    latter = await store.claim(LEDGER)
    with pytest.raises(Superseded):
        await store.apply(LEDGER, former.epoch, 3, 3, [])
    await store.apply(LEDGER, latter.epoch, 3, 3, [])
    assert (await store.claim(LEDGER)).position == 3


@pytest.mark.parametrize("start", [0, 2, 9])
async def test_the_same_records_are_not_applied_again_nor_any_left_out(store: Store, start: int) -> None:
    claim = await store.claim(LEDGER)
    await store.apply(LEDGER, claim.epoch, 0, 3, [note(1, "a")])
    with pytest.raises(Superseded):
        await store.apply(LEDGER, claim.epoch, start, start + 3, [note(1, "b")])
    assert (await texts(store), (await store.claim(LEDGER)).position) == ({1: "a"}, 3)


async def test_partitions_have_their_own_owners_and_positions(store: Store) -> None:
    one, other = await store.claim(LEDGER), await store.claim(OTHER)
    await store.claim(OTHER)
    await store.apply(LEDGER, one.epoch, 0, 4, [])
    with pytest.raises(Superseded):
        await store.apply(OTHER, other.epoch, 0, 4, [])
    assert (await store.claim(OTHER)).position == 0


async def test_an_apply_without_a_claim_is_refused(store: Store) -> None:
    with pytest.raises(Superseded):
        await store.apply(LEDGER, 1, 0, 1, [note(1, "a")])
    assert await texts(store) == {}


async def test_of_claims_at_the_same_time_just_one_is_the_latest(store: Store) -> None:
    claims = await asyncio.gather(*(store.claim(LEDGER) for _ in range(5)))
    results = await asyncio.gather(
        *(store.apply(LEDGER, c.epoch, 0, 1, [note(1, str(c.epoch))]) for c in claims), return_exceptions=True
    )
    assert sorted(c.epoch for c in claims) == [1, 2, 3, 4, 5]
    assert [type(result) for result in results].count(Superseded) == 4
    assert await texts(store) == {1: "5"}


async def test_rows_are_found_by_any_of_the_values(store: Store) -> None:
    claim = await store.claim(LEDGER)
    await store.apply(LEDGER, claim.epoch, 0, 1, [note(1, "a"), note(2, "b"), note(3, "c")])
    assert [row["number"] for row in await found(store, "text", "a", "c", "missing")] == [1, 3]
    assert await found(store, "text") == []
    both = await store.rows({("notes", "text"): ["a"], ("notes", "region"): ["south"]})
    assert [(table, row["number"]) for table, row in both] == [("notes", 1)]
    assert await store.rows({}) == []


async def test_a_store_that_is_away_says_so() -> None:
    away = new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        await PostgresViews(away, positions, [notes]).claim(LEDGER)
    memory = MemoryViews([notes])
    memory.away = True
    with pytest.raises(StoreUnavailable):
        await memory.claim(LEDGER)
