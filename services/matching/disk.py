"""The disk as snapshots need it: whole files, kept by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

_Got = TypeVar("_Got")


class Disk(Protocol):
    """Everything but :meth:`aside` blocks, and belongs into what that runs. Anything raises OSError: a disk can be full or worn out."""

    async def aside(self, work: Callable[[], _Got]) -> _Got:
        """Run what takes a while beside the event loop."""

    def read(self, path: Path) -> bytes:
        """The whole content. Raises FileNotFoundError."""

    def write(self, path: Path, content: Iterable[bytes]) -> None:
        """Make the file anew, its owner's alone to read, and its folder; returns once it would outlast a loss of power. Where it raises,
        some of it may be there."""

    def replace(self, path: Path, target: Path) -> None:
        """Give the file the target's name, at once. Raises FileNotFoundError."""

    def remove(self, path: Path) -> None:
        """Delete the file, if there is one."""


class LocalDisk:
    """The machine's own file system, in a thread."""

    async def aside(self, work: Callable[[], _Got]) -> _Got:
        return await asyncio.to_thread(work)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def write(self, path: Path, content: Iterable[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())

    def replace(self, path: Path, target: Path) -> None:
        path.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
