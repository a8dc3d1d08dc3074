"""Disks that can be filled: a small file system in memory for each part that keeps something."""

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
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "refbus", str(folder)],
            check=True,
            capture_output=True,
        )
        self._filler = folder / _FILLER

    def fill(self) -> None:
        """To the last byte, and again where something was let go of."""
        with self._filler.open("ab", buffering=0) as file:
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
