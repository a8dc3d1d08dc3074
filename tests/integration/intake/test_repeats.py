"""The same id and body get the same answer: again, at once, from another process, after a restart, after a kill at the worst moment."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from referral_bus.client import Answer, Conflict, Refused
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.port import LogUnavailable
from referral_bus.wire.envelope import Envelope
from services.intake.repeats import Admissions
from tests.support.admitting import World, referral, until


async def test_a_repeat_is_answered_like_the_first_also_after_a_restart_and_another_body_is_a_conflict(
    world: World,
) -> None:
    async with world.running():
        await world.publish()
        async with world.client("hospital") as bus:
            first = await bus.submit(referral(), id="r-1")
            assert await bus.submit(referral(), id="r-1") == first
    async with world.running(), world.client("hospital") as bus:
        assert await bus.submit(referral(), id="r-1") == first
        with pytest.raises(Conflict) as conflict:
            await bus.submit(referral(urgency="crisis"), id="r-1")
        assert (conflict.value.code, conflict.value.field) == ("id_reused", "Idempotency-Key")
    assert len(await world.said()) == 1


async def test_an_id_used_again_after_the_horizon_does_not_open_the_same_referral_again(
    world: World,
) -> None:
    async with world.running():
        await world.publish()
        async with world.client("hospital") as bus:
            await bus.submit(referral(), id="r-1")
            # As it is pruned once the horizon of repeats is past.
            await world.rows("delete from intake.admissions returning id")
            with pytest.raises(Refused) as refused:
                await bus.submit(referral(subject="somebody else"), id="r-1")
            await bus.submit(referral(subject="somebody else"), id="r-2")
    assert (refused.value.code, refused.value.field) == ("too_old", "Idempotency-Key")
    assert len(await world.said()) == len(await world.rows("select * from intake.referrals")) == 2


async def test_the_same_at_the_same_time_is_answered_alike_by_two_processes(world: World) -> None:
    [port] = free_ports(1)
    other = World(
        kafka=world.kafka,
        database=world.database,
        folder=world.folder,
        log=world.log,
        codec=world.codec,
        bus=world.bus,
        signing=world.signing,
        master=world.master,
        intake_keys=world.intake_keys,
    )
    other.settings = world.settings.model_copy(update={"port": port})
    async with world.running(), other.running():
        await world.publish()
        async with world.client("hospital") as one, other.client("hospital") as two:
            await until(lambda: _takes(two, referral(subject="another")))
            answers = await asyncio.gather(
                *(bus.submit(referral(), id=f"r-{n}") for n in range(10) for bus in (one, two, one))
            )
    alike = Counter((answer.submission, answer.token) for answer in answers)
    assert sorted(alike.values()) == [3] * 10


async def _takes(bus: Any, request: Any) -> bool:
    """Another process hears of what was published a moment later."""
    try:
        return isinstance(await bus.submit(request), Answer)
    except Exception as error:
        assert getattr(error, "code", "") == "unknown_organisation"
        return False


async def test_what_died_between_append_and_place_is_answered_alike_ever_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Admissions.place
    died = False

    async def dies_once(self: Admissions, positions: Any) -> Any:
        nonlocal died
        if not died:
            died = True
            raise LogUnavailable("the process died here")
        return await place(self, positions)

    monkeypatch.setattr(Admissions, "place", dies_once)
    async with world.running():
        await world.publish()
        async with world.client("hospital") as bus:
            first = await bus.submit(referral(), id="r-1")
            again = await bus.submit(referral(), id="r-1")
    assert first == again
    records = [
        Envelope.from_headers(one.headers)
        for one in await world.records(topics.inbox(world.bus))
        if Envelope.from_headers(one.headers).id == "r-1"
    ]
    assert len(records) == 2, "it was appended, and after the death again"
    assert len({(one.source, one.id, one.bodydigest) for one in records}) == 1, "which matching recognises"


@pytest.mark.timeout(300)
async def test_killed_again_and_again_under_load_it_answers_everything_once_and_loses_nothing(
    world: World,
) -> None:
    [operations_port] = free_ports(1)
    submissions = [f"r-{number}" for number in range(120)]
    answers: dict[str, Answer] = {}
    kills = 0

    async with world.client("hospital", patience=120.0) as bus:

        async def submit(part: list[str]) -> None:
            for id in part:
                answers[id] = await bus.submit(referral(subject=id), id=id)

        with world.process(operations_port):
            async with world.http() as http:
                await until(lambda: world.listens(http), 100.0)
            await world.publish()
        load = asyncio.gather(*(submit(submissions[start::10]) for start in range(10)))
        for reached in (25, 60):
            with world.process(operations_port) as running:
                await until(lambda: len(answers) >= reached or load.done(), 100.0)  # noqa: B023
                assert not load.done(), "a kill proves nothing unless something is under way"
                running.send_signal(signal.SIGKILL)
                kills += 1
        with world.process(operations_port) as running:
            await load
            assert [await bus.submit(referral(subject=id), id=id) for id in submissions] == [
                answers[id] for id in submissions
            ]
            running.terminate()
            assert await asyncio.to_thread(running.wait, 20) == 0, "SIGTERM stops it in peace"
    assert kills == 2
    on_the_inbox = {
        Envelope.from_headers(one.headers).id
        for one in await world.records(topics.inbox(world.bus))
        if Envelope.from_headers(one.headers).id.startswith("r-")
    }
    assert on_the_inbox == set(submissions)
    log = (world.folder / "log").read_text()
    assert "Traceback" not in log
    assert "Quentin" not in log
