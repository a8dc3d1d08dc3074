"""The folder of a local bus: its data, secrets, logs, and who is running it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.runtime.settings import variable

Home = Annotated[
    Path,
    typer.Option("--home", envvar="REFBUS_HOME", help="Where this bus keeps its data, secrets and logs."),
]


def local_settings(home: Path, *secrets: str) -> dict[str, str]:
    """What a command that looks into the bus of this home needs for its settings: where it is, and the named secrets of its folder.

    Empty where no bus ever ran in this home; what the environment says already is left out, so that it counts.
    """
    path = home / "addresses.json"
    if not path.exists():
        return {}
    addresses = json.loads(path.read_text(encoding="utf-8"))
    found = {"bus": addresses["bus"], "kafka": addresses["kafka"], "database_url": addresses["database"]}
    for name in secrets:
        found[name] = (home / "secrets" / name).read_text(encoding="utf-8").strip()
    return {
        name: value
        for name, value in found.items()
        if not {variable(name), f"{variable(name)}_FILE"} & os.environ.keys()
    }


class Pid:
    """Holds a home for one process. The lock goes with the process, however it ends, so nothing stale is left to clean up."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        self._file = (self._home / "pid").open("a+", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise EmbeddedError(
                f"A bus is up in {self._home} already. Stop it with 'refbus down', or name another folder with --home."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.truncate(0)
        self._file.close()

    @staticmethod
    def running(home: Path) -> int | None:
        """The process that holds the home now, or None."""
        path = home / "pid"
        if not path.exists():
            return None
        with path.open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or 0) or None
        return None
