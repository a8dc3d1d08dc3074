"""The cluster brought up: three brokers, a database, two of each service, and two clients that keep their own lists."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from referral_bus.demo.watch import Watch
from referral_bus.embedded.bus import SERVICES, Addresses, LocalBus, Plan
from referral_bus.embedded.kafka import EmbeddedKafka, Seat, cluster_id
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import EmbeddedPostgres, Listening
from referral_bus.embedded.process import ChildProcess
from referral_bus.embedded.secrets import Secrets
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.topics import topics
from referral_bus.wire.codec import Codec
from tests.chaos.cluster import parts
from tests.chaos.cluster.disks import Disk
from tests.chaos.cluster.network import Network
from tests.chaos.cluster.parts import Part
from tests.chaos.town import REGIONS, SETTINGS, Client, published, started
from tests.support.load import LoadPlan

BUS: Final = "fire"
BROKERS: Final = ("kafka-1", "kafka-2", "kafka-3")
WORKERS: Final = tuple(f"{service}-{number}" for service in SERVICES for number in (1, 2))
CLIENTS: Final = ("client-1", "client-2")
NODES: Final = (*BROKERS, "database", *WORKERS, *CLIENTS)
_BROKER_MEGABYTES: Final = 1024
_DATABASE_MEGABYTES: Final = 1024
_SERVICE_MEGABYTES: Final = 16
"""Enough for the snapshots of a run; so little that it is soon full."""
_SNAPSHOT_EVENTS: Final = 100
"""As few as may be: whenever the disk of the snapshots is full, one is soon to be written."""
_PLACES: Final = 4
"""Of each unit; eight units a region. A burst wants more than are free."""
_LENDS_TO: Final = 2
"""So many other regions: the last place of a unit is wanted by two of them and by its home."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Place:
    """The running cluster. ``doors`` is where each intake listens (HOST:PORT), ``inside`` the database's address for this process."""

    home: Path
    network: Network
    bus: LocalBus
    parts: dict[str, Part]
    clients: dict[str, Client]
    doors: dict[str, str]
    inside: str


@asynccontextmanager
async def place(home: Path, network: Network, pace: float, say: Say) -> AsyncIterator[Place]:
    """Bring it up, its services published and its clients submitting ``pace`` referrals a second each, and take it down again."""
    ports = dict(
        zip(("broker", "controller", "database", "public", "operations"), free_ports(5), strict=True)
    )
    async with AsyncExitStack() as stack:
        say("starting three brokers and the database")
        disks = _disks(home, network)
        if any(disk.in_memory for disk in disks.values()):
            say(
                "their disks are in memory, where to write through takes no time: no ext4 or no loop device here"
            )
        brokers = _brokers(home, network, disks, ports)
        postgres = EmbeddedPostgres(
            home / "database",
            listening=Listening(
                network.address("database"), ports["database"], network.namespace("database")
            ),
        )
        for kafka in brokers.values():
            stack.push_async_callback(asyncio.to_thread, kafka.stop)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in (*brokers.values(), postgres)))
        inside = await asyncio.to_thread(postgres.url, "refbus")
        kafka_address = ",".join(kafka.bootstrap for kafka in brokers.values())
        log = KafkaLog(kafka_address)
        stack.push_async_callback(log.close)
        await log.ensure(topics(BUS, partitions=len(REGIONS), replication=len(BROKERS)))
        say("starting two of each service")
        bus = _bus(home, network, ports, kafka_address, postgres.outside_url("refbus"))
        known = {name: parts.broker(name, kafka, disks.get(name)) for name, kafka in brokers.items()}
        known["database"] = parts.database(postgres, disks.get("database"))
        for name, process in bus.processes.items():
            known[name] = parts.service(name, process, disks.get(name), home / "clocks" / name)
        stack.push_async_callback(_stopped, bus)
        await asyncio.gather(*(process.start() for process in bus.processes.values()))
        await bus.ready(WORKERS)
        say("publishing services and starting the clients")
        watch = Watch(log, BUS, Codec.load())
        following = asyncio.create_task(watch.run())
        stack.callback(following.cancel)
        plans = {name: _load(home, network, bus, name, pace) for name in CLIENTS}
        await published(bus, list(plans.values()), watch, _PLACES, _LENDS_TO)
        clients = {
            name: await started(plan, home, name, network.namespace(name)) for name, plan in plans.items()
        }
        for client in clients.values():
            stack.push_async_callback(client.stop)
        for client in clients.values():
            await client.listening()
        # A referral of the one may be offered to a provider of the other, which must have subscribed by then.
        for client in clients.values():
            await client.begin()
        following.cancel()
        doors = {name: _door(bus, name).rpartition("/")[2] for name in WORKERS if name.startswith("intake")}
        yield Place(home, network, bus, known, clients, doors, inside)


def _disks(home: Path, network: Network) -> dict[str, Disk]:
    """Mounts are private where the run has namespaces of its own, and only there."""
    if not network.namespaces:
        return {}
    found = {name: Disk(home / name, _BROKER_MEGABYTES) for name in BROKERS}
    found["database"] = Disk(home / "database", _DATABASE_MEGABYTES)
    for name in WORKERS:
        if name.startswith("matching-"):  # the only one that keeps anything on its disk
            found[name] = Disk(home / "state" / name, _SERVICE_MEGABYTES)
    return found


def _brokers(
    home: Path, network: Network, disks: dict[str, Disk], ports: dict[str, int]
) -> dict[str, EmbeddedKafka]:
    cluster = cluster_id()
    numbers = dict(enumerate(BROKERS, start=1))
    apart = network.namespaces
    many = {} if apart else dict(zip(BROKERS, free_ports(2 * len(BROKERS))[::2], strict=True))
    also = {} if apart else dict(zip(BROKERS, free_ports(len(BROKERS)), strict=True))
    controllers = {
        number: f"{network.address(name)}:{also.get(name, ports['controller'])}"
        for number, name in numbers.items()
    }
    return {
        name: EmbeddedKafka(
            home / name,
            many.get(name, ports["broker"]),
            Seat(number, network.address(name), controllers, cluster, network.namespace(name)),
        )
        for number, name in numbers.items()
    }


def _bus(home: Path, network: Network, ports: dict[str, int], kafka: str, database: str) -> LocalBus:
    public = {name: ports["public"] for name in WORKERS}
    operations = {name: ports["operations"] for name in WORKERS}
    if not network.namespaces:
        given = iter(free_ports(2 * len(WORKERS)))
        public = {name: next(given) for name in WORKERS}
        operations = {name: next(given) for name in WORKERS}

    def url(name: str, of: dict[str, int] = public) -> str:
        return f"http://{network.address(name)}:{of[name]}"

    plan = Plan(home, BUS, kafka, database, partitions=len(REGIONS), replication=len(BROKERS))
    secrets = Secrets.load_or_make(home / "secrets", BUS)
    addresses = Addresses(
        kafka=kafka,
        database=database,
        intake=url("intake-1"),
        queries=url("projections-1"),
        notifier=url("notifier-1"),
        operations={name: url(name, operations) for name in WORKERS},
    )
    bus = LocalBus(plan, secrets, addresses, None)
    (home / "clocks").mkdir()
    for name in WORKERS:
        service = name.rpartition("-")[0]
        environment = {
            "REFBUS_BUS": BUS,
            "REFBUS_KAFKA": kafka,
            "REFBUS_DATABASE_URL": database,
            "REFBUS_DATA_DIR": str(home / "state" / name),
            "REFBUS_HOST": network.address(name),
            "REFBUS_PORT": str(public[name]),
            "REFBUS_OPERATIONS_PORT": str(operations[name]),
            "REFBUS_REPLICATION": str(len(BROKERS)),
            "REFBUS_QUERIES": addresses.queries,
            **secrets.environment(service),
            **SETTINGS,
            "REFBUS_SNAPSHOT_EVENTS": str(_SNAPSHOT_EVENTS),
        }
        command = [sys.executable, "-m", "tests.chaos.cluster.skewed", service, str(home / "clocks" / name)]
        bus.processes[name] = ChildProcess(
            name, command, environment, home / "logs" / f"{name}.log", network.namespace(name)
        )
    return bus


def _load(home: Path, network: Network, bus: LocalBus, name: str, pace: float) -> LoadPlan:
    """Each client begins at the twin of its own number, and goes on to the other."""
    number = name.rpartition("-")[2]
    other = "2" if number == "1" else "1"
    return LoadPlan(
        bus=BUS,
        party=f"{BUS}{number}",
        kafka=bus.addresses.kafka,
        intake=_door(bus, f"intake-{number}"),
        notifier=_door(bus, f"notifier-{number}"),
        twins={
            _door(bus, f"{service}-{number}"): _door(bus, f"{service}-{other}")
            for service in ("intake", "notifier")
        },
        token_key=str(bus.secrets.folder / "token_key"),
        journal=str(home / f"{name}.journal"),
        regions=list(REGIONS),
        pace=pace,
        patience=600.0,
        answer_seconds=5.0,
        webhooks=False,
        waits=True,
    )


def _door(bus: LocalBus, name: str) -> str:
    host = bus.addresses.operations[name].rpartition(":")[0]
    return f"{host}:{bus.processes[name].environment['REFBUS_PORT']}"


async def _stopped(bus: LocalBus) -> None:
    await asyncio.gather(*(process.stop() for process in bus.processes.values()))
