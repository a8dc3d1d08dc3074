"""What Java learns of one run of the broker (JEP 514), kept once per user: with it a start takes a third of the time.

``python -m referral_bus.embedded.prepared`` makes it where there is none. Without it a broker starts all the same, only slower.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import EmbeddedKafka, class_path, java, learnt_at
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.server import explained

_STOP_SECONDS = 180.0


def prepare() -> Path:
    """The file of what Java learnt, made by running a broker where it is not there yet. Raises EmbeddedError."""
    learnt = learnt_at(java(), class_path())
    if learnt.exists():
        return learnt
    status = Console(stderr=True).status(
        "preparing Kafka (once per user), so that it starts faster from now on"
    )
    with (
        explained("Kafka"),
        tempfile.TemporaryDirectory(prefix="preparing-", dir=learnt.parent) as folder,
        status,
    ):
        fresh = Path(folder) / "fresh.aot"
        broker = EmbeddedKafka(Path(folder), free_ports(1)[0])
        broker.start(learn=fresh)
        broker.stop(_STOP_SECONDS)
        # Of another runtime or other jars, so that nobody can use them any more.
        for former in learnt.parent.glob("kafka-*.aot"):
            former.unlink()
        fresh.rename(learnt)
    return learnt


if __name__ == "__main__":
    try:
        prepare()
    except EmbeddedError as error:
        sys.exit(f"refbus: {error}")
