"""Killed, rebuilt, restarted or shared: the views are what a fresh fold of the ledger gives."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import make_url

from referral_bus.embedded.ports import free_ports
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Log, Outgoing, Partition, Reader
from referral_bus.runtime.health import Health
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.store.port import StoreUnavailable
from services.projections.check import NotCaughtUp, compare
from services.projections.known import Damaged
from services.projections.rebuild import MIGRATIONS, AlreadyRebuilding, NotTheOwner, rebuild
from services.projections.service import build
from services.projections.swap import only_rebuild
from tests.support.commands import write_addresses
from tests.support.served_views import SECONDS, World, until
from tests.support.viewing import PARTIES, Region, Story

_COMMAND_SECONDS = 60.0


def stories(world: World, seed: int) -> list[Story]:
    draw = random.Random(seed)
    return [Story(world.north, draw), Story(world.south, draw)]


async def command(world: World, *arguments: str, home: Path | None = None) -> tuple[int, str, str]:
    """A command of the service as its own process, told where the bus is by the environment, or by a home."""
    code = "import typer, services.projections.commands as c; app = typer.Typer(); "
    code += "app.command('rebuild')(c.rebuild); app.command('check-views')(c.check_views); app()"
    given = (
        {
            "REFBUS_BUS": world.bus,
            "REFBUS_KAFKA": world.settings.kafka,
            "REFBUS_DATABASE_URL": world.settings.database_url.get_secret_value(),
        }
        if home is None
        else {"REFBUS_HOME": str(home)}
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), _COMMAND_SECONDS)
    return process.returncode or 0, out.decode(), errors.decode()


async def test_killed_again_and_again_with_a_backlog_the_views_are_what_a_fresh_fold_gives(
    world: World,
) -> None:
    told = stories(world, 1)
    await world.append([record for story in told for record in story.beginning()])
    backlogs: list[int] = []

    async def reflected() -> int:
        rows = await world.rows("select coalesce(sum(sequence), 0)::int from projections.regions")
        return int(rows[0][0])

    async def one_more() -> Any:
        there = await world.rows("select to_regclass('projections.regions') is not null")
        return there[0][0] and await reflected() > before

    before = 0
    for round_ in range(3):
        await world.append([record for story in told for record in story.steps(400)])
        process = world.process(f"projections-{round_}", free_ports(1)[0])
        await process.start()
        await until(one_more)
        await process.kill()
        before = await reflected()
        backlogs.append(world.north.sequence + world.south.sequence - before)
    assert min(backlogs) > 0, backlogs
    async with world.running():
        found = await world.compared()
    assert found.equal, found.differences
    assert found.rows["events"] > 1000
    assert sum(found.positions.values()) == world.north.sequence + world.south.sequence


async def test_two_processes_share_the_partitions_and_the_views_are_the_ledgers(world: World) -> None:
    told = stories(world, 2)
    await world.append([record for story in told for record in story.beginning()])
    second = world.settings.model_copy(update={"port": free_ports(1)[0]})
    async with world.running():
        async with build(second, Health()) as parts:
            tasks = [asyncio.create_task(part.work) for part in parts]
            for _ in range(5):
                await world.append([record for story in told for record in story.steps(60)])
            await world.reflected()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await world.append([record for story in told for record in story.steps(60)])
        assert (await world.compared()).equal


async def test_a_rebuild_beside_a_running_service_gives_the_same_rows_and_the_service_goes_on(
    world: World,
) -> None:
    told = stories(world, 3)
    await world.append([record for story in told for record in story.beginning()])
    await world.append([record for story in told for record in story.steps(600)])
    async with world.running():
        await world.reflected()
        # What only a rebuild can mend: a row that the ledger never made.
        await world.rows("update projections.units set taken = taken + 1, free = free - 1")
        assert not (await world.compared()).equal
        superseded = claims("superseded")
        progress: list[tuple[int, int]] = []
        writing = asyncio.create_task(keep_writing(world, told))
        positions = await rebuild(
            world.engine, world.log, world.ledger, world.codec, lambda done, of: progress.append((done, of))
        )
        await writing
        assert sum(positions.values()) > 1000 and progress[-1][0] == progress[-1][1]
        await world.append([record for story in told for record in story.steps(50)])
        found = await world.compared()
        assert found.equal, found.differences
        assert claims("superseded") > superseded
        async with world.http("hospital") as http:
            answer = await http.get("/v1/caseload", params={"after": world.after(world.north), "wait": 10})
            assert answer.status_code == 200
    left = await world.rows("select nspname from pg_namespace where nspname like 'projections%'")
    assert [row[0] for row in left] == ["projections"]


def claims(reason: str) -> float:
    """How often partitions were claimed for this reason."""
    return REGISTRY.get_sample_value("refbus_projections_claims_total", {"reason": reason}) or 0.0


async def keep_writing(world: World, told: list[Story]) -> None:
    for _ in range(20):
        await world.append([record for story in told for record in story.steps(10)])


async def test_a_second_rebuild_at_the_same_time_is_refused(world: World) -> None:
    async with world.running(), only_rebuild(world.engine) as alone:
        assert alone
        with pytest.raises(AlreadyRebuilding):
            await rebuild(world.engine, world.log, world.ledger, world.codec)


async def test_a_rebuild_that_fails_leaves_the_views_as_they_were(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.reflected()
    before = await world.rows("select * from projections.units")
    await world.append([Outgoing(world.ledger, 0, b"north", b"\x00\x00\x00\xff\xff")])
    with pytest.raises(Damaged, match="schema id 65535"):
        await rebuild(world.engine, world.log, world.ledger, world.codec)
    assert await world.rows("select * from projections.units") == before


async def test_what_can_not_be_read_stops_the_service_and_is_never_passed_over(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.reflected()
    await world.append([Outgoing(world.ledger, 0, b"north", b"\x00\x00\x00\xff\xff")])
    await world.put(world.north, await world.opened())
    for _ in ("the first time", "and when it is started again"):
        async with build(world.settings, Health()) as parts:
            tasks = {part.name: asyncio.create_task(part.work, name=part.name) for part in parts}
            try:
                async with asyncio.timeout(SECONDS):
                    with pytest.raises(Damaged, match="schema id 65535"):
                        await tasks["views"]
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert await world.rows("select count(*) from projections.referrals") == [(0,)]


async def test_nul_on_the_ledger_is_reflected_checked_and_shown_as_the_replacement_character(
    world: World,
) -> None:
    published, agreed = world.north.published(), world.north.agreed("police", ["outcome"])
    [unit] = published.definition.units
    named = {"name": "Beds\0", "units": [unit.model_copy(update={"name": "\0beds"})]}
    assert agreed.agreement is not None
    basis = agreed.agreement.model_copy(update={"legal_basis": "Section 12\0"})
    async with world.running():
        await world.put(
            world.north,
            *(world.north.adopted(name) for name in PARTIES),
            published.model_copy(update={"definition": published.definition.model_copy(update=named)}),
            agreed.model_copy(update={"agreement": basis}),
        )
        await world.reflected()
        compared = await world.compared()
        assert compared.equal, compared.differences
        await rebuild(world.engine, world.log, world.ledger, world.codec)
        compared = await world.compared()
        assert compared.equal, compared.differences
        async with world.http("hospital") as http:
            board = (await http.get("/v1/capacity")).json()["items"]
            service = (
                await http.get("/v1/reference/service/sv-north-beds", params={"region": "north"})
            ).json()
    assert [(row["service_name"], row["name"]) for row in board] == [("Beds\ufffd", "\ufffdbeds")]
    assert service["content"]["name"] == "Beds\ufffd"
    [(content,)] = await world.rows("select content from projections.agreements")
    assert content["legal_basis"] == "Section 12\ufffd"


async def test_a_check_names_what_differs_without_what_stands_in_it(world: World) -> None:
    async with world.running():
        await world.begin()
        first, second = await world.opened(), await world.opened(number=2)
        offer = world.north.offered(first)
        await world.put(world.north, first, offer, second)
        assert (await world.compared()).equal
        await world.rows(f"update projections.tasks set provider = 'clinic' where task = '{offer.task}'")
        await world.rows(f"delete from projections.referrals where referral = '{second.referral}'")
        await world.rows("insert into projections.erasures values ('north', 'sj-somebody', 1)")
        found = await world.compared()
    assert {(one.table, one.what, *one.columns) for one in found.differences} == {
        ("tasks", "different", "provider"),
        ("referrals", "missing"),
        ("erasures", "not on the ledger"),
    }
    assert {"task": offer.task} in [one.key for one in found.differences]
    assert "somebody" not in str(found.differences)


async def test_a_check_finds_rows_of_a_region_that_nobody_decides_for_and_looks_at_all_partitions(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        await world.put(world.south, *(world.south.adopted(name) for name in PARTIES))
        folded: list[tuple[int, int]] = []
        await world.reflected()
        await world.rows("insert into projections.erasures values ('nowhere', 'sj-somebody', 1)")
        await world.rows("update projections.organisations set name = 'other' where region = 'south'")
        found = await compare(
            world.engine,
            world.log,
            world.ledger,
            world.codec,
            SECONDS,
            lambda done, of: folded.append((done, of)),
        )
    assert Counter((one.table, one.key["region"], one.what) for one in found.differences) == {
        ("erasures", "nowhere", "not on the ledger"): 1,
        ("organisations", "south", "different"): len(PARTIES),
    }
    assert found.rows["organisations"] == 2 * len(PARTIES)
    assert found.positions == {"0": world.north.sequence, "1": world.south.sequence}
    of = world.north.sequence + world.south.sequence
    assert folded == sorted(folded) and folded[-1] == (of, of)


class _Meanwhile:
    """The log, and something that is done before the second partition is read."""

    def __init__(self, log: KafkaLog, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._meanwhile = meanwhile

    async def partitions(self, topic: str) -> int:
        return await self._log.partitions(topic)

    async def reader(self, partition: Partition) -> Reader:
        if partition.number == 1:
            await self._meanwhile()
        return await self._log.reader(partition)


async def test_a_region_that_begins_while_a_check_is_under_way_is_no_difference(world: World) -> None:
    west = Region("west", world.north.partition, world.ledger)

    async def begins() -> None:
        await world.put(west, *(west.adopted(name) for name in PARTIES))

        async def there() -> bool:
            return len(await world.rows("select 1 from projections.organisations where region = 'west'")) > 0

        await until(there)

    async with world.running():
        await world.begin()
        log = cast(Log, _Meanwhile(world.log, begins))
        found = await compare(world.engine, log, world.ledger, world.codec, SECONDS)
        assert found.equal, found.differences
        assert (await world.compared()).rows["organisations"] == 2 * len(PARTIES)


async def test_a_check_says_where_the_views_stand_when_they_do_not_catch_up(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.reflected()
    await world.put(world.north, await world.opened())
    with pytest.raises(NotCaughtUp, match=r"partition 0 at 5 of 6.*Is projections running"):
        await compare(world.engine, world.log, world.ledger, world.codec, 0.1)


async def test_the_views_are_made_anew_by_their_owner_alone(world: World, role: str) -> None:
    database, name = make_url(role).database, make_url(role).username
    other = make_url(world.settings.database_url.get_secret_value()).username
    await world.rows(f'grant create on database "{database}" to {name}')
    await world.begin()
    owner = new_engine(role)
    try:
        await migrate(owner, "projections", MIGRATIONS)
        with pytest.raises(NotTheOwner, match=f"belong to {name}, and this is {other}"):
            await rebuild(world.engine, world.log, world.ledger, world.codec)
        code, _, errors = await command(world, "rebuild")
        assert code == 2 and f"belong to {name}" in errors
        assert await owners(world) == {"projections": name}
        assert await rebuild(owner, world.log, world.ledger, world.codec) == {
            Partition(world.ledger, 0): world.north.sequence,
            Partition(world.ledger, 1): 0,
        }
        assert await owners(world) == {"projections": name}
        # The new ones are a schema of their own at first, which not every role may make.
        await world.rows(f'revoke create on database "{database}" from {name}')
        with pytest.raises(StoreUnavailable, match="may this user create schemas there"):
            await rebuild(owner, world.log, world.ledger, world.codec)
        assert await owners(world) == {"projections": name}
    finally:
        await owner.dispose()


async def owners(world: World) -> dict[str, str]:
    """Whose each schema of views is."""
    rows = await world.rows(
        "select nspname, pg_get_userbyid(nspowner) from pg_namespace where nspname like 'projections%'"
    )
    return {schema: owner for schema, owner in rows}


async def test_the_commands_say_what_they_found_and_exit_by_it(world: World) -> None:
    async with world.running():
        await world.begin()
        code, out, errors = await command(world, "check-views", "--json")
        assert (code, json.loads(out)["equal"]) == (0, True), errors
        await world.rows("update projections.units set name = 'other'")
        code, out, _ = await command(world, "check-views")
        assert code == 3 and 'units {"unit": "un-north-beds"} is different: name' in out
        code, out, errors = await command(world, "rebuild")
        assert code == 0 and "serve now" in out, errors
        code, out, _ = await command(world, "check-views", "--json")
        assert (code, json.loads(out)["different"]) == (0, 0)


async def test_the_commands_find_a_local_bus_by_its_home(world: World) -> None:
    write_addresses(
        world.folder,
        bus=world.bus,
        kafka=world.settings.kafka,
        database=world.settings.database_url.get_secret_value(),
    )
    async with world.running():
        await world.begin()
        code, out, errors = await command(world, "check-views", "--json", home=world.folder)
    assert code == 0 and json.loads(out)["rows"]["organisations"] == 4, errors
