"""The relay between regions: everything a region has to say to another is put on the other's inbox, in order, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import RequestCapacity
from referral_bus.contracts.ledger import EVENTS
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import RegionTable
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog, MemoryMember, MemoryReader
from referral_bus.log.port import LogError, LogUnavailable, Outgoing, Partition, Position, Record
from referral_bus.runtime.health import Health
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from referral_bus.wire.inbox import received
from services.matching.chain import ledger_record
from services.matching.messages import CONCERNING, messages
from services.matching.regions import Regions
from services.matching.relay import Relay
from tests.support.clocks import ManualClock
from tests.support.deaf import deafen_the_first
from tests.support.deciding import BUS, START, withdraw
from tests.support.regions import Between, lent_out
from tests.support.simulated import SimulatedLoop

PARTITIONS = {"north": 0, "south": 1, "east": 2}
_LONG = 120.0
GROUP = topics.group(BUS, "relay")


class Unsure:
    """An appender whose acknowledgements get lost, as often as ``lost`` says; for ``shut`` partitions nothing is put at all."""

    def __init__(self, log: MemoryLog) -> None:
        self.lost = 0
        self.shut: set[int] = set()
        self.error: type[LogError] = LogUnavailable
        self._log = log

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        if any(record.partition in self.shut for record in records):
            raise self.error("the broker does not answer")
        positions = await (await self._log.appender()).append(records)
        if self.lost:
            self.lost -= 1
            raise self.error("the acknowledgement got lost")
        return positions

    async def close(self) -> None:
        return None


class Wire:
    """Three regions' ledgers on a log, and the relay that follows them."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.log = MemoryLog()
        self.appender = Unsure(self.log)
        self.between = Between(codec)
        self._written = dict.fromkeys(PARTITIONS, 0)

    async def open(self, table: RegionTable | None = None) -> None:
        await self.log.ensure(topics.topics(BUS, len(PARTITIONS), 1))
        await self.publish(table or RegionTable(version=1, partitions=PARTITIONS))

    async def publish(self, message: Message) -> None:
        envelope = Envelope(
            id="regions.v1",
            source=source_of("operations"),
            type=message.event_type(),
            time=START,
            subject="regions/regions",
            schema_id=self.codec.schema_id(type(message)),
            partitionkey="regions/regions",
            dataclassification="internal",
        )
        record = Outgoing(topics.reference(BUS), 0, b"r", self.codec.encode(message), envelope.to_headers())
        await (await self.log.appender()).append([record])

    async def write(self) -> None:
        """What the regions decided since is committed."""
        for region, world in self.between.worlds.items():
            records = [
                ledger_record(
                    entry,
                    value,
                    bus=BUS,
                    topic=topics.ledger(BUS),
                    partition=PARTITIONS[region],
                    codec=self.codec,
                    cause="somebody",
                    correlation=f"c-{entry.meta.sequence}",
                )
                for entry, value in world.entries[self._written[region] :]
            ]
            self._written[region] = len(world.entries)
            writer = await self.log.transactor(f"matching-{region}")
            await writer.commit(records, "matching", {})

    def put(self, region: str) -> list[str]:
        """The ids on a region's inbox, in order."""
        return [
            received(record, self.codec)[1].admitted.id
            for record in self.log.records(topics.inbox(BUS))
            if record.partition == PARTITIONS[region]
        ]

    def said(self, region: str) -> list[str]:
        """The ids of everything that is to be said to a region."""
        return [
            message.id
            for world in self.between.worlds.values()
            for entry, _ in world.entries
            for message in messages(entry)
            if message.region == region
        ]

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[Health]:
        """The relay runs until it is killed: at once, wherever it is."""
        health = Health()
        regions = Regions(self.log, BUS, self.codec)
        relay = Relay(self.log, self.appender, regions, self.codec, ManualClock(START), health, bus=BUS)
        tasks = [asyncio.create_task(regions.run()), asyncio.create_task(relay.run())]
        try:
            yield health
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for one in ended:
                if isinstance(one, Exception):
                    raise one

    async def until(self, held: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LONG):
            while not held():
                await asyncio.sleep(0.1)

    async def all_is_put(self) -> None:
        await self.until(
            lambda: all(set(self.said(region)) <= set(self.put(region)) for region in PARTITIONS)
        )


def run(test: Callable[[Wire], Awaitable[None]], codec: Codec) -> None:
    """In simulated time."""

    async def whole() -> None:
        wire = Wire(codec)
        await test(wire)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(whole())


def first_times(ids: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def test_what_regions_say_to_each_other_is_put_on_the_others_inboxes_in_order(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        for number in range(1, 4):
            wire.between.refer("north", number)
            wire.between.flow()
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
        for region in PARTITIONS:
            for source in PARTITIONS:
                mine = [id for id in wire.put(region) if id.startswith(f"{source}.")]
                assert mine == [id for id in wire.said(region) if id.startswith(f"{source}.")]

    run(test, codec)


def test_what_is_put_keeps_its_correlation_and_names_the_relay_as_its_source(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        referral = wire.between.refer("north")
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
        [record] = [
            one for one in wire.log.records(topics.inbox(BUS)) if one.partition == PARTITIONS["south"]
        ]
        region, asked = received(record, wire.codec)
        assert region == "south"
        assert asked.admitted.source == "relay"
        assert isinstance(asked.body, RequestCapacity)
        assert asked.body.task == task_id(referral, 1)
        assert dict(record.headers)["ce_dataclassification"] == b"internal"
        sequence = wire.between["north"].state.sequence
        assert dict(record.headers)["ce_correlationid"] == f"c-{sequence}".encode()

    run(test, codec)


def test_after_a_lost_acknowledgement_all_is_put_again_under_the_same_ids(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south", total=3))
        wire.between.refer("north")
        wire.between.refer("north", 2)
        wire.appender.lost = 2
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
            await wire.until(lambda: not wire.appender.lost and len(wire.log.committed(GROUP)) == 3)
        for region in PARTITIONS:
            assert first_times(wire.put(region)) == wire.said(region)
        repeated = [id for region in PARTITIONS for id in wire.put(region)]
        assert len(repeated) > len(set(repeated))
        bodies = {}
        for record in wire.log.records(topics.inbox(BUS)):
            admitted = received(record, wire.codec)[1].admitted
            assert bodies.setdefault(admitted.id, admitted.digest) == admitted.digest

    run(test, codec)


def test_a_relay_waits_for_a_log_that_is_away_at_the_start(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        wire.log.away = True
        async with wire.relaying() as health:
            await asyncio.sleep(_LONG)
            assert "relay" in health.problems()
            wire.log.away = False
            await wire.all_is_put()

    run(test, codec)


def test_it_is_not_ready_while_the_group_has_not_said_what_is_its_own(codec: Codec) -> None:
    """It may have been taken out of the group and not have come in again; who is given none of it by the group is ready."""

    async def test(wire: Wire) -> None:
        await wire.open()
        async with AsyncExitStack() as relays:
            healths = [await relays.enter_async_context(wire.relaying()) for _ in range(4)]
            group = wire.log._group(GROUP)
            await wire.until(lambda: len(group.members) == 4 and not any(one.problems() for one in healths))
            for member in group.members:
                await member.lose()
            for health in healths:
                assert health.problems() == {"relay": f"waits for its share of {topics.ledger(BUS)}"}
            await wire.log.rebalance(GROUP)
            await wire.until(lambda: not any(one.problems() for one in healths))

    run(test, codec)


def test_a_relay_that_follows_one_that_was_killed_goes_on_from_what_was_acknowledged(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
            await wire.until(lambda: len(wire.log.committed(GROUP)) == 3)
        before = len(wire.put("north"))
        wire.between.say("north", withdraw(wire.between.refer("north")), "police")
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
        assert len(wire.put("north")) == before
        assert [id.rpartition(".")[2] for id in wire.put("south")] == ["south", "south"]

    run(test, codec)


def test_a_region_that_can_not_be_put_anything_holds_up_only_who_has_something_for_it(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south", to=["north"]), lent_out("cots", "east", to=["north"]))
        wire.appender.shut = {PARTITIONS["south"]}
        wire.between.refer("north")
        await wire.write()
        async with wire.relaying():
            await wire.until(lambda: set(wire.said("north")) <= set(wire.put("north")))
            assert not wire.put("south")
            wire.appender.shut.clear()
            await wire.all_is_put()

    run(test, codec)


def test_what_was_fetched_and_not_put_counts_as_lag_also_while_the_relay_rests(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south", to=["north"]))
        wire.between.refer("north")
        await wire.write()
        events = len(wire.between["north"].entries)
        wire.appender.shut = {PARTITIONS["south"]}
        async with wire.relaying():
            await asyncio.sleep(_LONG)
            for _ in range(20):
                await asyncio.sleep(5.0)
                assert shown("refbus_lag_records", "north") == events
                assert shown("refbus_position_offset", "north") == 0
            wire.appender.shut.clear()
            await wire.all_is_put()
            await wire.until(lambda: shown("refbus_lag_records", "north") == 0)
            assert shown("refbus_position_offset", "north") == events

    run(test, codec)


def shown(metric: str, region: str) -> float | None:
    """What a metric of the ledger's partition of a region stands at."""
    labels = {"topic": topics.ledger(BUS), "partition": str(PARTITIONS[region])}
    return REGISTRY.get_sample_value(metric, labels)


def test_what_the_log_refuses_again_and_again_stops_the_relay(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        wire.appender.shut, wire.appender.error = set(PARTITIONS.values()), LogError
        await wire.write()
        with pytest.raises(LogError, match="does not answer"):
            async with wire.relaying():
                await asyncio.sleep(_LONG)

    run(test, codec)


def refuses_to_tell_positions(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The log refuses so many times to say how far the relay came; returns those that are left."""
    left = ["refused"] * times
    told = MemoryMember.committed

    async def committed(self: MemoryMember, partitions: Iterable[Partition]) -> dict[Partition, int]:
        if left:
            raise LogError(f"the position is {left.pop()}")
        return await told(self, partitions)

    monkeypatch.setattr(MemoryMember, "committed", committed)
    return left


def test_a_position_that_the_log_refuses_to_tell_is_asked_for_again(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()

    left = refuses_to_tell_positions(monkeypatch, 6)
    run(test, codec)
    assert left == []


def test_a_position_that_the_log_refuses_to_tell_again_and_again_stops_the_relay(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        async with wire.relaying():
            await asyncio.sleep(_LONG)

    refuses_to_tell_positions(monkeypatch, 100)
    with pytest.raises(LogError, match="refused"):
        run(test, codec)


@pytest.mark.parametrize("call", ["committed", "commit"])
def test_a_member_that_is_left_without_answers_for_long_makes_room_for_a_new_one(
    codec: Codec, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(wire: Wire) -> None:
        await wire.open()
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        async with wire.relaying() as health:
            await wire.all_is_put()
            await wire.until(lambda: len(wire.log.committed(GROUP)) == 3 and not health.problems())

    deaf = deafen_the_first(monkeypatch, call)
    run(test, codec)
    assert deaf[0].left


def test_a_region_that_no_table_names_is_passed_over(codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    async def test(wire: Wire) -> None:
        await wire.open(RegionTable(version=1, partitions={"north": 0, "south": 1}))
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        async with wire.relaying():
            await wire.until(lambda: set(wire.said("north")) <= set(wire.put("north")))
        assert not wire.put("east")

    run(test, codec)
    assert "region east" in caplog.text


@pytest.mark.parametrize("tells_its_end", [True, False], ids=["reads-stall", "nothing-answers"])
def test_what_is_for_a_region_that_the_table_may_name_by_now_waits_and_holds_up_no_other_partition(
    codec: Codec, tells_its_end: bool
) -> None:
    async def test(wire: Wire) -> None:
        await wire.open(RegionTable(version=1, partitions={"north": 0, "south": 1}))
        wire.between.publish(lent_out("beds", "south", to=["east"]))
        reference, unroutable = Withheld(wire.log, tells_its_end), routed_nowhere()
        async with wire.relaying():
            await asyncio.sleep(_LONG)
            reference.away = True
            # What was asked before would be answered still.
            await asyncio.sleep(_LONG)
            await wire.publish(RegionTable(version=2, partitions=PARTITIONS))
            await wire.write()
            await asyncio.sleep(_LONG)
            assert not wire.put("east")
            wire.between.publish(lent_out("cots", "north", to=["south"]))
            await wire.write()
            await wire.until(lambda: set(wire.said("south")) <= set(wire.put("south")))
            reference.away = False
            await wire.all_is_put()
        assert wire.put("east") and routed_nowhere() == unroutable

    run(test, codec)


def routed_nowhere() -> float | None:
    return REGISTRY.get_sample_value("refbus_matching_region_messages_total", {"type": "unroutable"})


class Withheld:
    """The reference topic gives nothing while its leader is away."""

    def __init__(self, log: MemoryLog, tells_its_end: bool) -> None:
        self.partition = Partition(topics.reference(BUS), 0)
        self.away = False
        self._tells_its_end = tells_its_end
        self._reading = log.reader
        log.reader = self._reader  # type: ignore[method-assign]

    async def _reader(self, partition: Partition) -> MemoryReader:
        reader = await self._reading(partition)
        read, end = reader.read, reader.end

        async def reads(start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
            if not self.away:
                return await read(start, limit, wait)
            await asyncio.sleep(wait)
            return []

        async def ends() -> int:
            if self.away and not self._tells_its_end:
                raise LogUnavailable("the broker does not answer")
            return await end()

        if partition == self.partition:
            reader.read, reader.end = reads, ends  # type: ignore[method-assign]
        return reader


def test_the_later_region_table_counts(codec: Codec) -> None:
    async def test(wire: Wire) -> None:
        await wire.open(RegionTable(version=1, partitions={"north": 0, "south": 1}))
        await wire.publish(RegionTable(version=2, partitions=PARTITIONS))
        await wire.publish(RegionTable(version=1, partitions={"north": 0, "south": 1}))
        wire.between.publish(lent_out("beds", "south"))
        await wire.write()
        async with wire.relaying():
            await wire.all_is_put()
        assert wire.put("east")

    run(test, codec)


def test_every_event_that_says_something_is_read(codec: Codec) -> None:
    """The relay looks at the headers first, and reads none that :func:`messages` has nothing to make of."""
    between = Between(codec)
    between.publish(lent_out("beds", "south"))
    kept, lost = between.refer("north"), between.refer("east")
    between.flow()
    between.accepts(kept)
    between.flow()
    between.say("north", withdraw(kept), "police")
    between.flow()
    said = {
        type(entry.event)
        for world in between.worlds.values()
        for entry, _ in world.entries
        if messages(entry)
    }
    assert said <= CONCERNING <= set(EVENTS)
    assert lost not in between["east"].state.referrals
