"""``python -m benchmarks.load BOOTSTRAP BUS FOLDER none|use|make``: load matching's state as its worker does, and say how long it took.

All partitions are loaded side by side in this one process.
``use`` takes the snapshots in FOLDER, ``make`` puts them there afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.processes import collect_as_services_do, own_cpu, tell
from benchmarks.stage import PARTITIONS
from referral_bus.log.kafka import KafkaLog
from referral_bus.runtime.clock import SystemClock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.sealing.jwe import new_encryption_keys, public_part
from referral_bus.sealing.memory import MemoryKeyStore
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from services.matching.facts import FactsOpener
from services.matching.partition import PartitionWork
from services.matching.snapshots import Snapshots


async def run(bootstrap: str, bus: str, folder: Path, snapshots: str) -> None:
    codec, clock = Codec.load(), SystemClock()
    kept = Snapshots(folder, bus)
    operations = public_part(new_encryption_keys().private)
    log = KafkaLog(bootstrap)
    works = [
        PartitionWork(
            log=log,
            bus=bus,
            partition=number,
            codec=codec,
            opener=FactsOpener(MemoryKeyStore(), Sealer(codec)),
            dead_letters=DeadLetters(bus, "matching", operations, codec, clock),
            clock=clock,
            snapshots=kept if snapshots == "use" else None,
        )
        for number in range(PARTITIONS)
    ]
    cpu, began = own_cpu(), time.perf_counter()
    await asyncio.gather(*(work.load(lambda _: None) for work in works))
    seconds, used = time.perf_counter() - began, own_cpu() - cpu
    if snapshots == "make":
        for work in works:
            await work.capture()
            captured = work.captured()
            if captured is not None:
                await kept.save(captured)
    await log.close()
    states = [chain.state for work in works for chain in work.chains.values()]
    gc.collect()
    tell(
        seconds=seconds,
        cpu=used,
        events=sum(state.sequence for state in states),
        open=sum(len(state.referrals) for state in states),
    )


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
