"""What shows that a full disk was met: a line of a log that says that there was no space for something."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Final

_WORDS: Final = (b"No space left", b"DiskFull")
"""The operating system's, and what PostgreSQL's clients make of "could not extend file"."""
_LONGEST: Final = 300


class Refusals:
    """Looks in the logs in these folders for what is said from now on. A log may be begun anew, and may end in half a line: it may be on
    the disk that is full."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._read = {log: log.stat().st_size for log in self._logs()}

    def first(self) -> str | None:
        """A line of those that came since the last look, with the name of its log; None where none says that there was no space."""
        for log in self._logs():
            for line in self._new(log):
                if any(words in line for words in _WORDS):
                    return f"{log.name}: {line.decode(errors='replace')[:_LONGEST]}"
        return None

    def _logs(self) -> Iterable[Path]:
        return chain.from_iterable(
            folder.glob(name) for folder in self._folders for name in ("*.log", "*.out")
        )

    def _new(self, log: Path) -> list[bytes]:
        before = self._read.get(log, 0)
        with log.open("rb") as file:
            if file.seek(0, 2) < before:
                before = 0
            file.seek(before)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read[log] = before + len(whole)
        return whole.splitlines()
