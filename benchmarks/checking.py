"""``python -m benchmarks.checking BOOTSTRAP BUS DATABASE``: what ``refbus check-views`` does, and how long and how much memory it took."""

from __future__ import annotations

import sys
import time

import uvloop

from benchmarks.processes import collect_as_services_do, own_cpu, tell
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from services.projections.check import compare

_PATIENCE_SECONDS = 60.0


async def run(bootstrap: str, bus: str, database: str) -> None:
    engine, log = new_engine(database), KafkaLog(bootstrap)
    cpu, began = own_cpu(), time.perf_counter()
    try:
        found = await compare(engine, log, topics.ledger(bus), Codec.load(), _PATIENCE_SECONDS)
    finally:
        await log.close()
        await engine.dispose()
    tell(
        seconds=time.perf_counter() - began,
        cpu=own_cpu() - cpu,
        different=found.different,
        referrals=found.rows["referrals"],
    )


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(*sys.argv[1:4]))
