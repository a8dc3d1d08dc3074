"""A process that reads a stream until both hands of the consumer's thread hang, as a child of a test: ``hanging BOOTSTRAP GROUP TOPIC``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from referral_bus.log.port import Record
from services.notifier import stream
from services.notifier.stream import LedgerStream, StreamStopped


async def main(bootstrap: str, group: str, topic: str) -> str:
    """Say ``heard``, and ``hangs`` and the lag of partition 0 once there is some. Returns why the stream ended."""

    heard = asyncio.Event()

    async def handle(records: Sequence[Record]) -> None:
        print("heard", *(record.value for record in records), flush=True)
        heard.set()

    async def hangs() -> None:
        await asyncio.Event().wait()

    ledger = LedgerStream(bootstrap, group, topic, handle)
    running = asyncio.create_task(ledger.run())
    await heard.wait()
    assert ledger._app is not None
    thread = stream._reading(ledger._app)
    hanging = [asyncio.create_task(thread.call_thread(hangs)) for _ in range(2)]
    # A fetch that is under way ends before both hang.
    await asyncio.sleep(2.0)
    print("hangs", flush=True)
    while not (lag := await ledger.lag()).get(0):
        await asyncio.sleep(0.05)
    print("lag", lag[0], flush=True)
    try:
        await running
    except StreamStopped as stopped:
        return str(stopped)
    finally:
        for one in hanging:
            one.cancel()
    return "it ended by itself"


if __name__ == "__main__":
    stream.STALLED_SECONDS = 3.0  # type: ignore[misc]
    print("stopped:", asyncio.run(main(*sys.argv[1:])), flush=True)
