"""The bus in one process: two of each service, as their own ``service.py`` puts them together, on a broker and a database in memory; and
what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from referral_bus.access.tokens import new_signing_key
from referral_bus.contracts.ledger import OfferAccepted
from referral_bus.contracts.reference import OfferLimits, Organisation, RegionTable
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import LogError, LogUnavailable, Outgoing, Partition
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.runtime.health import Health
from referral_bus.runtime.projector import Projector
from referral_bus.runtime.worker import Limits, Worker
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.memory import KeyTable
from referral_bus.sealing.port import SECTIONS, Section
from referral_bus.sealing.secrets import Secrets
from referral_bus.sealing.sections import Sealer
from referral_bus.store.memory import MemoryViews
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from services.intake import relay as reference_relay
from services.intake.admission import Admission
from services.intake.forgetting import Forgetting
from services.intake.outboxes import Outboxes
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from services.intake.reference import ReferenceView, identity
from services.matching import relay as region_relay
from services.matching.facts import FactsOpener
from services.matching.partition import PartitionWork
from services.matching.regions import Regions
from services.matching.service import _keep_snapshots
from services.matching.snapshots import Snapshots
from services.matching.ticks import Ticks
from services.notifier.bell import Bell
from services.notifier.clock import DatabaseClock
from services.notifier.dispatch import Dispatcher, Patience
from services.notifier.feed import Feeds
from services.notifier.hearer import Hearer
from services.notifier.words import Words
from services.projections.fold import Fold
from services.projections.tables import SERVING
from tests.simulation.disk import MemoryDisk
from tests.simulation.doors import Door, KnownKeys
from tests.simulation.doubles import NoSecret, ShowsNothing, TellsTheTime, Webhooks, WiredKeys
from tests.simulation.loop import Node, SeededLoop
from tests.simulation.network import COMMIT_SECONDS, REVOKE_SECONDS, Broker, Database, Weather, WireViews
from tests.support.deciding import BUS, POLICY, PROTOCOL, START
from tests.support.memory_intake import IntakeTables, MemoryAdmissions, RelayEngine
from tests.support.memory_notifier import MemoryDeliveries, MemoryFold, NotifierTables, Subscribed

REGIONS: Final = {"north": 0, "south": 1}
PARTIES: Final[dict[str, tuple[Any, Any, str]]] = {
    "operations": ("operations", ["operations"], "north"),
    "police": ("police", ["agency"], "north"),
    "hospital": ("hospital", ["agency"], "south"),
    "shelter": ("provider", ["provider"], "north"),
    "clinic": ("provider", ["provider"], "south"),
    "pantry": ("provider", ["provider"], "north"),
    "school": ("school", ["agency"], "south"),
}
LATE: Final = "school"
"""Who is published when all others have long been heard of, if ever, and speaks by outbox alone."""
FED: Final = ("police", "shelter")
"""Who hears by feed besides."""
QUOTAS: Final = ((1_000.0, 1_000), (1_000.0, 1_000), (2.0, 4))
"""Submissions a second, and at once, of each organisation: more than anybody sends, or less."""
SECRETS: Final = Secrets.derive(bytes(32), BUS)
LIMITS: Final = Limits(take_seconds=5, commit_seconds=COMMIT_SECONDS, work_seconds=10, revoke_seconds=REVOKE_SECONDS, close_seconds=1,
                       fenced_rest_seconds=4, longest_rest_seconds=4)  # fmt: skip
"""In the proportions of those in use, and shorter, so that a run is."""
SNAPSHOT_SECONDS: Final = 1.0
KINDS: Final = ("intake", "matching", "projections", "notifier")


@cache
def codec() -> Codec:
    return Codec.load()


class NodeClock:
    """The time of day on one machine: wrong by ``skew`` milliseconds. ``passed`` are those in which nobody did anything."""

    def __init__(self, loop: SeededLoop) -> None:
        self._loop, self.skew, self.passed = loop, 0, 0

    def now(self) -> int:
        return START + self.elapsed() + self.skew

    def elapsed(self) -> int:
        return int(self._loop.time() * 1000) + self.passed


class World:
    """Everything there is, and its history."""

    def __init__(self, loop: SeededLoop, receive: Callable[[str, dict[str, Any]], None]) -> None:
        self.loop, self.draw = loop, loop.draw
        self.history: list[str] = []
        self.weather = Weather(loop)
        self.broker_clock, self.database_clock = NodeClock(loop), NodeClock(loop)
        self.log = MemoryLog(self.broker_clock.now)
        self.broker = Broker(self.log, self.weather, self.told)
        self.database_away = False
        self.keys = KeyTable()
        self.intake_tables = IntakeTables()
        self.notifier_tables = NotifierTables(
            [Subscribed(f"sb-{name}", name, roles[0]) for name, (_, roles, _) in PARTIES.items()]
            + [Subscribed("sb-police-accepted", "police", "agency", (OfferAccepted.event_type(),))]
            + [Subscribed(f"sb-feed-{name}", name, PARTIES[name][1][0], channel="feed") for name in FED]
        )
        self.views = MemoryViews(SERVING.views)
        self.doors: dict[str, Door] = {}
        self.intake_keys, self.operations_keys = new_encryption_keys(), new_encryption_keys()
        self.signing_key = new_signing_key()
        self.quota = self.draw.choice(QUOTAS)
        self.up: dict[str, Node] = {}
        self.clocks: dict[str, NodeClock] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._receive = receive
        self.disks: dict[str, MemoryDisk] = {}
        """Of the processes that write files: those of matching."""
        self.failed = loop.failed
        """And which processes ended by themselves, and of what."""

    def told(self, what: str) -> None:
        self.history.append(f"{self.loop.time():9.3f} {what}")

    def _told_of(self, name: str, what: str) -> None:
        self.told(f"{name}: {what}")

    async def open(self) -> None:
        """The topics are made, operations publish what all go by, and the processes start."""
        await self.log.ensure(topics.topics(BUS, len(REGIONS), 1, PARTIES))
        limits = OfferLimits(crisis=2_000, urgent=4_000, routine=8_000)
        protocol = PROTOCOL.model_copy(
            update={"offer_limits": limits, "parking_ms": 6_000, "follow_up_days": [30]}
        )
        window = self.draw.choice([None, None, 1_500])
        await self._publish(RegionTable(version=1, partitions=REGIONS))
        for name in PARTIES:
            if name != LATE:
                await self._publish(_organisation(name))
        await self._publish(protocol)
        await self._publish(POLICY if window is None else POLICY.model_copy(update={"window_ms": window}))
        for kind in KINDS:
            for number in range(2):
                name = f"{kind}-{number}"
                self.clocks[name] = NodeClock(self.loop)
                if kind == "matching":
                    self.disks[name] = MemoryDisk(self.draw, partial(self._told_of, name))
                self.loop.unattended(f"who starts {name}", self._supervise(name, getattr(self, f"_{kind}")))

    async def _publish(self, message: Any) -> None:
        kind, id = identity(message)
        envelope = Envelope(
            id=f"{kind}.{id}.v{message.version}",
            source=source_of("operations"),
            type=message.event_type(),
            time=self.broker_clock.now(),
            subject=id,
            schema_id=codec().schema_id(type(message)),
            partitionkey=id,
            dataclassification="internal",
        )
        value = codec().encode(message)
        record = Outgoing(topics.reference(BUS), 0, id.encode(), value, envelope.to_headers())
        await (await self.log.appender()).append([record])

    async def arrives(self) -> None:
        """One more organisation is published, so that the group of the outboxes is joined anew by all."""
        await _insist(lambda: self._publish(_organisation(LATE)))
        self.told(f"{LATE} is published")

    def passes(self, millis: int) -> None:
        """So much time goes by in which nobody does anything: on every clock, the broker's too."""
        self.told(f"{millis} ms pass")
        for clock in (self.broker_clock, self.database_clock, *self.clocks.values()):
            clock.passed += millis

    # Processes

    async def _supervise(self, name: str, run: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
        """Start it, and start it again whenever it ends."""
        while True:
            node = self.up[name] = Node(self.loop, name)
            gone = self._gone[name] = asyncio.Event()
            self.loop.unattended(f"who watches {name}", self.broker.watch(node))
            life = self._lives[name] = node.spawn(run(node), name)
            life.add_done_callback(partial(_ring, gone))
            await gone.wait()
            if life.done() and not life.cancelled():
                error = life.exception()
                failed = f"{name} ends by itself: {type(error).__name__}: {error}"
                self.told(failed)
                if not isinstance(
                    error, LogError
                ):  # a service may leave what a broker does to it to whoever starts it again
                    self.failed.append(failed)
            self._bury(node)
            await asyncio.sleep(self.draw.uniform(0.3, 4.0))
            self.told(f"{name} starts")

    def _bury(self, node: Node) -> None:
        node.kill()
        if node.name in self.disks:
            self.disks[node.name].killed()
        for owner, member in self.broker.members:
            if owner is node and not member.left:
                self.log.crash(member)

    def crash(self, name: str, steps: int, *, with_machine: bool = False) -> None:
        """Kill it after so many steps of its own, perhaps since its machine loses power."""
        node = self.up[name]

        def blown() -> None:
            self.told(f"{name} loses power" if with_machine else f"{name} crashes")
            self._bury(node)
            if with_machine:
                self.disks[name].loses_power()
            self._gone[name].set()

        if not node.dead:
            node.blown, node.fuse = blown, steps

    def stop(self, name: str) -> None:
        """As SIGTERM does."""
        self.up[name].stopped_at = self.loop.time()
        self._lives[name].cancel()

    # The services, as their own service.py builds them

    def _database(self, node: Node) -> Database:
        return Database(node, self.weather, lambda: self.database_away)

    def _keys(self, *sections: Section) -> WiredKeys:
        return WiredKeys(self.keys, lambda: self.database_away, sections or SECTIONS)

    def _engine(self, database: Database) -> Any:
        return TellsTheTime(database, self.database_clock.now)

    def _clock(self, node: Node) -> Clock:
        return self.clocks[node.name]

    async def _intake(self, node: Node) -> None:
        log, database, health = self.broker.reach(node), self._database(node), Health()
        view = ReferenceView(log, topics.reference(BUS), codec(), health)
        appender = await _insist(log.appender)
        clock, quotas = self._clock(node), Quotas(*self.quota, self.loop.time)
        common: dict[str, Any] = {
            "view": view,
            "appender": appender,
            "codec": codec(),
            "secrets": SECRETS,
            "clock": clock,
            "bus": BUS,
            "topic": topics.inbox(BUS),
        }
        admissions: Any = MemoryAdmissions(database, self.intake_tables)
        keys = self._keys()
        admission = Admission(admissions=admissions, keys=keys, sealer=Sealer(codec()), **common)
        engine: Any = RelayEngine(node, database, self.intake_tables)
        relay = reference_relay.Relay(engine=engine, health=health, **common)
        forgetting = Forgetting(keys=keys, **{name: common[name] for name in common if name != "bus"})
        reach = Reach(log, Partition(topics.reference(BUS), 0), self._engine(database), health)
        verifier = KnownKeys(self.signing_key, clock, self.loop)
        self.doors[node.name] = Door(node, admission, forgetting, quotas, reach, clock, verifier)
        outboxes = Outboxes(
            log=log,
            view=view,
            admission=admission,
            appender=appender,
            dead_letters=DeadLetters(BUS, "intake", self.operations_keys.public, codec(), clock),
            quotas=quotas,
            codec=codec(),
            clock=clock,
            health=health,
            bus=BUS,
            group=topics.group(BUS, "intake"),
            intake_key=self.intake_keys.private,
        )
        await _all(view.run(), reach.run(), outboxes.run(), relay.run())

    async def _matching(self, node: Node) -> None:
        log, clock, health = self.broker.reach(node), self._clock(node), Health()
        keys, snapshots = self._keys("facts"), Snapshots(Path("snapshots"), BUS, self.disks[node.name])
        letters = DeadLetters(BUS, "matching", self.operations_keys.public, codec(), clock)

        def make(partition: Partition) -> PartitionWork:
            return PartitionWork(
                log=log,
                bus=BUS,
                partition=partition.number,
                codec=codec(),
                opener=FactsOpener(keys, Sealer(codec())),
                dead_letters=letters,
                clock=clock,
                snapshots=snapshots,
            )

        worker = Worker(
            log,
            make,
            health,
            topic=topics.inbox(BUS),
            group=topics.group(BUS, "matching"),
            transactional_id=lambda partition: f"{topics.group(BUS, 'matching')}-{partition}",
            batch=self.draw.choice([1, 5, 500]),
            limits=LIMITS,
        )
        ticks = Ticks(await _insist(log.appender), BUS, codec(), clock)
        regions = Regions(log, BUS, codec())
        relay = region_relay.Relay(log, await _insist(log.appender), regions, codec(), clock, health, bus=BUS)
        await _all(
            worker.run(),
            ticks.run(worker.owned),
            regions.run(),
            relay.run(),
            _keep_snapshots(worker.owned, snapshots, self.draw.choice([1, 20]), SNAPSHOT_SECONDS),
        )

    async def _projections(self, node: Node) -> None:
        store = WireViews(self._database(node), self.views)
        projector = Projector(
            self.broker.reach(node),
            store,
            Fold(store, codec()).project,
            Health(),
            topic=topics.ledger(BUS),
            group=topics.group(BUS, "projections"),
            batch=self.draw.choice([3, 1000]),
        )
        await projector.run()

    async def _notifier(self, node: Node) -> None:
        log, database, bell = self.broker.reach(node), self._database(node), Bell()
        clock = DatabaseClock(self._engine(database), self._clock(node))
        await _insist(clock.ask)
        appender = await _insist(log.appender)
        fold: Any = MemoryFold(database, self.notifier_tables, bell)
        health = Health()
        hearer = Hearer(log=log, fold=fold, codec=codec(), keys=self._keys(), clock=clock, health=health)
        parts: dict[str, Any] = {
            "deliveries": MemoryDeliveries(database, self.notifier_tables),
            "disclosing": ShowsNothing(),
            "sender": Webhooks(node, self.weather, self._receive),
            "secrets": NoSecret(),
        }
        dispatcher = Dispatcher(
            feeds=Feeds(appender, BUS, codec()),
            words=Words(appender, BUS, codec(), len(REGIONS)),
            codec=codec(),
            clock=clock,
            health=health,
            bell=bell,
            patience=Patience(500, 4_000, 3_600_000, 5_000, 4, 32),
            chance=self.draw.random,
            **parts,
        )
        await _all(self._stream(node, hearer), dispatcher.run(), clock.run())

    async def _stream(self, node: Node, hearer: Hearer) -> None:
        """In the place of the Faust app (:mod:`services.notifier.stream`): acknowledged is what was handled, so it may come again."""
        log = self.broker.reach(node)
        owned: dict[Partition, int] = {}

        async def assigned(member: Any, partitions: frozenset[Partition]) -> None:
            owned.update(await _insist(lambda: member.committed(partitions)))
            member.seek(owned)
            member.resume(owned)

        async def revoked(_: Any, partitions: frozenset[Partition]) -> None:
            for partition in partitions:
                owned.pop(partition, None)

        member = await log.join(
            topics.group(BUS, "notifier"), [topics.ledger(BUS)], assigned=assigned, revoked=revoked
        )
        while True:
            for partition, records in (await member.poll(500, 1.0)).items():
                await hearer.handle(records)
                if partition in owned:
                    await _tried(member.commit({partition: records[-1].offset + 1}))


def _organisation(name: str) -> Organisation:
    kind, roles, region = PARTIES[name]
    return Organisation(organisation=name, name=name, kind=kind, roles=roles, home_region=region)


def _ring(gone: asyncio.Event, _: object) -> None:
    gone.set()


async def _all(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a service; where one ends, the process does."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _insist(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until there is an answer: what the real client does while it connects."""
    while True:
        try:
            return await ask()
        except (LogUnavailable, OSError):
            await asyncio.sleep(0.5)


async def _tried(work: Awaitable[None]) -> None:
    """Where acknowledging fails the records come again."""
    try:
        await work
    except LogError:
        return
