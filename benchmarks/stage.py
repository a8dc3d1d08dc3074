"""What all figures are measured on: one embedded broker and one embedded PostgreSQL, and a fresh bus for every run of anything."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from benchmarks.processes import Program
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import EmbeddedPostgres
from referral_bus.embedded.secrets import Secrets
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.topics import topics

PARTITIONS: Final = 8
ROOT: Final = Path(__file__).resolve().parents[1]
_READY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: ``runs`` of everything, and small sizes where ``quick``."""

    quick: bool
    runs: int

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass
class Service:
    """A running service of the bus, measured."""

    program: Program
    url: str
    operations: str

    async def ready(self, within: float = _READY_SECONDS) -> None:
        """Wait until it says that it is ready. Raises EmbeddedError where it ended, TimeoutError where it takes too long."""
        async with asyncio.timeout(within), httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
            while True:
                if not self.program.running:
                    raise self.program.failed()
                try:
                    if (await http.get(f"{self.operations}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass  # it does not listen yet: the limit above ends the waiting
                await asyncio.sleep(0.02)

    async def gauge(self, name: str) -> tuple[float, int]:
        """The sum of a metric over its labels, and how many there are: one for each partition that is loaded."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
            text = (await http.get(f"{self.operations}/metrics")).text
        values = [
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{")
        ]
        return sum(values), len(values)


@dataclass
class Stage:
    """The broker, the database, and the secrets. ``folder`` is thrown away with all that is in it."""

    folder: Path
    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    secrets: Secrets
    log: KafkaLog
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    async def bus(self, partitions: int = PARTITIONS) -> str:
        """A bus of its own, with its topics: its id."""
        bus = f"bench-{next(self._numbers)}"
        await self.log.ensure(topics(bus, partitions=partitions, replication=1))
        return bus

    async def database(self, name: str) -> str:
        """The address of a database, made where it is missing."""
        return await asyncio.to_thread(self.postgres.url, name)

    def service(self, name: str, bus: str, database: str, **settings: str | int | float) -> Service:
        """A service of the bus, as it is run for real, not started yet. ``settings`` are further ones by name."""
        port, operations = free_ports(2)
        state = self.folder / "state" / f"{bus}-{name}"
        environment = {
            "REFBUS_BUS": bus,
            "REFBUS_KAFKA": self.bootstrap,
            "REFBUS_DATABASE_URL": database,
            "REFBUS_DATA_DIR": str(state),
            "REFBUS_PORT": str(port),
            "REFBUS_OPERATIONS_PORT": str(operations),
            "REFBUS_LOG_LEVEL": "WARNING",
            **self.secrets.environment(name),
            **{f"REFBUS_{key.upper()}": str(value) for key, value in settings.items()},
        }
        program = self._program(f"services.{name}", [], environment)
        return Service(program, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{operations}")

    def program(self, module: str, *words: str | int | Path) -> Program:
        """A program of the benchmarks, not started yet."""
        return self._program(f"benchmarks.{module}", [str(word) for word in words], {})

    def command(self, name: str, *words: str | Path) -> Program:
        """Any other program, not started yet."""
        log = self.folder / "logs" / f"{next(self._numbers)}-{name}.log"
        return Program(name, [str(word) for word in words], {}, log)

    def _program(self, module: str, words: list[str], environment: dict[str, str]) -> Program:
        log = self.folder / "logs" / f"{next(self._numbers)}-{module}.log"
        command = [sys.executable, "-W", "ignore", "-m", module, *words]
        return Program(module, command, {"PYTHONPATH": str(ROOT), **environment}, log)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """Start broker and database, and stop them again whatever happens. Raises EmbeddedError."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refbus-bench-")))
        kafka = EmbeddedKafka(folder / "kafka", free_ports(1)[0])
        stack.push_async_callback(asyncio.to_thread, kafka.stop)
        postgres = EmbeddedPostgres(folder / "postgres")
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        await asyncio.gather(asyncio.to_thread(kafka.start), asyncio.to_thread(postgres.start))
        log = KafkaLog(kafka.bootstrap)
        stack.push_async_callback(log.close)
        secrets = Secrets.load_or_make(folder / "secrets", "bench")
        yield Stage(folder, kafka, postgres, secrets, log)
