"""A cluster of three brokers on this machine, for what one broker can't show."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from referral_bus.embedded.kafka import EmbeddedKafka, Seat, cluster_id
from referral_bus.embedded.ports import free_ports

BROKERS: Final = 3


@asynccontextmanager
async def cluster(of: type[EmbeddedKafka] = EmbeddedKafka) -> AsyncIterator[tuple[Path, list[EmbeddedKafka]]]:
    """Brokers that are controllers too, each on ports of its own, and a folder that is thrown away with all that is in it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refbus-bench-")))
        ports, id_ = free_ports(2 * BROKERS), cluster_id()
        numbers = range(1, BROKERS + 1)
        controllers = {
            number: f"127.0.0.1:{port}" for number, port in zip(numbers, ports[BROKERS:], strict=True)
        }
        brokers = [
            of(folder / f"kafka-{number}", port, Seat(number, "127.0.0.1", controllers, id_))
            for number, port in zip(numbers, ports[:BROKERS], strict=True)
        ]
        for broker in brokers:
            stack.push_async_callback(asyncio.to_thread, broker.stop)
        await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in brokers))
        yield folder, brokers
