"""The Kafka door when something fails: what hits a fault of ours is refused and kept for operations, an outbox that can't go on holds up
no other, and whoever loses an outbox leaves it as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from referral_bus.client import cloud_event
from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.log import topics
from referral_bus.log.memory import MemoryAppender, MemoryLog, MemoryMember
from referral_bus.log.port import LogError, LogUnavailable, Outgoing, Partition, Position, Record
from referral_bus.runtime import joining
from referral_bus.runtime.deadletters import DeadLetters, TooManyDeadLetters
from referral_bus.runtime.health import Health
from referral_bus.sealing.jwe import new_encryption_keys, open_with, seal_to
from referral_bus.wire.inbox import received
from services.intake import admission, outboxes
from services.intake.outboxes import Outboxes
from services.intake.quotas import Quotas
from tests.support.admitting import NAME, PARTIES, organisation, referral, until
from tests.support.attributes import faults, in_headers
from tests.support.deaf import deafen_the_first
from tests.unit.intake.test_admission import CODEC, Border

INTAKE, OPERATIONS_KEYS = new_encryption_keys(), new_encryption_keys()
CLINICS = ("clinic-a", "clinic-b")
CURSED = "the one that hits a fault"


class Doors:
    """Two agencies and their outboxes, in memory."""

    def __init__(self, border: Border) -> None:
        self.border = border
        self.health = Health()
        self.health.ready("api")

    def is_well(self) -> bool:
        return not self.health.hindrances()

    def is_out(self) -> bool:
        """Whether it is told that it is out of the group, and intake is ready all the same."""
        assert self.health.problems() == {}
        return self.health.hindrances() == {"outboxes": "waits for its share of the outboxes"}

    async def put(self, name: str, *submissions: tuple[str, str]) -> None:
        """Ids and subjects of referrals, sealed to intake."""
        appender = await self.border.log.appender()
        now = self.border.clock.now()
        for id, subject in submissions:
            event = cloud_event(referral(subject=subject), name, id, now)
            value = seal_to(INTAKE.public, json.dumps(event).encode())
            await appender.append([Outgoing(topics.outbox(name), 0, b"k", value)])

    async def put_unsealed(self, name: str) -> None:
        appender = await self.border.log.appender()
        await appender.append([Outgoing(topics.outbox(name), 0, b"k", b"not sealed")])

    def handled(self, name: str) -> int:
        """Up to where an outbox is."""
        return self.border.log.committed("intake").get(Partition(topics.outbox(name), 0), 0)

    async def letters(self) -> list[tuple[str, str, int]]:
        """The dead letters: why, and whence."""
        found = [CODEC.decode(one.value) for one in await self.records(topics.deadletter("main"))]
        return [(one.reason, one.topic, one.offset) for one in found if isinstance(one, DeadLetter)]

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
    async def read(self, limit: int = 20, quotas: Quotas | None = None) -> AsyncIterator[asyncio.Task[None]]:
        """Intake reads the outboxes."""
        border = self.border
        door = Outboxes(
            log=border.log,
            view=border.view,
            admission=border.admission,
            appender=await border.log.appender(),
            dead_letters=DeadLetters("main", "intake", OPERATIONS_KEYS.public, CODEC, border.clock, limit),
            quotas=quotas or Quotas(1_000.0, 1_000),
            codec=CODEC,
            clock=border.clock,
            health=self.health,
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
    monkeypatch.setattr(outboxes, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(outboxes, "_FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(outboxes, "_LOOK_SECONDS", 0.05)
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


def shut(monkeypatch: pytest.MonkeyPatch, at: Partition, error: type[LogError]) -> None:
    """Nothing can be put there, nor what is put together with it."""
    right = MemoryAppender.append

    async def append(self: MemoryAppender, records: Sequence[Outgoing]) -> list[Position]:
        if any((one.topic, one.partition) == at for one in records):
            raise error("it is shut")
        return await right(self, records)

    monkeypatch.setattr(MemoryAppender, "append", append)


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


async def test_a_text_with_nul_is_refused_on_the_feed_and_the_outbox_goes_on(doors: Doors) -> None:
    await doors.put("clinic-a", ("k-1", "one\0"), ("k-2", "two"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-a") == 2)
    assert await doors.opened() == {referral_id("north", "main", "clinic-a", "k-2")}
    [refused] = await doors.refusals("clinic-a")
    told = (refused.submission, refused.status, refused.reason, refused.field)
    assert told == ("k-1", 422, "invalid", "data.subject")


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"": "x"},
        {":x": "y"},
        {"specversion": "0.3", "": ""},
        {"data": {"": 1}},
        {"data": {"\ud800": 1}},
        {"data": {"a\x00b": 1}},
        {"data": {"x" * 3_000: 1}},
        {"id": "\ud800"},
        {"type": ""},
    ],
    ids=lambda wrong: ascii(wrong)[:40],
)
async def test_whatever_names_somebody_makes_up_what_is_wrong_is_told_and_is_no_fault_of_ours(
    doors: Doors, wrong: dict[str, Any]
) -> None:
    appender = await doors.border.log.appender()
    event = {**cloud_event(referral(), "clinic-a", "k-1", doors.border.clock.now()), **wrong}
    value = seal_to(INTAKE.public, json.dumps(event).encode())
    await appender.append([Outgoing(topics.outbox("clinic-a"), 0, b"k", value)])
    async with doors.read(limit=1) as running:
        await until(lambda: doors.handled("clinic-a") == 1)
        assert not running.done()
    [refused] = await doors.refusals("clinic-a")
    assert refused.status < 500 and refused.field
    assert await doors.letters() == []


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


async def test_a_feed_that_does_not_answer_holds_up_only_its_own_outbox_until_it_does(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await doors.put_unsealed("clinic-a")
    async with doors.read():
        with monkeypatch.context() as patched:
            shut(patched, Partition(topics.feed("main", "clinic-a"), 0), LogUnavailable)
            for number in range(10):
                await doors.put("clinic-b", (f"k-{number}", f"{number}"))
                await until(lambda handled=number + 1: doors.handled("clinic-b") == handled)
            assert doors.handled("clinic-a") == 0
            assert await doors.letters() == [], "an outage is waited out"
        await until(lambda: doors.handled("clinic-a") == 1)
    assert [one.reason for one in await doors.refusals("clinic-a")] == ["not_sealed"]
    assert await doors.letters() == [("not_sealed", topics.outbox("clinic-a"), 0)]


async def test_a_region_whose_inbox_does_not_answer_holds_up_only_the_outboxes_that_have_something_for_it(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await doors.border.publish(organisation("clinic-a", version=2, region="south", roles=["agency"]))
    south, north = (
        referral_id(region, "main", name, "k-1")
        for region, name in (("south", "clinic-a"), ("north", "clinic-b"))
    )
    partition = doors.border.view.reference.partition_of("south")
    assert partition is not None
    with monkeypatch.context() as patched:
        shut(patched, Partition(topics.inbox("main"), partition), LogUnavailable)
        await doors.put("clinic-a", ("k-1", "one"))
        async with doors.read():
            await asyncio.sleep(0.2)
            await doors.put("clinic-b", ("k-1", "one"))
            await until(lambda: doors.handled("clinic-b") == 1)
            assert await doors.opened() == {north}
            patched.undo()
            await until(lambda: doors.handled("clinic-a") == 1)
    assert await doors.opened() == {north, south}
    assert await doors.refusals("clinic-a") == []


async def test_a_refusal_that_the_log_will_not_take_is_kept_for_operations_and_the_outbox_goes_on(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shut(monkeypatch, Partition(topics.feed("main", "clinic-a"), 0), LogError)
    await doors.put_unsealed("clinic-a")
    await doors.put("clinic-a", ("k-1", "one"))
    async with doors.read() as running:
        await until(lambda: doors.handled("clinic-a") == 2)
        assert not running.done()
    assert await doors.opened() == {referral_id("north", "main", "clinic-a", "k-1")}
    assert await doors.letters() == [("untold", topics.outbox("clinic-a"), 0)]
    assert f"{topics.outbox('clinic-a')}/0/0 was refused as not_sealed" in caplog.text


async def test_faults_of_ours_still_stop_intake_where_their_refusals_can_not_be_told(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, lambda _: True)
    shut(monkeypatch, Partition(topics.feed("main", "clinic-a"), 0), LogError)
    await doors.put("clinic-a", ("k-1", "one"), ("k-2", "two"))
    async with doors.read(limit=2) as running:
        with pytest.raises(TooManyDeadLetters):
            async with asyncio.timeout(30):
                await running
    assert [reason for reason, _, _ in await doors.letters()] == ["untold", "untold"]


async def test_a_dead_letter_that_the_log_will_not_take_is_not_passed_over_and_holds_up_no_other_outbox(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await doors.put_unsealed("clinic-a")
    async with doors.read() as running:
        with monkeypatch.context() as patched:
            shut(patched, Partition(topics.deadletter("main"), 0), LogError)
            await doors.put("clinic-b", ("k-1", "one"))
            await until(lambda: doors.handled("clinic-b") == 1)
            await asyncio.sleep(0.5)
            assert doors.handled("clinic-a") == 0
            assert not running.done()
        await until(lambda: doors.handled("clinic-a") == 1)
    assert await doors.letters() == [("not_sealed", topics.outbox("clinic-a"), 0)]
    assert len(await doors.refusals("clinic-a")) == 1


async def test_a_dead_letter_counts_once_the_log_has_it_however_often_its_outbox_changes_hands_before(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("refbus_dead_letters_total", {"reason": "internal"}) or 0.0

    breaks(monkeypatch, lambda _: True)
    before = counted()
    await doors.put("clinic-a", ("k-1", "one"))
    async with doors.read(limit=2) as running:
        with monkeypatch.context() as patched:
            shut(patched, Partition(topics.deadletter("main"), 0), LogUnavailable)
            for times in range(1, 5):

                async def refused(times: int = times) -> bool:
                    return len(await doors.refusals("clinic-a")) == times

                await until(refused)
                assert counted() == before
                await doors.border.log.rebalance("intake")
        await until(lambda: doors.handled("clinic-a") == 1)
        assert not running.done(), "it is one record"
    assert (counted(), len(await doors.letters())) == (before + 1, 1)


async def test_an_outbox_over_its_quota_rests_alone(doors: Doors) -> None:
    async with doors.read(quotas=Quotas(0.01, 1)):
        await doors.put("clinic-a", ("k-1", "one"), ("k-2", "two"))
        await until(lambda: doors.handled("clinic-a") == 2)
        await doors.put("clinic-a", ("k-3", "three"))
        await doors.put("clinic-b", ("k-1", "one"))
        await until(lambda: doors.handled("clinic-b") == 1)
        assert doors.handled("clinic-a") == 2


async def test_what_is_under_way_when_its_outbox_is_taken_away_is_not_committed_by_who_lost_it(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, given_up = 0, 0
    go_on = asyncio.Event()
    right = outboxes.Outboxes._outbox

    async def held(self: Outboxes, records: Sequence[Record]) -> None:
        nonlocal began, given_up
        began += 1
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            given_up += 1
            raise
        await right(self, records)

    monkeypatch.setattr(outboxes.Outboxes, "_outbox", held)
    await doors.put("clinic-a", ("k-1", "one"))
    async with doors.read():
        await until(lambda: began == 1)
        await doors.border.log.rebalance("intake")
        await until(lambda: began == 2)
        assert (given_up, doors.handled("clinic-a")) == (1, 0)
        go_on.set()
        await until(lambda: doors.handled("clinic-a") == 1)
    assert len(await doors.border.inbox()) == 1


async def test_what_was_fetched_before_an_outbox_was_assigned_anew_moves_no_offset(doors: Doors) -> None:
    log, at = doors.border.log, Partition(topics.outbox("clinic-a"), 0)
    await doors.put("clinic-a", ("k-0", "zero"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-a") == 1)
        await log.rebalance("intake")
        await doors.put("clinic-a", ("k-1", "one"), ("k-2", "two"))
        [member] = log._groups["intake"].members
        log.redeliver(member, at, 2, 3)
        await until(lambda: doors.handled("clinic-a") == 3)
    assert await doors.opened() == {
        referral_id("north", "main", "clinic-a", f"k-{number}") for number in range(3)
    }


async def test_an_outbox_that_was_not_read_for_too_long_goes_on_from_what_is_kept(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    await doors.put("clinic-a", *((f"k-{number}", "one") for number in range(3)))
    await doors.put("clinic-b", ("k-0", "two"))
    doors.border.log.expire(Partition(topics.outbox("clinic-a"), 0), 2)
    async with doors.read():
        await until(lambda: (doors.handled("clinic-a"), doors.handled("clinic-b")) == (3, 1))
    assert await doors.opened() == {
        referral_id("north", "main", *told) for told in (("clinic-a", "k-2"), ("clinic-b", "k-0"))
    }
    assert "agency.clinic-a.outbox was handled up to 0 and keeps 2 to 3" in caplog.text


async def test_an_outbox_that_ends_before_what_was_handled_waits_alone_for_a_while_and_then_begins_anew(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outboxes, "_BEHIND_SECONDS", 0.5)
    doors.border.log.store("intake", {Partition(topics.outbox("clinic-a"), 0): 2})
    await doors.put("clinic-a", ("k-0", "zero"))
    await doors.put("clinic-b", ("k-0", "other"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-b") == 1)
        assert doors.handled("clinic-a") == 2
        await until(lambda: doors.handled("clinic-a") == 1)
    assert "agency.clinic-a.outbox was handled up to 2 and keeps 0 to 1" in caplog.text
    assert referral_id("north", "main", "clinic-a", "k-0") in await doors.opened()


async def test_an_outbox_that_has_its_end_again_in_time_goes_on_where_it_was(doors: Doors) -> None:
    at = Partition(topics.outbox("clinic-a"), 0)
    doors.border.log.store("intake", {at: 2})
    await doors.put("clinic-a", ("k-0", "zero"))
    await doors.put("clinic-b", ("k-0", "other"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-b") == 1)
        await doors.put("clinic-a", ("k-1", "one"), ("k-2", "two"))
        await until(lambda: doors.handled("clinic-a") == 3)
    assert referral_id("north", "main", "clinic-a", "k-0") not in await doors.opened()


@pytest.mark.parametrize("call", ["committed", "kept", "commit"])
async def test_a_member_that_is_left_without_answers_for_too_long_makes_room_for_a_new_one(
    doors: Doors, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "UNANSWERED_SECONDS", 0.2)
    deaf = deafen_the_first(monkeypatch, call)
    for name in CLINICS:
        await doors.put(name, ("k-0", "one"))
    async with doors.read() as task:
        await until(lambda: [doors.handled(name) for name in CLINICS] == [1, 1])
        assert not task.done()
    assert deaf[0].left


async def test_where_no_outbox_is_there_intake_waits_for_one(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    there = doors.border.log._topics
    taken = {name: there.pop(name) for name in list(there) if name.endswith(".outbox")}
    async with doors.read() as reading:
        await until(lambda: "have no outbox" in caplog.text)
        assert not reading.done()
        there.update(taken)
        await doors.put("clinic-a", ("k-0", "zero"))
        await until(lambda: doors.handled("clinic-a") == 1)


async def test_an_outbox_that_is_taken_away_meanwhile_is_told_of(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    await doors.put("clinic-b", ("k-0", "zero"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-b") == 1)
        del doors.border.log._topics[topics.outbox("clinic-a")]
        await until(lambda: "to make it: clinic-a" in caplog.text)
        await doors.put("clinic-b", ("k-1", "one"))
        await until(lambda: doors.handled("clinic-b") == 2)


async def test_an_outbox_that_is_not_there_holds_up_no_other_and_is_read_once_it_is(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    await doors.border.publish(organisation("clinic-c", roles=["agency"]))
    await doors.put("clinic-a", ("k-0", "one"))
    async with doors.read():
        await until(lambda: doors.handled("clinic-a") == 1)
        await until(lambda: "to make it: clinic-c" in caplog.text)
        await doors.border.log.ensure(topics.of_organisations("main", 1, ["clinic-c"]))
        await doors.put("clinic-c", ("k-0", "two"))
        await until(lambda: doors.handled("clinic-c") == 1)


# What it says of itself


async def test_while_the_group_has_not_said_what_is_its_own_it_is_told_of_and_intake_is_ready(
    doors: Doors,
) -> None:
    async with doors.read():
        await until(lambda: bool(doors.border.log._group("intake").members) and doors.is_well())
        [member] = doors.border.log._group("intake").members
        await member.lose()
        assert doors.is_out()
        await doors.border.log.rebalance("intake")
        assert doors.is_well()


async def test_who_is_given_no_outbox_by_the_group_is_in_it(doors: Doors) -> None:
    others = [Doors(doors.border) for _ in range(len({*PARTIES, *CLINICS}) + 1)]
    async with AsyncExitStack() as reading:
        for one in others:
            await reading.enter_async_context(one.read())
        await until(lambda: len(doors.border.log._group("intake").members) == len(others))
        await until(lambda: all(one.is_well() for one in others))
        for member in doors.border.log._group("intake").members:
            await member.lose()
        assert all(one.is_out() for one in others)


async def test_a_group_that_is_never_joined_is_told_of(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    right = MemoryLog.join

    async def let_in_and_out(self: MemoryLog, *group: Any, **told: Any) -> MemoryMember:
        await (await right(self, *group, **told)).close()
        raise LogError("there is no such group")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryLog, "join", let_in_and_out)
        async with doors.read():
            await until(doors.is_out)
            await asyncio.sleep(0.3)
            assert doors.is_out()
            patched.undo()
            await until(doors.is_well)


async def test_the_group_that_was_left_for_a_new_organisation_is_waited_for_anew(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors.read():
        await until(lambda: bool(doors.border.log._group("intake").members) and doors.is_well())
        monkeypatch.setattr(outboxes, "_SETTLE_SECONDS", 0.2)
        await doors.border.publish(organisation("clinic-c", roles=["agency"]))
        await until(doors.is_out)
        await doors.border.log.ensure(topics.of_organisations("main", 1, ["clinic-c"]))
        await until(doors.is_well)


async def test_where_there_is_no_outbox_to_have_a_share_of_nothing_is_waited_for(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    there = doors.border.log._topics
    taken = {name: there.pop(name) for name in list(there) if name.endswith(".outbox")}
    async with doors.read():
        await until(lambda: "have no outbox" in caplog.text)
        assert (doors.health.problems(), doors.health.hindrances()) == ({}, {})
        there.update(taken)
        await until(lambda: bool(doors.border.log._group("intake").members) and doors.is_well())


async def test_where_there_is_no_organisation_yet_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outboxes, "_SETTLE_SECONDS", 0.01)
    async with Border() as border:
        doors = Doors(border)
        assert not border.view.reference.organisations
        async with doors.read():
            await asyncio.sleep(0.2)
            assert (doors.health.problems(), doors.health.hindrances()) == ({}, {})
