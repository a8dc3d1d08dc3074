"""A machine's disk in memory: it outlives the processes on it, and can be slow, full, worn out, or lose what it said that it holds."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

PAGE: Final = 512


@dataclass(frozen=True)
class _File:
    content: bytes
    is_held: bool = False
    """Whether it would outlast a loss of power."""


_Names = dict[Path, _File]


class MemoryDisk:
    """As :class:`services.matching.disk.LocalDisk`. What is asked of it takes a while, one thing after the other, and whoever is killed
    meanwhile leaves it half done. A loss of power takes what was not synced, or a page of it, and perhaps the latest change of a name."""

    def __init__(self, draw: random.Random, told: Callable[[str], None]) -> None:
        self.is_slow = self.is_full = self.is_worn = False
        self.is_honest = True
        """Else it says that it holds what it has not written down yet."""
        self._draw, self._told = draw, told
        self._names: _Names = {}
        self._before_names_changed: _Names = {}
        self._turn = asyncio.Lock()
        self._steps: list[_Names] = []
        """While something is under way: what there was before, and after each step of it."""

    # What snapshots ask for

    async def aside(self, work: Callable[[], T]) -> T:
        async with self._turn:
            before = self._names
            self._steps = [before]
            try:
                result = work()
            finally:
                # It is done step by step while time passes, though here at once.
                after, self._names = self._names, before
                try:
                    slow = self.is_slow and self._draw.random() < 0.5
                    await asyncio.sleep(
                        self._draw.uniform(0.3, 4.0) if slow else self._draw.uniform(0.001, 0.01)
                    )
                finally:
                    # Nor does a thread stop where nobody waits for it any more.
                    self._names, self._steps = after, []
            return result

    def read(self, path: Path) -> bytes:
        self._may(path)
        return self._named(path).content

    def write(self, path: Path, content: Iterable[bytes]) -> None:
        self._may(path)
        written = b""
        self._set({path: _File(written)})
        for chunk in content:
            if self.is_full and self._draw.random() < 0.5:
                part = chunk[: self._draw.randrange(len(chunk) + 1)]
                self._set({path: _File(written + part)})
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            written += chunk
            self._set({path: _File(written)})
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self._set({path: _File(written, is_held=self.is_honest)})

    def replace(self, path: Path, target: Path) -> None:
        self._may(path)
        moved = self._named(path)
        self._before_names_changed = self._names
        self._set({target: moved}, without=path)

    def remove(self, path: Path) -> None:
        self._may(path)
        if path in self._names:
            self._before_names_changed = self._names
            self._set({}, without=path)

    def _may(self, path: Path) -> None:
        if self.is_worn:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def _named(self, path: Path) -> _File:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._names[path]

    def _set(self, changed: _Names, without: Path | None = None) -> None:
        self._names = {name: file for name, file in self._names.items() if name != without} | changed
        self._steps.append(self._names)

    # What goes wrong

    def killed(self) -> None:
        """The process is gone, and whatever it was at is as far as it came."""
        if self._steps:
            self._names = self._draw.choice(self._steps)
        self._steps, self._turn = [], asyncio.Lock()

    def loses_power(self) -> None:
        """And what the disk does not hold is gone too, or comes back torn."""
        self.killed()
        if self._before_names_changed and self._draw.random() < 0.3:
            self._names = self._before_names_changed
        for path, file in sorted(self._names.items()):
            if not file.is_held and file.content:
                self._told(f"{path.name} comes back torn")
                self._names = self._names | {path: self._torn(file)}
        self._names = {path: replace(file, is_held=True) for path, file in self._names.items()}
        self._before_names_changed = {}

    def rots(self) -> None:
        """A bit of each thing that has long been written is another one."""
        for path, file in sorted(self._names.items()):
            if file.content:
                content = bytearray(file.content)
                content[self._draw.randrange(len(content))] ^= 1 << self._draw.randrange(8)
                self._told(f"a bit of {path.name} turns")
                self._names = self._names | {path: _File(bytes(content), is_held=True)}

    def heals(self) -> None:
        self.is_slow = self.is_full = self.is_worn = False
        self.is_honest = True

    def _torn(self, file: _File) -> _File:
        """Cut off, or with a page that never arrived."""
        at, length = self._draw.randrange(len(file.content)), len(file.content)
        if self._draw.random() < 0.5:
            return _File(file.content[:at])
        return _File((file.content[:at] + bytes(PAGE) + file.content[at + PAGE :])[:length])
