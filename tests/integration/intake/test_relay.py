"""Reference data is published once and put to every region once, in order, whoever relays and however often it starts."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from referral_bus.client import Refused
from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.reference import OfferLimits, Protocol, RegionTable, Rules
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.protocols import OFFICE_HOURS
from tests.support.admitting import OPERATIONS, PARTIES, World, organisation, until

LIMITS = OfferLimits(crisis=1000, urgent=1000, routine=1000)


def protocol(version: int) -> Protocol:
    return Protocol(
        protocol="standard", version=version, offer_limits=LIMITS, maximum_offers=3, parking_ms=1000
    )


async def put_to(world: World) -> dict[str, list[str]]:
    """The submission ids of what each region was put, in order."""
    found: dict[str, list[str]] = {}
    for region, received in await world.inbox():
        assert isinstance(received.body, AdoptReference)
        assert received.admitted.source == OPERATIONS
        found.setdefault(region, []).append(received.admitted.id)
    return found


async def settles(world: World, wanted: dict[str, list[str]]) -> None:
    async def there() -> bool:
        return await put_to(world) == wanted

    await until(there)


PUBLISHED = [f"organisation.{name}.v1" for name in PARTIES]


async def test_every_region_is_put_everything_once_in_order_also_after_a_restart(world: World) -> None:
    wanted = [*PUBLISHED, "protocol.standard.v1", "rules.matching.v1"]
    async with world.running():
        await world.publish(protocol(1), Rules(rules="matching", version=1))
        await settles(world, {"north": wanted, "south": wanted})
    async with world.running():
        async with world.client(OPERATIONS) as bus:
            await bus.publish(protocol(2))
        wanted.append("protocol.standard.v2")
        await settles(world, {"north": wanted, "south": wanted})


async def test_a_region_that_comes_later_is_put_all_that_is_in_force(world: World) -> None:
    async with world.running():
        await world.publish(protocol(1), protocol(2))
        async with world.client(OPERATIONS) as bus:
            partitions = {"north": 0, "south": 1, "west": 1}
            await bus.publish(RegionTable(version=2, partitions=partitions))

        async def there() -> bool:
            return (await put_to(world)).get("west") == [*PUBLISHED, "protocol.standard.v2"]

        await until(there)


async def test_what_a_protocol_names_is_put_to_a_region_before_it_though_a_later_version_was_published_after(
    world: World,
) -> None:
    bound = protocol(1).model_copy(update={"calendar": "office-hours", "escalate_to": "hospital"})
    async with world.running():
        await world.publish(OFFICE_HOURS, bound)
        async with world.client(OPERATIONS) as bus:
            await bus.publish(OFFICE_HOURS.model_copy(update={"version": 2}))
            await bus.publish(organisation("hospital", version=2))
            await bus.publish(RegionTable(version=2, partitions={"north": 0, "south": 1, "west": 1}))

        async def there() -> bool:
            return len((await put_to(world)).get("west", [])) == len(PARTIES) + 2

        await until(there)
        west = (await put_to(world))["west"]
    assert west[-1] == "protocol.standard.v1"
    assert {"calendar.office-hours.v2", "organisation.hospital.v2"} <= set(west)


async def test_a_calendar_is_put_to_a_region_before_the_organisation_that_names_it(world: World) -> None:
    async with world.running():
        await world.publish(OFFICE_HOURS)
        async with world.client(OPERATIONS) as bus:
            by_hours = organisation("hospital", version=2).model_copy(update={"calendar": "office-hours"})
            with pytest.raises(Refused, match="Publish that first"):
                await bus.publish(by_hours.model_copy(update={"calendar": "nowhere"}))
            await bus.publish(by_hours)
            await bus.publish(OFFICE_HOURS.model_copy(update={"version": 2}))
            await bus.publish(RegionTable(version=2, partitions={"north": 0, "south": 1, "west": 1}))

        async def there() -> bool:
            return len((await put_to(world)).get("west", [])) == len(PARTIES) + 1

        await until(there)
        west = (await put_to(world))["west"]
    assert west[0] == "calendar.office-hours.v2"
    assert west[-1] == "organisation.hospital.v2"


async def test_protocols_keep_their_order_whatever_they_name_since_the_last_one_counts(world: World) -> None:
    bound = protocol(1).model_copy(update={"protocol": "bound", "calendar": "office-hours"})
    async with world.running():
        await world.publish(OFFICE_HOURS, bound, protocol(1))
        async with world.client(OPERATIONS) as bus:
            await bus.publish(RegionTable(version=2, partitions={"north": 0, "south": 1, "west": 1}))

        async def there() -> bool:
            return len((await put_to(world)).get("west", [])) == len(PARTIES) + 3

        await until(there)
        west = (await put_to(world))["west"]
    assert west[-2:] == ["protocol.bound.v1", "protocol.standard.v1"]


async def test_a_protocol_that_names_what_is_not_published_is_refused_where_somebody_sees_it(
    world: World,
) -> None:
    async with world.running():
        await world.publish()
        async with world.client(OPERATIONS) as bus:
            for field, name in (("calendar", "office-hours"), ("escalate_to", "nobody")):
                with pytest.raises(Refused, match="Publish that first") as refused:
                    await bus.publish(protocol(1).model_copy(update={field: name}))
                assert (refused.value.code, refused.value.field) == ("invalid", f"content.{field}")


async def test_two_processes_put_nothing_twice_and_either_goes_on_without_the_other(world: World) -> None:
    [port] = free_ports(1)
    async with world.running(port=port):
        async with world.running():
            await world.publish(protocol(1))
            wanted = [*PUBLISHED, "protocol.standard.v1"]
            await settles(world, {"north": wanted, "south": wanted})
        world.settings = world.settings.model_copy(update={"port": port})
        async with world.client(OPERATIONS) as bus:
            await bus.publish(protocol(2))
        wanted.append("protocol.standard.v2")
        await settles(world, {"north": wanted, "south": wanted})


async def test_a_version_counts_once_however_many_publish_it_at_once(world: World) -> None:
    [port] = free_ports(1)
    async with world.running(), world.running(port=port):
        await world.publish()
        token = {"authorization": f"Bearer {world.token(OPERATIONS)}"}
        body = {"kind": "protocol", "content": protocol(1).model_dump()}
        async with httpx.AsyncClient(headers=token, trust_env=False, timeout=30.0) as http:
            answers = await asyncio.gather(
                *(
                    http.post(f"http://127.0.0.1:{number}/v1/reference", json=body)
                    for number in (world.settings.port, port) * 5
                )
            )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    [taken] = [answer.json() for answer in answers if answer.status_code == 201]
    assert taken == {"kind": "protocol", "reference": "standard", "version": 1}


async def test_a_new_organisation_finds_its_topics_made(world: World) -> None:
    async with world.running():
        name = f"clinic-{world.bus}"
        await world.publish(organisation(name))
        counts: list[Any] = [
            await world.log.partitions(topic) for topic in (topics.feed(world.bus, name), topics.outbox(name))
        ]
    assert counts == [1, 1]
