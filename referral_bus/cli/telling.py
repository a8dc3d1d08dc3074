"""What a command found, told by its exit code, and to Prometheus by a file: a command ends before anybody could scrape it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile

from referral_bus.cli.errors import Rejected

FOUND: Final = 3
"""An exit code that says what was found, and that nothing else ends with: 1 is Python's for a fault of its own, and that of every command
which finds no Kafka. The chart knows it."""


def tell(path: Path, found: CollectorRegistry, done: str) -> None:
    """Write what was found for the textfile collector of a node exporter: the whole file at once, or none of it. Raises Rejected, which
    says what was ``done`` all the same."""
    try:
        write_to_textfile(str(path), found)
    except OSError as error:
        raise Rejected(f"{done}, but {path} can't be written: {error.strerror}.") from None
