"""The whole bus on one machine: broker, database, keys, topics and the four services as processes.

``refbus up`` and ``refbus demo`` run it, and so do the end-to-end and chaos tests. The broker and the database are embedded unless
addresses are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports, is_free
from referral_bus.embedded.postgres import EmbeddedPostgres
from referral_bus.embedded.process import ChildProcess
from referral_bus.embedded.secrets import Secrets
from referral_bus.embedded.supervising import Say, kept_up
from referral_bus.log.access import KafkaAccess
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.making import make_topics
from referral_bus.runtime.settings import outside

SERVICES = ("intake", "matching", "notifier", "projections")
_PUBLIC = ("intake", "notifier", "projections")
_READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a running bus are reached."""

    kafka: str
    database: str
    intake: str
    queries: str
    notifier: str
    operations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``home`` keeps data, secrets and logs; ``kafka`` and ``database`` are addresses of outside ones; ``first_port``
    fixes the ports (so that addresses stay the same), otherwise free ones are taken."""

    home: Path
    bus: str = "main"
    kafka: str | None = None
    database: str | None = None
    partitions: int = 8
    replication: int = 1
    first_port: int | None = None
    matching_workers: int = 1
    durable: bool = True
    settings: dict[str, str] = field(default_factory=dict)


class LocalBus:
    """A running bus. Made by :func:`local_bus`."""

    def __init__(
        self, plan: Plan, secrets: Secrets, addresses: Addresses, kafka: EmbeddedKafka | None
    ) -> None:
        self.plan = plan
        self.secrets = secrets
        self.addresses = addresses
        self.kafka = kafka
        self.processes: dict[str, ChildProcess] = {}

    @property
    def kafka_version(self) -> str | None:
        """The embedded broker's version. None of an outside one: Kafka's protocol tells levels of features (``metadata.version``), which
        an upgrade raises later or never, and nowhere the version of the broker that answers."""
        return self.kafka.version if self.kafka is not None else None

    @property
    def access(self) -> KafkaAccess:
        """How its Kafka is reached: the embedded one in the clear, one outside as the environment says. Raises SettingsError."""
        return _access(self.kafka, self.addresses.kafka)

    async def start_service(self, name: str) -> None:
        """Start one process and wait until it says that it is ready. Raises EmbeddedError with its last words."""
        await self.processes[name].start()
        await self.ready([name])

    async def ready(self, names: Sequence[str]) -> None:
        """Wait until these processes are ready."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            async with asyncio.timeout(_READY_SECONDS) as limit:
                for name in names:
                    await self._ready(http, name, limit)

    async def _ready(self, http: httpx.AsyncClient, name: str, limit: asyncio.Timeout) -> None:
        process, answer = self.processes[name], "nothing"
        try:
            while True:
                if not process.running:
                    raise process.failed()
                with contextlib.suppress(httpx.HTTPError):
                    response = await http.get(f"{self.addresses.operations[name]}/readyz")
                    if response.status_code == 200:
                        return
                    answer = response.text[:500]
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            if not limit.expired():
                raise
            raise EmbeddedError(
                f"{name} was not ready after {_READY_SECONDS:.0f} s; it says: {answer}\n"
                f"Its log is {process.log}; it ends:\n{process.last_words()}"
            ) from None

    async def supervise(self, say: Say) -> EmbeddedError:
        """Start anew each process that ends, with a sentence to ``say``, and return how one failed that a new start does not mend."""
        keeping = [asyncio.create_task(kept_up(process, say)) for process in self.processes.values()]
        try:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in keeping:
                task.cancel()
            # One that still started a process would leave it behind.
            await asyncio.gather(*keeping, return_exceptions=True)

    async def first_failure(self) -> EmbeddedError:
        """Wait until some service ends, by itself or not, and say which."""
        waiting = {asyncio.create_task(process.wait()): process for process in self.processes.values()}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return waiting[done.pop()].failed()
        finally:
            for task in waiting:
                task.cancel()


def _access(embedded: EmbeddedKafka | None, bootstrap: str) -> KafkaAccess:
    return KafkaAccess(bootstrap) if embedded is not None else outside(bootstrap)


@asynccontextmanager
async def local_bus(plan: Plan, say: Say = lambda _: None) -> AsyncIterator[LocalBus]:
    """Bring the bus up, and take it down again whatever happens. Raises EmbeddedError with one sentence and what to do."""
    plan.home.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        secrets = Secrets.load_or_make(plan.home / "secrets", plan.bus)
        ports = iter(_ports(plan))
        kafka_port = next(ports)
        kafka: EmbeddedKafka | None = None
        bootstrap, database = plan.kafka, plan.database
        if bootstrap is None:
            say("starting Kafka")
            kafka = EmbeddedKafka(plan.home / "kafka", kafka_port)
            bootstrap = await asyncio.to_thread(kafka.start)
            stack.push_async_callback(asyncio.to_thread, kafka.stop)
        if database is None:
            say("starting PostgreSQL")
            postgres = EmbeddedPostgres(plan.home / "postgres", durable=plan.durable)
            await asyncio.to_thread(postgres.start)
            stack.push_async_callback(asyncio.to_thread, postgres.stop)
            database = await asyncio.to_thread(postgres.url, "refbus")
        say("creating topics")
        log = KafkaLog(_access(kafka, bootstrap))
        try:
            await make_topics(log, plan.bus, plan.partitions, plan.replication)
        finally:
            await log.close()
        public = {name: next(ports) for name in _PUBLIC}
        names = [f"{service}-1" for service in SERVICES]
        names += [f"matching-{number}" for number in range(2, plan.matching_workers + 1)]
        operations = {name: next(ports) for name in names}
        addresses = Addresses(
            kafka=bootstrap,
            database=database,
            intake=f"http://127.0.0.1:{public['intake']}",
            queries=f"http://127.0.0.1:{public['projections']}",
            notifier=f"http://127.0.0.1:{public['notifier']}",
            operations={name: f"http://127.0.0.1:{port}" for name, port in operations.items()},
        )
        bus = LocalBus(plan, secrets, addresses, kafka)
        stack.push_async_callback(_stop_all, bus)
        for name in names:
            service = name.rpartition("-")[0]
            environment = {
                "REFBUS_BUS": plan.bus,
                "REFBUS_KAFKA": bootstrap,
                "REFBUS_DATABASE_URL": database,
                "REFBUS_DATA_DIR": str(plan.home / "state" / name),
                "REFBUS_PORT": str(public.get(service, 0)),
                "REFBUS_OPERATIONS_PORT": str(operations[name]),
                "REFBUS_REPLICATION": str(plan.replication),
                "REFBUS_QUERIES": addresses.queries,
                **secrets.environment(service),
                # What the environment says of a Kafka outside is not for the one that is embedded.
                **({"REFBUS_KAFKA_PROTOCOL": "PLAINTEXT"} if kafka is not None else {}),
                **plan.settings,
            }
            command = [sys.executable, "-m", f"services.{service}"]
            bus.processes[name] = ChildProcess(name, command, environment, plan.home / "logs" / f"{name}.log")
        say("starting the services")
        await asyncio.gather(*(process.start() for process in bus.processes.values()))
        await bus.ready(names)
        _write_addresses(plan.home, bus)
        yield bus


def ports_of(matching_workers: int) -> int:
    """How many ports a bus takes: Kafka's, those for parties, and one of operations for each process."""
    return 1 + len(_PUBLIC) + len(SERVICES) - 1 + matching_workers


def _ports(plan: Plan) -> list[int]:
    count = ports_of(plan.matching_workers)
    if plan.first_port is None:
        return free_ports(count)
    ports = list(range(plan.first_port, plan.first_port + count))
    taken = [port for port in ports if not is_free(port)]
    if taken:
        # Before anything is started: a service that finds its port taken would say so after half a minute.
        raise EmbeddedError(
            f"Port {', '.join(map(str, taken))} is taken by another program; ports {ports[0]} to {ports[-1]} are needed. "
            "Stop that program, or choose others with --first-port (make up UP_ARGS='--first-port 20000')."
        )
    return ports


async def _stop_all(bus: LocalBus) -> None:
    await asyncio.gather(*(process.stop() for process in bus.processes.values()))


def _write_addresses(home: Path, bus: LocalBus) -> None:
    """So that ``refbus submit`` in another terminal finds the bus that is up. The database's address has no password in it."""
    addresses = bus.addresses
    text = json.dumps(
        {
            "bus": bus.plan.bus,
            "kafka": addresses.kafka,
            "database": addresses.database,
            "intake": addresses.intake,
            "queries": addresses.queries,
            "notifier": addresses.notifier,
            "operations": addresses.operations,
        },
        indent=2,
    )
    (home / "addresses.json").write_text(text + "\n", encoding="utf-8")
