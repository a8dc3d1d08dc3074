"""What reflecting the ledger promises, in PostgreSQL and in memory: each event once, in its region's order, all of a batch or nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.ledger import (
    CapacityDoubted,
    CapacityTrusted,
    Entry,
    OfferAccepted,
    ReferenceAdopted,
    ServicePublished,
)
from referral_bus.contracts.reference import Agreement
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from services.notifier.bell import Bell
from services.notifier.deliveries import Claimed
from services.notifier.fold import Fold, Gap, Located
from services.notifier.hearing import UnheardOf
from tests.support.deciding import DAY, World, decline, offers, service_of
from tests.support.heard import lively_ledger, located, operations
from tests.support.memory_database import Beside
from tests.support.memory_notifier import MemoryFold, NotifierTables
from tests.support.told_tables import SUBSCRIPTIONS, InMemory, InPostgres, Side

NOW = 1_000
LEDGER = lively_ledger(Codec.load())
WAITED_OUT = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""What the hearer takes for a database that is away."""


def told(claimed: Iterable[Claimed]) -> list[tuple[str, int, str, int]]:
    return [(one.subscription, one.notice.number, one.notice.region, one.notice.sequence) for one in claimed]


async def all_told(side: Side) -> list[Claimed]:
    """Everything there is to deliver: claimed for good."""
    claimed: list[Claimed] = await side.deliveries.claim(NOW, 10 * NOW, 10_000, 10_000)
    return claimed


def batches(events: Sequence[Located], seed: int) -> list[list[Located]]:
    draw, cut = random.Random(seed), []
    while events:
        size = draw.choice([1, 2, 5, 30])
        cut.append(list(events[:size]))
        events = events[size:]
    return cut


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_ledger_gives_the_same_rows_and_tells_the_same(engine: AsyncEngine, seed: int) -> None:
    real, double = InPostgres(engine), InMemory(NotifierTables(list(SUBSCRIPTIONS)))
    for batch in batches(LEDGER, seed):
        assert await real.fold().apply(batch, NOW) == await double.fold().apply(batch, NOW) == []
        assert await real.rows() == await double.rows()
    assert await real.deliveries.waiting(NOW + 5) == await double.deliveries.waiting(NOW + 5)
    heard = await all_told(real)
    assert heard == await all_told(double)
    assert {one.subscription for one in heard} == {
        one.subscription for one in SUBSCRIPTIONS if one.subscription != "sb-police-provider"
    }


async def test_an_event_reflected_before_changes_nothing(side: Side) -> None:
    await side.fold().apply(LEDGER, NOW)
    rows, first = await side.rows(), await all_told(side)
    assert first
    for batch in batches(LEDGER, 1):
        assert await side.fold().apply(batch, NOW) == []
    assert await side.rows() == rows
    assert await side.deliveries.claim(20 * NOW, 30 * NOW, 10_000, 10_000) == [
        replace(one, attempts=2) for one in first
    ]


async def test_of_a_batch_that_was_partly_reflected_the_rest_is(side: Side) -> None:
    await side.fold().apply(LEDGER[:20], NOW)
    await side.fold().apply(LEDGER[10:], NOW)
    rows = await side.rows()
    assert rows["regions"] == _ends(LEDGER)
    assert len(rows["notices"]) == len(set(rows["notices"]))


def _ends(events: Iterable[Located]) -> dict[str, tuple[int, int]]:
    return {one.entry.meta.region: (one.entry.meta.sequence + 1, one.offset + 1) for one in events}


async def test_the_same_from_two_at_once_is_reflected_once(side: Side) -> None:
    await asyncio.gather(*(side.fold().apply(LEDGER, NOW) for _ in range(4)))
    heard = told(await all_told(side))
    assert len(heard) == len(set(heard))
    assert [number for name, number, *_ in heard if name == "sb-shelter"] == list(
        range(1, 1 + sum(name == "sb-shelter" for name, *_ in heard))
    )


async def test_a_region_with_a_gap_stays_where_it_is_and_the_others_go_on(side: Side) -> None:
    before, after = LEDGER[:20], LEDGER[20:]
    await side.fold().apply(before, NOW)
    [lacking, *_] = [one for one in after if one.entry.meta.region == "north"]
    [found, *_] = [one for one in after if one.entry.meta.region == "north" and one is not lacking]
    gaps = await side.fold().apply([one for one in after if one is not lacking], NOW)
    assert gaps == [Gap("north", _ends(before)["north"][1], found)]
    assert (await side.rows())["regions"] == {"north": _ends(before)["north"], "south": _ends(after)["south"]}
    assert await side.fold().apply(after, NOW) == []
    assert (await side.rows())["regions"] == _ends(LEDGER)


async def test_a_gap_amid_a_batch_is_told_from_where_the_batch_came_to(side: Side) -> None:
    north = [one for one in LEDGER if one.entry.meta.region == "north"]
    gaps = await side.fold().apply([*north[:5], *north[6:]], NOW)
    assert gaps == [Gap("north", north[4].offset + 1, north[6])]
    assert (await side.rows())["regions"] == _ends(north[:5])


async def test_where_one_event_is_not_known_nothing_of_the_batch_is_reflected(side: Side) -> None:
    await side.fold().apply(LEDGER[:20], NOW)
    rows = await side.rows()
    last = LEDGER[-1]
    unknown: Any = type("OfNobodysMaking", (), {"referral": None})()
    batch = [*LEDGER[20:-1], Located(Entry(last.entry.meta, unknown), 0, last.offset)]
    with pytest.raises(UnheardOf):
        await side.fold().apply(batch, NOW)
    assert await side.rows() == rows
    await side.fold().apply(LEDGER[20:], NOW)
    assert (await side.rows())["regions"] == _ends(LEDGER)


async def test_a_region_that_adopts_an_earlier_version_later_takes_no_role_away(
    side: Side, codec: Codec
) -> None:
    north, south = World(codec, adopted=False), World(codec, adopted=False, region="south")
    for version, roles in ((1, ()), (2, ("operations", "agency"))):
        north.send(operations(version, *roles), "operations")
    south.send(operations(1), "operations")
    entries = [entry for world in (north, south) for entry, _ in world.entries]
    assert [type(entry.event) for entry in entries] == [ReferenceAdopted] * 3
    await side.fold().apply(located(entries), NOW)
    assert (await side.rows())["organisations"] == {"operations": (2, frozenset({"operations", "agency"}))}


async def test_nul_in_what_is_adopted_and_published_holds_up_nobody(side: Side, codec: Codec) -> None:
    world = World(codec)
    agreed = Agreement(
        agreement="mou",
        recipient="shelter",
        data_classes=["facts"],
        purposes=["care_coordination"],
        legal_basis="Section 12\0",
        valid_from=0,
        valid_until=NOW,
    )
    world.send(AdoptReference(kind="agreement", reference="mou", version=1, agreement=agreed), "operations")
    world.publish(offers("cots", "shelter", name="Cots\0"))
    entries = [entry for entry, _ in world.entries]
    assert [type(entry.event) for entry in entries[-2:]] == [ReferenceAdopted, ServicePublished]
    ledger = located(entries)
    assert await side.fold().apply(ledger, NOW) == []
    rows = await side.rows()
    assert (rows["regions"], rows["services"]) == (_ends(ledger), {service_of("cots"): "shelter"})


async def test_who_offers_a_service_hears_that_its_places_are_doubted_and_believed_again(
    side: Side, codec: Codec
) -> None:
    world = World(codec)
    world.publish_in_order("cots", "clinic:attic")
    world.send(decline(world.refer(), reason="no_capacity"), "shelter")
    world.tick(world.now + 2 * DAY)
    entries = [entry for entry, _ in world.entries]
    await side.fold().apply(located(entries), NOW)
    wanted = [
        ("shelter", entry.meta.sequence)
        for entry in entries
        if isinstance(entry.event, CapacityDoubted | CapacityTrusted)
    ]
    assert len(wanted) == 2
    rows = await side.rows()
    about = {sequence for _, sequence in wanted}
    assert [(who, sequence) for who, _, _, sequence in rows["notices"] if sequence in about] == wanted
    assert rows["services"][service_of("cots")] == "shelter"
    assert rows["services"][service_of("attic")] == "clinic"


async def test_a_subscription_to_some_types_is_told_of_no_other(side: Side) -> None:
    await side.fold().apply(LEDGER, NOW)
    heard = [one.notice.type for one in await all_told(side) if one.subscription == "sb-police-accepted"]
    assert set(heard) == {OfferAccepted.event_type()}


async def test_the_bell_rings_for_those_who_hear_something_and_for_nobody_else(side: Side) -> None:
    rung: list[set[str]] = []

    class Heard(Bell):
        def ring(self, organisations: Iterable[str] = ()) -> None:
            rung.append(set(organisations))

    fold = side.fold(Heard())
    for one in LEDGER:
        await fold.apply([one], NOW)
    notices = (await side.rows())["notices"]
    events = sorted({(region, sequence) for _, _, region, sequence in notices})
    wanted = [{who for who, _, *event in notices if tuple(event) == one} for one in events]
    assert sorted(map(sorted, rung)) == sorted(map(sorted, wanted))
    rung.clear()
    await fold.apply(LEDGER, NOW)
    assert rung == []


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_database_that_is_away_is_waited_out(kind: str) -> None:
    database = Beside()
    database.away = True
    fold: Any = MemoryFold(database, NotifierTables([]))
    if kind == "postgres":
        fold = Fold(new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    with pytest.raises(WAITED_OUT):
        await fold.apply(LEDGER[:1], NOW)
