"""The Kafka door: what organisations put on their outboxes is admitted like everything else, and what is refused is heard on the feed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from referral_bus.client import Answer, Feed, Outbox, cloud_event
from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.requests import AcceptRequest
from referral_bus.log import topics
from referral_bus.log.port import LogUnavailable, Outgoing
from referral_bus.sealing.jwe import new_encryption_keys, open_with, seal_to
from services.intake import outboxes
from services.intake.repeats import Admissions
from tests.support.admitting import NAME, REFERENCE, TASK, World, now, organisation, referral, until
from tests.support.commands import in_process, write_addresses


@dataclass
class Agency:
    """An agency that goes through the Kafka door. Outboxes are named without the bus, so each test has an agency of its own."""

    world: World
    name: str

    def event(self, id: str, **changed: Any) -> dict[str, Any]:
        return {**cloud_event(referral(), self.name, id, now()), **changed}

    async def put(self, *events: dict[str, Any]) -> None:
        """As the SDK does it."""
        appender = await self.world.log.appender()
        await Outbox(appender, self.name, self.world.intake_keys.public).put(events)
        await appender.close()

    async def put_bytes(self, *values: bytes | None) -> None:
        appender = await self.world.log.appender()
        await appender.append([Outgoing(topics.outbox(self.name), 0, b"k", value) for value in values])
        await appender.close()

    async def refusals(self, count: int) -> list[AdmissionRefused]:
        """The first so many on the feed."""
        found: list[AdmissionRefused] = []
        async for _, message in Feed(self.world.log, self.world.bus, self.name, self.world.codec).read():
            assert isinstance(message, AdmissionRefused)
            found.append(message)
            if len(found) == count:
                break
        return found

    async def opened(self, *ids: str) -> None:
        """Wait until just these referrals are on the inbox, in this order."""
        wanted = [referral_id("north", self.world.bus, self.name, id) for id in ids]

        async def there() -> bool:
            said = await self.world.said()
            return [body.referral for body in said if isinstance(body, SubmitReferral)] == wanted

        await until(there)


@asynccontextmanager
async def agency_of(world: World) -> AsyncIterator[Agency]:
    """Intake, with one more agency."""
    name = f"clinic-{world.bus}"
    async with world.running():
        await world.publish(organisation(name, roles=["agency"]))
        yield Agency(world, name)


async def test_what_is_sealed_to_intake_is_on_the_inbox_and_a_repeat_is_recognised_through_either_door(
    world: World,
) -> None:
    async with agency_of(world) as agency:
        sent = agency.event("k-1")
        await agency.put(sent, sent)
        await agency.opened("k-1")
        async with world.client(agency.name, ["agency"]) as bus:
            [answer] = await bus.send([sent])
        await agency.put(agency.event("k-2"), sent)
        await agency.opened("k-1", "k-2")
        everything = repr(
            await world.records(topics.inbox(world.bus)) + await world.records(topics.outbox(agency.name))
        )
    assert isinstance(answer, Answer)
    assert answer.referral == referral_id("north", world.bus, agency.name, "k-1")
    assert NAME not in everything and REFERENCE not in everything


async def test_what_is_refused_comes_back_on_the_feed_with_its_reason_and_the_others_go_on(
    world: World,
) -> None:
    async with agency_of(world) as agency:
        first = agency.event("k-1")
        await agency.put(
            first,
            agency.event("k-2", data={"urgency": NAME}),
            agency.event("k-1", data={**first["data"], "urgency": "crisis"}),
            agency.event("k-3", source="/organisations/shelter"),
            cloud_event(AcceptRequest(task=TASK), agency.name, "k-4", now()),
            agency.event("k-5", specversion="0.3"),
            agency.event("k-6", time="2001-01-01T00:00:00Z"),
            agency.event("k-7"),
        )
        refused = await agency.refusals(6)
        await agency.opened("k-1", "k-7")
    assert sorted(
        (one.submission, one.reason, one.status, one.field) for one in refused if one.submission
    ) == [
        ("k-1", "id_reused", 409, "id"),
        ("k-2", "invalid", 422, "data.subject"),
        ("k-3", "not_yourself", 403, "source"),
        ("k-4", "role_missing", 403, "source"),
        ("k-6", "too_old", 422, "time"),
    ]
    [unread] = [one for one in refused if one.submission is None]
    assert (unread.reason, unread.field, unread.outbox_offset) == ("malformed", "specversion", 5)
    assert all(NAME not in one.detail for one in refused)


async def test_what_is_not_sealed_to_intake_is_refused_and_kept_for_operations(world: World) -> None:
    async with agency_of(world) as agency:
        clear = json.dumps(agency.event("k-1")).encode()
        to_another = seal_to(new_encryption_keys().public, clear)
        huge = b"x" * 900_000
        values = [b"not sealed", clear, None, to_another, huge, b""]
        await agency.put_bytes(*values)
        await agency.put(agency.event("k-2"))
        refused = await agency.refusals(len(values))
        await agency.opened("k-2")
        letters = [world.codec.decode(one.value) for one in await world.records(topics.deadletter(world.bus))]
    assert [(one.reason, one.submission, one.outbox_offset) for one in refused] == [
        ("not_sealed", None, offset) for offset in range(len(values))
    ]
    found = {}
    for letter in letters:
        assert isinstance(letter, DeadLetter)
        assert (letter.service, letter.topic) == ("intake", topics.outbox(agency.name))
        content = json.loads(open_with(world.operations_keys.private, letter.sealed))
        found[letter.offset] = None if content["value"] is None else base64.b64decode(content["value"])
        assert NAME.encode() not in letter.sealed
    assert sorted(found) == list(range(len(values)))
    assert [found[offset] for offset in (0, 1, 2, 3, 5)] == [*values[:4], b""]
    assert huge.startswith(found[4] or b"?"), "of what is too long to be kept, the beginning is"


async def test_an_organisation_that_comes_later_has_its_door_without_a_restart(world: World) -> None:
    async with agency_of(world) as agency:
        await agency.put(agency.event("k-1"))
        await agency.opened("k-1")
        late = Agency(world, f"late-{world.bus}")
        async with world.client("operations") as bus:
            await bus.publish(organisation(late.name, roles=["agency"]))
        await late.put_bytes(b"not sealed")
        assert [one.reason for one in await late.refusals(1)] == ["not_sealed"]


async def test_after_a_restart_it_goes_on_where_it_was(world: World) -> None:
    async with agency_of(world) as agency:
        await agency.put_bytes(b"not sealed")
        await agency.put(agency.event("k-1"))
        await agency.opened("k-1")

        async def committed() -> bool:
            return await _committed(world, agency.name) == 2

        await until(committed)
    await agency.put(agency.event("k-2"))
    async with world.running():
        await agency.opened("k-1", "k-2")
        await agency.put_bytes(b"still not sealed")
        refused = await agency.refusals(2)
    assert [one.outbox_offset for one in refused] == [0, 3], "nothing is refused a second time"


async def _committed(world: World, name: str) -> int:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(topics.group(world.bus, "intake"))
        return max((at.offset for tp, at in offsets.items() if tp.topic == topics.outbox(name)), default=0)
    finally:
        await admin.close()


async def test_what_hit_a_fault_of_intake_is_resent_after_the_mending_and_admitted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Admissions.reserve

    async def faulty(self: Admissions, reservations: Any) -> Any:
        if any(one.id == "k-1" for one in reservations):
            raise ZeroDivisionError
        return await sound(self, reservations)

    home = world.folder / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "operations_key").write_text(world.operations_keys.private)
    write_addresses(home, bus=world.bus, kafka=world.kafka, database=world.database)

    async def command(*words: str) -> str:
        return await asyncio.to_thread(in_process, "deadletter", *words, "--home", home)

    monkeypatch.setattr(Admissions, "reserve", faulty)
    async with agency_of(world) as agency:
        await agency.put(agency.event("k-1"), agency.event("k-2"))
        await agency.opened("k-2")
        [told] = await agency.refusals(1)
        assert (told.submission, told.reason) == ("k-1", "internal")
        [letter] = json.loads(await command("list", "--json"))
        assert (letter["reason"], letter["from"]) == ("internal", f"{topics.outbox(agency.name)}/0/0")

        monkeypatch.setattr(Admissions, "reserve", sound)
        assert "1 of 1 were resent." in await command("resend", "--reason", "internal")
        await agency.opened("k-2", "k-1")
        assert "No dead letters." in await command("list")

        # Once more: it is a repeat, and what is sent behind it shows that it was read.
        await command("resend", letter["letter"])
        await agency.put(agency.event("k-3"))
        await agency.opened("k-2", "k-1", "k-3")
        assert len(json.loads(await command("list", "--all", "--json"))) == 1


async def test_while_admission_is_interrupted_nothing_is_refused_and_nothing_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Admissions.reserve
    failures = 0

    async def fails_twice(self: Admissions, reservations: Any) -> Any:
        nonlocal failures
        if reservations[0].id == "k-1" and failures < 2:
            failures += 1
            raise LogUnavailable("away")
        return await reserve(self, reservations)

    monkeypatch.setattr(Admissions, "reserve", fails_twice)
    async with agency_of(world) as agency:
        await agency.put(agency.event("k-1"), agency.event("k-2"))
        await agency.opened("k-1", "k-2")
        await agency.put_bytes(b"not sealed")
        assert [one.reason for one in await agency.refusals(1)] == ["not_sealed"]
    assert failures == 2


async def test_a_refusal_whose_feed_is_gone_is_kept_for_operations_and_the_outbox_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "_TRIES", 1)
    async with agency_of(world) as agency:
        await world.log.delete(topics.feed(world.bus, agency.name))
        await agency.put_bytes(b"not sealed")

        async def kept() -> bool:
            return len(await world.records(topics.deadletter(world.bus))) == 1

        await until(kept)
        await agency.put(agency.event("k-1"))
        await agency.opened("k-1")
        [kept_now] = await world.records(topics.deadletter(world.bus))
    letter = world.codec.decode(kept_now.value)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.topic, letter.offset) == ("untold", topics.outbox(agency.name), 0)


async def test_who_sends_more_than_its_quota_is_served_slower_and_not_refused(world: World) -> None:
    world.settings = world.settings.model_copy(
        update={"quota_per_second": 50.0, "quota_burst": 1, "maximum_batch": 1}
    )
    async with agency_of(world) as agency:
        ids = [f"k-{number}" for number in range(20)]
        await agency.put(*(agency.event(id) for id in ids[:10]))
        await agency.put(*(agency.event(id) for id in ids[10:]))
        await agency.opened(*ids)
