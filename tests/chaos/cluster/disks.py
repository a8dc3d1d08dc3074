"""Disks that can be filled: a small file system for each part that keeps something, on a file where the machine can do that, so that what
is written through to the disk takes its time; in memory, where that takes none, elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

_CHUNK: Final = 1024 * 1024
_FILLER: Final = "filler"


class Disk:
    """A file system of ``megabytes`` mounted on ``folder``."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.in_memory = not _mounted_on_a_file(folder, megabytes)
        if self.in_memory:
            _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "refbus", str(folder))
        self._filler = folder / _FILLER

    def fill(self) -> None:
        """To the last byte, and again where something was let go of. Most of it is set aside, which takes no time; the rest is written."""
        with self._filler.open("ab", buffering=0) as file:
            left = os.statvfs(self._filler)
            size = left.f_bavail * left.f_frsize
            while size >= _CHUNK:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                except OSError:
                    size //= 2
            for size in (_CHUNK, 4096, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Let go of what it was filled with."""
        if self._filler.exists():
            os.unlink(self._filler)


def _mounted_on_a_file(folder: Path, megabytes: int) -> bool:
    """Whether that could be done: it needs ext4's tools and a free loop device, which goes with the mount."""
    image = folder.with_name(f"{folder.name}.image")
    with image.open("wb") as file:
        file.truncate(megabytes * _CHUNK)
    try:
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
    except (OSError, subprocess.CalledProcessError):
        image.unlink()
        return False
    (folder / "lost+found").rmdir()  # the database takes an empty folder only
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
