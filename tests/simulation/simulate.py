"""One run from one seed: the bus starts, a storm goes over it, everything heals, and what is left is checked."""

from __future__ import annotations

import hashlib
import logging
from asyncio import sleep
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from unittest.mock import patch

from referral_bus.contracts.ledger import Entry
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition
from referral_bus.runtime import joining
from services.intake import outboxes, reach
from tests.simulation.agents import Agents
from tests.simulation.awaits import Awaits
from tests.simulation.border import border
from tests.simulation.checker import Evidence, Finding, check, noting
from tests.simulation.doors import app
from tests.simulation.loop import Stuck, seeded
from tests.simulation.world import LATE, PARTIES, REGIONS, World, codec
from tests.support.deciding import BUS

STORM_SECONDS: Final = 15.0
LATER_SECONDS: Final = 6.0
MONTH_MS: Final = 31 * 86_400_000
QUIET_SECONDS: Final = 12.0
"""For so long nothing has happened: longer than anything here waits before it tries again."""
MOST_SECONDS: Final = 240.0
POLL_SECONDS: Final = 0.5
"""Of the outboxes, for which a poll that waits for nothing is most of the work otherwise: here it hears at once of one that was handled."""
REACH_SECONDS: Final = 2.0
"""Between two looks of intake whether log and database answer; to ask so often is a tenth of the work otherwise."""
UNANSWERED_SECONDS: Final = 3.0
"""After which a member leaves that is answered nothing: in proportion, as outages are."""
GROUPS: Final[Sequence[topics.Reader]] = (
    "matching",
    "matching",
    "relay",
    "projections",
    "notifier",
    "intake",
)


@dataclass(frozen=True)
class Run:
    """What came of a seed."""

    seed: int
    found: list[Finding]
    history: list[str]
    steps: int
    seconds: float
    faults: int

    @property
    def digest(self) -> str:
        """The same for the same history."""
        return hashlib.sha256("\n".join(self.history).encode()).hexdigest()[:16]


def simulate(seed: int, awaits: Awaits | None = None) -> Run:
    """Run a seed, perhaps with a crash at each await that was not struck before. The same one gives the same run, in any process that was
    started with PYTHONHASHSEED=0."""
    logging.disable(logging.CRITICAL)
    found: list[Finding] = []
    run = Run(seed, found, [], steps=0, seconds=0.0, faults=0)
    try:
        # What is raised, by the run or by who checks it, is what was found: the seed has its history, and others go on.
        with noting(found):
            codec()
            app()
            with (
                seeded(seed) as loop,
                patch.object(outboxes, "_POLL_SECONDS", POLL_SECONDS),
                patch.object(reach, "_EVERY_SECONDS", REACH_SECONDS),
                patch.object(joining, "UNANSWERED_SECONDS", UNANSWERED_SECONDS),
            ):
                agents = Agents()
                world = World(loop, agents.receive)
                storm = Storm(world)
                if awaits is not None:
                    awaits.watch(world)
                with noting(found):
                    try:
                        loop.run_until_complete(_run(world, agents, storm, found))
                    except Stuck as stuck:
                        found.append(Finding("stuck", str(stuck)))
                # First what failed, also where the run came to no end for it.
                found[:0] = [Finding("failed", what) for what in world.failed]
                with noting(found):
                    _write_down(world)
                run = Run(seed, found, world.history, loop.steps, loop.time(), storm.faults)
    finally:
        logging.disable(logging.NOTSET)
    return run


async def _run(world: World, agents: Agents, storm: Storm, found: list[Finding]) -> None:
    """Whatever it comes to, ``found`` has what was found until then."""
    await world.open()
    await sleep(1.0)
    agents.open(world)
    world.loop.unattended("who refers", _refer(world, agents))
    await storm.blow(STORM_SECONDS)
    storm.heal()
    rested = await _quiet(world, agents)
    if rested and world.draw.random() < 0.5:
        # What falls due then, and who is asked how it is, meets a storm of its own.
        world.passes(MONTH_MS)
        await storm.blow(LATER_SECONDS)
        storm.heal()
        rested = await _quiet(world, agents)
    now = min(clock.now() for clock in (world.broker_clock, *world.clocks.values()))
    opening = world.intake_keys.private, world.operations_keys.private
    evidence = Evidence(world.log, world.views, world.notifier_tables, world.keys, *opening, agents.seen, now)
    found += _of_the_run(world, rested)
    with noting(found):
        found += await check(evidence)
    with noting(found):
        found += border(evidence)


def _of_the_run(world: World, rested: bool) -> Iterator[Finding]:
    """What was seen as it ran, and no topic or table tells."""
    for what in world.broker.given_up:
        yield Finding("given up", what)
    for what in world.broker.misused:
        yield Finding("misused", what)
    for what in world.broker.left_open():
        yield Finding("left open", what)
    if not rested:
        yield Finding("stuck", f"something is left to do after {MOST_SECONDS:.0f} s")


def _write_down(world: World) -> None:
    """What stands on the topics in the end belongs to the history."""
    of_each = [topic(name) for name in PARTIES for topic in (topics.outbox, partial(topics.feed, BUS))]
    for topic in (topics.inbox(BUS), topics.ledger(BUS), topics.deadletter(BUS), *of_each):
        for record in world.log.records(topic):
            kind = dict(record.headers).get("ce_type", b".sealed.").decode().split(".")[-2]
            digest = hashlib.sha256(record.value or b"").hexdigest()[:8]
            where = f"{topic}/{record.partition}/{record.offset}"
            world.history.append(f"{where} {record.timestamp} {kind} {digest}")


async def _refer(world: World, agents: Agents) -> None:
    draw = world.draw
    blunders, agencies = draw.choice([0.0, 0.3, 1.0]), ["police", "hospital"]
    for _ in range(draw.randint(6, 20)):
        if draw.random() < 0.6:  # else several come at once
            await sleep(draw.expovariate(1.0))
        if draw.random() < 0.1 and LATE not in agencies:
            await world.arrives()
            agencies.append(LATE)
        agents.refer(draw.choice(agencies))
        if draw.random() < blunders:
            # Who gets it wrong once does so again; and few refusals meet an outage of their feed.
            for _ in range(draw.randint(1, 4)):
                agents.blunder()


async def _quiet(world: World, agents: Agents) -> bool:
    """Wait until nothing happens any more. Returns whether it came to that."""
    last, since = (-1, -1), world.loop.time()
    until = since + MOST_SECONDS
    while world.loop.time() < until:
        await sleep(1.0)
        left = sum(one.result is None for one in world.notifier_tables.deliveries.values())
        now = sum(len(slots) for slots in world.log._slots.values()), left + agents.busy + _behind(world)
        if now != last:
            last, since = now, world.loop.time()
        elif world.loop.time() >= since + QUIET_SECONDS and now[1] == 0:
            return True
    return False


def _behind(world: World) -> int:
    """How many partitions somebody has not come to the end of."""
    behind = 0
    for organisation in PARTIES:
        outbox = Partition(topics.outbox(organisation), 0)
        behind += world.broker.furthest.get((topics.group(BUS, "intake"), outbox), 0) < _after_last(
            world.log, outbox
        )
    decided = world.log.committed(topics.group(BUS, "matching"))
    for region, number in REGIONS.items():
        inbox, ledger = Partition(topics.inbox(BUS), number), Partition(topics.ledger(BUS), number)
        behind += decided.get(inbox, 0) < _after_last(world.log, inbox)
        end = _after_last(world.log, ledger)
        behind += world.views.position(ledger) < end
        behind += world.notifier_tables.regions.get(region, (0, 0))[1] < end
    return behind


def _after_last(log: MemoryLog, partition: Partition) -> int:
    records = log.visible(partition, 0, log.end(partition))
    return records[-1].offset + 1 if records else 0


class Storm:
    """Everything that goes wrong, as the seed has it. Each seed has its own taste: some of it happens often, some never."""

    def __init__(self, world: World) -> None:
        self.world, self.draw = world, world.draw
        self.faults = 0
        kinds: list[Callable[[], None]] = [
            self._crash, self._crash, self._pause, self._cut, self._stop, self._rebalance, self._expel, self._expel,
            self._redeliver, self._abort, self._broker_away, self._database_away, self._clock, self._broker_clock,
            self._power, self._power, self._power, self._disk_slow, self._disk_full, self._disk_worn, self._disk_rots,
            self._disk_rots,
        ]  # fmt: skip
        self._kinds = self.draw.sample(kinds, self.draw.randint(3, len(kinds)))
        self._every = self.draw.uniform(0.3, 2.5)
        world.weather.lost = self.draw.choice([0.0, 0.02, 0.08])
        world.weather.slow = self.draw.choice([0.0, 0.01, 0.1])
        world.weather.stale = self.draw.choice([0.0, 0.1, 0.4])
        world.weather.mute = self.draw.choice([0.0, 0.3])
        self._honest_disks = self.draw.random() < 0.5

    async def blow(self, seconds: float) -> None:
        until = self.world.loop.time() + seconds
        for disk in self.world.disks.values():
            disk.is_honest = self._honest_disks
        await sleep(2.0)
        while self.world.loop.time() < until:
            await sleep(self.draw.expovariate(1.0 / self._every))
            self.faults += 1
            self.draw.choice(self._kinds)()

    def heal(self) -> None:
        world = self.world
        world.told("all heals")
        world.weather.fair()
        world.log.away = world.database_away = False
        for disk in world.disks.values():
            disk.heals()
        for node in world.up.values():
            node.cut, node.fuse = False, 0
            node.resume()

    def _name(self) -> str:
        return self.draw.choice(sorted(self.world.up))

    def _group(self) -> str:
        return topics.group(BUS, self.draw.choice(GROUPS))

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        self.world.loop.call_later(seconds, then)

    def _crash(self) -> None:
        self.world.crash(self._name(), self.draw.choice([1, 10, 100, 300]) + self.draw.randrange(30))

    def _pause(self) -> None:
        node, seconds = self.world.up[self._name()], self.draw.choice([0.3, 2.0, 6.0])
        self.world.told(f"{node.name} is paused for {seconds} s")
        node.paused = True
        self._after(seconds, node.resume)

    def _cut(self) -> None:
        node, seconds = self.world.up[self._name()], self.draw.choice([0.5, 4.0])
        self.world.told(f"{node.name} is cut off for {seconds} s")
        node.cut = True
        self._after(seconds, lambda: setattr(node, "cut", False))

    def _stop(self) -> None:
        name = self._name()
        self.world.told(f"{name} is stopped")
        self.world.stop(name)

    def _rebalance(self) -> None:
        group = self._group()
        self.world.told(f"{group} is rebalanced")
        self.world.loop.unattended("a rebalance", self.world.log.rebalance(group))

    def _expel(self) -> None:
        group = self._group()
        members = [one for one in self.world.broker.members if one[1].belongs and one[1].group.name == group]
        if members:
            node, member = self.draw.choice(members)
            self.world.told(f"{node.name} is put out of {member.group.name}, and goes on")
            self.world.loop.unattended("a rebalance", self.world.log.expel(member))

    def _redeliver(self) -> None:
        """What was fetched comes again. What lies ahead never comes early, unless it was fetched under a former assignment."""
        members = [member for _, member in self.world.broker.members if member._positions]
        if members:
            member = self.draw.choice(members)
            partition, end = self.draw.choice(sorted(member._positions.items()))
            start = max(0, end - self.draw.randint(1, 20))
            if not self.world.log.visible(partition, start, end - start):
                return
            self.world.told(f"{partition.topic}/{partition.number} comes again from {start} to {end}")
            self.world.log.redeliver(member, partition, start, end)

    def _abort(self) -> None:
        """Something is written and never committed: a submission, or what would be a region's next event."""
        world, topic = self.world, self.draw.choice([topics.inbox(BUS), topics.ledger(BUS)])
        records = world.log.records(topic)
        if not records or world.log.away:
            return
        one = self.draw.choice(records)
        value = one.value
        if topic == topics.ledger(BUS):
            entry = codec().decode_entry(value)
            of_region = [codec().decode_entry(r.value).meta.sequence for r in records if r.key == one.key]
            following = entry.meta.model_copy(update={"sequence": max(of_region) + 1})
            value = codec().encode_entry(Entry(following, entry.event))
        world.told(f"something like {topic}/{one.partition}/{one.offset} is aborted")
        world.loop.outside(world.log.abort([Outgoing(topic, one.partition, one.key, value, one.headers)]))

    def _broker_away(self) -> None:
        seconds = self.draw.choice([0.3, 2.0, 5.0])
        self.world.told(f"the broker is away for {seconds} s")
        self.world.log.away = True
        self._after(seconds, lambda: setattr(self.world.log, "away", False))

    def _database_away(self) -> None:
        seconds = self.draw.choice([0.3, 2.0, 5.0])
        self.world.told(f"the database is away for {seconds} s")
        self.world.database_away = True
        self._after(seconds, lambda: setattr(self.world, "database_away", False))

    def _machine(self) -> str:
        """A process that keeps files."""
        return self.draw.choice(sorted(self.world.disks))

    def _power(self) -> None:
        steps = self.draw.choice([1, 10, 100, 300]) + self.draw.randrange(30)
        self.world.crash(self._machine(), steps, with_machine=True)

    def _disk_slow(self) -> None:
        self._disk_is("is_slow", "slow")

    def _disk_full(self) -> None:
        self._disk_is("is_full", "full")

    def _disk_worn(self) -> None:
        self._disk_is("is_worn", "worn out")

    def _disk_is(self, fault: str, said: str) -> None:
        name, seconds = self._machine(), self.draw.choice([2.0, 8.0])
        self.world.told(f"the disk of {name} is {said} for {seconds} s")
        setattr(self.world.disks[name], fault, True)
        self._after(seconds, lambda: setattr(self.world.disks[name], fault, False))

    def _disk_rots(self) -> None:
        name = self._machine()
        self.world.disks[name].rots()
        if self.draw.random() < 0.5:  # else nobody may ever read it
            self.world.crash(name, self.draw.randrange(30))

    def _clock(self) -> None:
        name, jump = self._name(), self.draw.choice([-5_000, -500, 500, 5_000, 60_000])
        self.world.told(f"the clock of {name} jumps by {jump} ms")
        self.world.clocks[name].skew += jump

    def _broker_clock(self) -> None:
        jump = self.draw.choice([-2_000, -200, 200, 3_000])
        self.world.told(f"the broker's clock jumps by {jump} ms")
        self.world.broker_clock.skew += jump
