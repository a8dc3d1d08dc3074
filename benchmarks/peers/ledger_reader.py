"""``python -m benchmarks.peers.ledger_reader BOOTSTRAP TOPIC drop|keep``: read a ledger with aiokafka, decode each record with fastavro.

``drop`` does nothing with it; ``keep`` has the events of each open referral in a dictionary, the plainest state there is.

Less than matching does: nothing is validated, no hash is compared, no place is counted, no repeat is remembered.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import uvloop

from benchmarks.outside import Reading, every_record
from benchmarks.processes import collect_as_services_do, own_cpu, tell


async def run(bootstrap: str, topic: str, what: str) -> None:
    reading = Reading()
    kept: dict[str, list[Any]] = {}
    count = 0
    cpu, began = own_cpu(), time.perf_counter()
    async for message in every_record(bootstrap, topic):
        datum = reading.datum(message.value)
        count += 1
        if what == "keep":
            referral = datum.fields.get("referral")
            if datum.name == "ReferralClosed":
                kept.pop(referral or "", None)
            elif referral:
                kept.setdefault(referral, []).append(datum)
    tell(
        seconds=time.perf_counter() - began,
        cpu=own_cpu() - cpu,
        events=count,
        open=len(kept),
    )


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(*sys.argv[1:4]))
