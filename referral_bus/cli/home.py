"""The folder of a local bus: its data, secrets, logs, and who is running it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, ClassVar, Final, Self

import typer
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from referral_bus.cli.errors import Rejected
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.runtime.settings import PREFIX, Settings, variable

Home = Annotated[
    Path,
    typer.Option("--home", envvar="REFBUS_HOME", help="Where this bus keeps its data, secrets and logs."),
]


class OperationsSettings(Settings):
    """What the commands of operations take their settings from: one table of a file, whichever of them each needs."""

    service: ClassVar[str] = "operations"

    operations_key: SecretStr | None = None
    """The private JWK of operations, which dead letters are sealed to."""
    operations: dict[str, Annotated[str, Field(pattern=r"^https?://\S+$")]] = Field(default={})
    """The operations listener of each process of the services, by a name for it, where ``doctor`` asks whether it is ready."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a home knows of the bus that runs or ran in it."""

    bus: str
    kafka: str
    database: str
    intake: str
    queries: str
    notifier: str
    operations: dict[str, str]


_ADDRESSES: Final = TypeAdapter(Addresses)


def addresses(home: Path) -> Addresses | None:
    """The addresses of the local bus; None where none ever ran in this home. Raises Rejected."""
    path = home / "addresses.json"
    try:
        return _ADDRESSES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise Rejected(f"{path} is not readable as the addresses of a bus. Run 'refbus up' again.") from None


def local_settings(home: Path, *secrets: str) -> dict[str, str]:
    """What a command that looks into the bus of this home needs for its settings: where it is, and those of the named secrets that its
    folder holds. Raises Rejected.

    Empty where no bus ever ran in this home, or a file of settings says which bus is meant; what the environment says already is left
    out, so that it counts.
    """
    if os.environ.get(f"{PREFIX}CONFIG") or (here := addresses(home)) is None:
        return {}
    found = {"bus": here.bus, "kafka": here.kafka, "database_url": here.database}
    for name in secrets:
        path = home / "secrets" / name
        if path.exists():
            found[name] = path.read_text(encoding="utf-8").strip()
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
