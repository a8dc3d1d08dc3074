"""``refbus backup`` and ``refbus restore``: topics and database out to files, and back from them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress, TaskID

from referral_bus.backup.cluster import Cluster, cluster
from referral_bus.backup.database import Database
from referral_bus.backup.database_alone import restore_database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Folder
from referral_bus.backup.restoring import restore as bring_back
from referral_bus.backup.taking import take
from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home, OperationsSettings, local_settings
from referral_bus.cli.telling import tell
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.postgres import programs_folder
from referral_bus.runtime.metrics import BACKUP_BYTES, BACKUP_FINISHED, BACKUP_SECONDS, BACKUPS
from referral_bus.wire.codec import Codec

Where = Annotated[Path, typer.Argument(help="The folder of the backup.", file_okay=False)]
Programs = Annotated[
    Path | None,
    typer.Option(
        help="The folder of pg_dump and psql; otherwise the embedded ones or those on the path.", exists=True
    ),
]

errors = Console(stderr=True)


class BackupSettings(OperationsSettings):
    """What a backup needs: Kafka, and the database as a user who may read all schemas of the bus, or make them."""

    database_url: SecretStr


@dataclass(frozen=True, slots=True)
class _Place:
    bus: str
    kafka: Cluster
    database: Database


def backup(
    folder: Where,
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="Once it is whole, write when, how long and how large to this file (.prom), for Prometheus' node exporter."
        ),
    ] = None,
    programs: Programs = None,
    home: Home = Path(".refbus"),
) -> None:
    """Copy topics and database to a new folder, while the bus runs. The secrets of the bus are not in it."""
    began = time.monotonic()

    async def work() -> None:
        async with _place(home, programs) as place:
            with _progress() as progress:
                taken = await take(place.kafka, place.database, Folder(folder), place.bus, progress)
        count = sum(partition.records for partitions in taken.topics.values() for partition in partitions)
        print(f"{count} records of {len(taken.topics)} topics and {len(taken.files)} files are in {folder}.")

    _run(work)
    if metrics is not None:
        BACKUP_FINISHED.set_to_current_time()
        BACKUP_SECONDS.set(time.monotonic() - began)
        BACKUP_BYTES.set(Folder(folder).size())
        tell(metrics, BACKUPS, "The backup is whole")


def restore(
    folder: Where,
    forgotten: Annotated[
        Path | None,
        typer.Option(
            help="A list of pseudonyms, one a line, whose keys are destroyed at once: the forgotten.txt of a later backup.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(help="Copies of each topic, where it is not to have as many as it had.", min=1, max=10),
    ] = None,
    database_alone: Annotated[
        bool, typer.Option("--database-alone", help="Kafka has lost nothing: bring back the database only.")
    ] = False,
    programs: Programs = None,
    home: Home = Path(".refbus"),
) -> None:
    """Bring a backup back, into an empty Kafka and an empty database, while no service runs."""
    subjects = _subjects(forgotten)

    async def work() -> None:
        async with _place(home, programs) as place:
            parts = place.kafka, place.database, Folder(folder), Codec.load()
            given = await place.database.rights()
            with _progress() as progress:
                if database_alone:
                    back = await restore_database(*parts, progress, forgotten=subjects)
                    said = "The database is back, and goes on where Kafka is."
                else:
                    back = await bring_back(*parts, progress, replication=replication, forgotten=subjects)
                    count = sum(one.records for partitions in back.topics.values() for one in partitions)
                    said = f"{count} records of {len(back.topics)} topics and the database are back."
                    if replication is None and not back.replicas:
                        said += (
                            "\nThis backup doesn't say how many copies the topics had: each has one. If they had more, reassign "
                            "their partitions (kafka-reassign-partitions.sh), or restore again with --replication."
                        )
        print(said)
        if subjects:
            print(f"The keys of {len(subjects)} forgotten persons are destroyed.")
        if missing := [one for one in back.rights if one not in given]:
            print("The former database had given what this one has not. In place of DATABASE say its name:")
            print("".join(f"  {one};\n" for one in missing), end="")
            print("Give, as a superuser, what is still wanted of it before the services start.")
        print("Start the services, then run 'refbus verify' and 'refbus check-views'.")

    _run(work)


def _subjects(path: Path | None) -> list[str]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path is not None else []
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(r"sj-[a-z2-7]{26}", line):
            raise Rejected(f"Line {number} of {path} is no pseudonym (sj-...): nothing was restored.")
    return sorted(set(lines))


@asynccontextmanager
async def _place(home: Path, programs: Path | None) -> AsyncIterator[_Place]:
    settings = BackupSettings.load(**local_settings(home))
    database = Database(settings.database_url.get_secret_value(), programs or _embedded())
    async with cluster(settings.kafka_access()) as kafka:
        yield _Place(settings.bus, kafka, database)


def _embedded() -> Path | None:
    try:
        return programs_folder()
    except EmbeddedError:
        return None


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        asyncio.run(work())
    except BackupError as error:
        raise Rejected(f"{error}.") from None


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what)
        self._bars.update(self._tasks[what], completed=done, total=max(1, total))


@contextmanager
def _progress() -> Iterator[_Bars]:
    with Progress(console=errors, transient=True) as bars:
        yield _Bars(bars)
