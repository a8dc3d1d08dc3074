"""The peers' job (:mod:`benchmarks.peers.job`) in Quix Streams: a stateful dataframe on its RocksDB state with a changelog, exactly-once.

"At once" commits every message, since it can't commit a batch as soon as there is one; "in time" is its own default of 5 s, which favours
throughput.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context

from benchmarks.peers.job import HEARTBEAT_MS, SESSION_MS, Job
from benchmarks.processes import collect_as_services_do


def main(bootstrap: str, bus: str, source: str, target: str, services: str, committing: str) -> None:
    job = Job(Path(services))
    every = {"commit_every": 1, "consumer_poll_timeout": 0.1} if committing == "at-once" else {}
    app = Application(
        bootstrap,
        consumer_group=f"peer-{bus}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=Path(services).parent / f"quix-{bus}",
        loglevel="WARNING",
        consumer_extra_config={"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS},
        # Its own is a new one at each start, and a transaction that was killed would hold readers up for a minute.
        producer_extra_config={"transactional.id": f"peer-{bus}"},
        **every,
    )
    inbox = app.topic(source, key_deserializer="bytes", value_deserializer="bytes")
    ledger = app.topic(target, key_serializer="bytes", value_serializer="bytes")

    def decide(value: bytes, _key: Any, timestamp: int, _headers: Any, state: State) -> list[bytes]:
        def used(unit: str) -> int:
            held: Any = state.get(unit, default=0)
            return int(held)

        return job.decide(value, message_context().offset, timestamp, used, state.set)

    app.dataframe(inbox).apply(decide, stateful=True, expand=True, metadata=True).to_topic(ledger)
    app.run()


if __name__ == "__main__":
    collect_as_services_do()
    main(*sys.argv[1:7])
