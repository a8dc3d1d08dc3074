"""A service whose clock somebody sets wrong: ``python -m tests.chaos.cluster.skewed SERVICE FILE``.

It is the service, with a clock injected that adds the milliseconds in FILE to the machine's time; no file, no difference.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from referral_bus.runtime.clock import SystemClock
from referral_bus.runtime.service import run

_LOOK_SECONDS: Final = 0.2


class SkewedClock(SystemClock):
    """Reads its skew from a file, a few times a second at most."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._skew = 0
        self._looked_at = float("-inf")

    def now(self) -> int:
        if time.monotonic() > self._looked_at + _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._skew = int(self._file.read_text()) if self._file.exists() else 0
        return super().now() + self._skew


def set_wrong(file: Path, millis: int) -> None:
    """Set the clock that reads ``file`` wrong by so much; 0 sets it right."""
    fresh = file.with_suffix(".new")
    fresh.write_text(str(millis))
    fresh.replace(file)


def main(service: str, file: str) -> None:
    settings = getattr(import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings")
    build = import_module(f"services.{service}.service").build
    run(settings.load_or_exit(), partial(build, clock=SkewedClock(Path(file))))


if __name__ == "__main__":
    main(*sys.argv[1:])
