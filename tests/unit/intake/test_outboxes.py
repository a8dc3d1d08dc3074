"""A fault of ours at the Kafka door: the record that hits it is refused and kept for operations, and the others go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from referral_bus.client import cloud_event
from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.runtime.deadletters import DeadLetters, TooManyDeadLetters
from referral_bus.runtime.health import Health
from referral_bus.sealing.jwe import new_encryption_keys, open_with, seal_to
from referral_bus.wire.inbox import received
from services.intake import admission, outboxes
from services.intake.outboxes import Outboxes
from services.intake.quotas import Quotas
from tests.support.admitting import NAME, PARTIES, organisation, referral, until
from tests.support.attributes import faults, in_headers
from tests.unit.intake.test_admission import CODEC, Border

INTAKE, OPERATIONS_KEYS = new_encryption_keys(), new_encryption_keys()
CLINICS = ("clinic-a", "clinic-b")
CURSED = "the one that hits a fault"


class Doors:
    """Two agencies and their outboxes, in memory."""

    def __init__(self, border: Border) -> None:
        self.border = border

    async def put(self, name: str, *submissions: tuple[str, str]) -> None:
        """Ids and subjects of referrals, sealed to intake."""
        appender = await self.border.log.appender()
        now = self.border.clock.now()
        for id, subject in submissions:
            event = cloud_event(referral(subject=subject), name, id, now)
            value = seal_to(INTAKE.public, json.dumps(event).encode())
            await appender.append([Outgoing(topics.outbox(name), 0, b"k", value)])

    async def records(self, topic: str) -> list[Record]:
        reader = await self.border.log.reader(Partition(topic, 0))
        return await reader.read(0)

    async def opened(self) -> set[str]:
        said = [received(record, CODEC)[1].body for record in await self.border.inbox()]
        return {body.referral for body in said if isinstance(body, SubmitReferral)}

    async def refusals(self, name: str) -> list[AdmissionRefused]:
        found = [CODEC.decode(one.value) for one in await self.records(topics.feed("main", name))]
        return [one for one in found if isinstance(one, AdmissionRefused)]

    @asynccontextmanager
    async def read(self, limit: int = 20) -> AsyncIterator[asyncio.Task[None]]:
        """Intake reads the outboxes."""
        border = self.border
        door = Outboxes(
            log=border.log,
            view=border.view,
            admission=border.admission,
            appender=await border.log.appender(),
            dead_letters=DeadLetters("main", "intake", OPERATIONS_KEYS.public, CODEC, border.clock, limit),
            quotas=Quotas(1_000.0, 1_000),
            codec=CODEC,
            clock=border.clock,
            health=Health(),
            bus="main",
            group="intake",
            intake_key=INTAKE.private,
        )
        task = asyncio.create_task(door.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def doors(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Doors]:
    monkeypatch.setattr(outboxes, "_SETTLE_SECONDS", 0.01)
    async with Border() as border:
        await border.open()
        await border.publish(*(organisation(name, roles=["agency"]) for name in CLINICS))
        await border.log.ensure(topics.of_organisations("main", 1, [*PARTIES, *CLINICS]))
        yield Doors(border)


def breaks(monkeypatch: pytest.MonkeyPatch, at: Callable[[Any], bool]) -> None:
    """A bug of ours in admission."""
    right = admission.body_digest

    def wrong(key: bytes, kind: str, request: Any) -> bytes:
        if at(request):
            raise ZeroDivisionError(NAME)
        return right(key, kind, request)

    monkeypatch.setattr(admission, "body_digest", wrong)


async def test_a_record_that_hits_a_fault_of_ours_is_refused_and_kept_and_all_others_go_on(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, lambda request: request.subject == CURSED)
    await doors.put("clinic-a", ("k-1", "one"), ("k-2", CURSED), ("k-3", "three"))
    await doors.put("clinic-b", ("k-4", "four"))
    wanted = {("clinic-a", "k-1"), ("clinic-a", "k-3"), ("clinic-b", "k-4")}

    async def opened(*more: tuple[str, str]) -> bool:
        names = {referral_id("north", "main", name, id) for name, id in (*wanted, *more)}
        return await doors.opened() == names

    async with doors.read() as running:
        await until(opened)
        await doors.put("clinic-a", ("k-5", "five"))
        await until(lambda: opened(("clinic-a", "k-5")))
        assert not running.done()
    [refused] = await doors.refusals("clinic-a")
    assert (refused.reason, refused.status, refused.submission, refused.outbox_offset) == (
        "internal",
        500,
        "k-2",
        1,
    )
    assert await doors.refusals("clinic-b") == []
    [told] = await doors.records(topics.feed("main", "clinic-a"))
    assert faults(in_headers(told.headers)) == []
    [kept] = await doors.records(topics.deadletter("main"))
    letter = CODEC.decode(kept.value)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.topic, letter.offset) == ("internal", topics.outbox("clinic-a"), 1)
    content = json.loads(open_with(OPERATIONS_KEYS.private, letter.sealed))
    assert content["value"] is not None
    assert NAME not in refused.detail


async def test_a_record_that_can_not_even_be_read_for_a_fault_of_ours_is_refused_too(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = outboxes.presented

    def wrong(event: Any, *more: Any) -> Any:
        if event.attributes["id"] == "k-1":
            raise KeyError(NAME)
        return right(event, *more)

    monkeypatch.setattr(outboxes, "presented", wrong)
    await doors.put("clinic-a", ("k-1", "one"), ("k-2", "two"))
    async with doors.read():

        async def opened() -> bool:
            return await doors.opened() == {referral_id("north", "main", "clinic-a", "k-2")}

        await until(opened)
    [refused] = await doors.refusals("clinic-a")
    assert (refused.reason, refused.submission, refused.outbox_offset) == ("internal", None, 0)


async def test_a_bad_deploy_stops_rather_than_drains_the_outboxes_into_the_dead_letters(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, lambda _: True)
    monkeypatch.setattr(outboxes, "_LIMIT", 2)
    await doors.put("clinic-a", *((f"k-{number}", f"{number}") for number in range(20)))
    async with doors.read(limit=3) as running:
        with pytest.raises(TooManyDeadLetters, match="4 records in a row"):
            async with asyncio.timeout(30):
                await running
    assert len(await doors.records(topics.deadletter("main"))) == 4
    assert len(await doors.refusals("clinic-a")) == 4, "whoever is among the dead letters has heard of it"


async def test_faults_that_are_not_in_a_row_stop_nothing(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, lambda request: request.subject == CURSED)
    monkeypatch.setattr(outboxes, "_LIMIT", 1)
    subjects = [CURSED, "good"] * 4
    await doors.put("clinic-a", *((f"k-{number}", subject) for number, subject in enumerate(subjects)))
    async with doors.read(limit=2) as running:

        async def done() -> bool:
            return len(await doors.opened()) == 4

        await until(done)
        assert not running.done()
    assert len(await doors.refusals("clinic-a")) == 4
