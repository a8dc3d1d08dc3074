"""The broker's jars: named by their coordinates, pinned by SHA-256, fetched once per user.

``python -m referral_bus.embedded.download`` resolves the coordinates anew and prints the lock file that pins them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jgo.maven import Artifact, MavenContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.server import explained

_LOCK = "kafka.lock"
_ROOTS = (
    "org.apache.kafka:kafka_2.13:4.4.0",
    # Without this one beside it the logging binding's parent pulls the clients down to a version the broker can't run with.
    "org.apache.kafka:kafka-clients:4.4.0",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",
)
_REQUEST_SECONDS = 60
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar."""

    coordinate: str
    sha256: str

    @property
    def artifact(self) -> str:
        return self.coordinate.split(":")[1]

    @property
    def version(self) -> str:
        return self.coordinate.split(":")[2]

    def found_in(self, context: MavenContext) -> Artifact:
        group, artifact, version = self.coordinate.split(":")
        return context.project(group, artifact).at_version(version).artifact()


def pinned() -> list[Jar]:
    """The jars of the broker, in the order of the class path."""
    return read_lock(files("referral_bus.embedded").joinpath(_LOCK).read_text(encoding="ascii"))


def read_lock(text: str) -> list[Jar]:
    """The jars of a lock file, in its order."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, sha256) for coordinate, sha256 in lines]


def cache_folder() -> Path:
    """Where downloads are kept: ``REFBUS_CACHE``, else ``refbus`` in the user's cache folder."""
    if chosen := os.environ.get("REFBUS_CACHE"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "refbus"


def fetch(jars: Sequence[Jar], cache: Path) -> list[Path]:
    """The files of the jars, each with the pinned hash: what is missing or broken in the cache is downloaded, with progress on stderr.

    Raises EmbeddedError when the network can't be reached, the disk is full, or what comes is not what was pinned.
    """
    with explained("the download of Kafka"):
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / ".lock"):
            context = MavenContext(repo_cache=cache / "jars", timeout=_REQUEST_SECONDS)
            artifacts = {jar: jar.found_in(context) for jar in jars}
            paths = {jar: _cached(artifact) for jar, artifact in artifacts.items()}
            wanted = [jar for jar in jars if not _intact(paths[jar], jar.sha256)]
            for jar in wanted:
                paths[jar].unlink(missing_ok=True)
            if wanted:
                _download([(jar, artifacts[jar]) for jar in wanted])
            return [paths[jar] for jar in jars]


def _download(wanted: Sequence[tuple[Jar, Artifact]]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(_AT_ONCE) as pool:
        task = progress.add_task("fetching Kafka (jars, once per user)", total=len(wanted))
        for _ in pool.map(lambda one: _download_one(*one), wanted):
            progress.advance(task)


def _download_one(jar: Jar, artifact: Artifact) -> None:
    try:
        path = artifact.resolve()
    except OSError as error:
        if error.errno is not None:
            raise
        # The client's own text names the registry's address; a newcomer needs what to do.
        raise EmbeddedError(
            f"{jar.coordinate} could not be fetched: the network or the package registry can't be reached. "
            "Check the connection (and HTTPS_PROXY, if there is one) and run this again: what is already here is kept."
        ) from error
    except RuntimeError as error:
        raise EmbeddedError(
            f"{jar.coordinate} could not be fetched: the package registry does not give it. "
            "Run this again later; if that goes on, see that nothing between here and the registry blocks it."
        ) from error
    if not _intact(path, jar.sha256):
        path.unlink(missing_ok=True)
        raise EmbeddedError(
            f"{jar.coordinate} came with other content than pinned, so it was thrown away. "
            "Run this again; if it happens again, something between here and the registry changes what it sends."
        )


def _cached(artifact: Artifact) -> Path:
    path = artifact.cached_path
    if path is None:
        raise RuntimeError(f"{artifact} has no place in the cache")
    return path


def _intact(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that held it."""
    with path.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def print_lock(roots: Sequence[str], module: str) -> None:
    """Resolve coordinates and all they need from the registry, and print the lock file that pins them. ``module`` is who writes it."""
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=_REQUEST_SECONDS)
        inputs, others = context.resolver.resolve([context.create_dependency(root) for root in roots])
        artifacts = [dependency.artifact for dependency in (*inputs, *others)]
        jars = [
            Jar(
                f"{a.groupId}:{a.artifactId}:{a.version}",
                hashlib.sha256(a.resolve().read_bytes()).hexdigest(),
            )
            for a in artifacts
        ]
    sys.stdout.write(f"# coordinate sha256; written by `python -m {module}`\n")
    sys.stdout.writelines(f"{jar.coordinate} {jar.sha256}\n" for jar in jars)


if __name__ == "__main__":
    print_lock(_ROOTS, "referral_bus.embedded.download")
