"""The peers' job (:mod:`benchmarks.peers.job`) in Faust: an agent with a Table, ``processing_guarantee="exactly_once"``.

The table is kept in memory with a changelog topic. The setting does not do what it says here: Faust 0.15 gives a message a transaction only
where its own consumer knows the topic, so the changelog is transactional and the answers are not (faust-streaming issues 177 and 517). It
is left as a user would write it, and the figures count the transaction markers on its output. It commits by a timer alone: "at once" is
20 ms, "in time" its own default of 2.8 s.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import faust

from benchmarks.peers.job import HEARTBEAT_MS, SESSION_MS, Job
from benchmarks.processes import collect_as_services_do

_AT_ONCE_SECONDS: Final = 0.02
_DEFAULT_SECONDS: Final = 2.8


def main(bootstrap: str, bus: str, source: str, target: str, services: str, committing: str) -> None:
    job = Job(Path(services))
    timer = _AT_ONCE_SECONDS if committing == "at-once" else _DEFAULT_SECONDS
    app = faust.App(
        f"peer-{bus}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        processing_guarantee="exactly_once",
        consumer_auto_offset_reset="earliest",
        topic_partitions=job.regions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(Path(services).parent / f"faust-{bus}"),
        broker_commit_interval=timer,
        broker_session_timeout=SESSION_MS / 1000,
        broker_heartbeat_interval=HEARTBEAT_MS / 1000,
    )
    inbox = app.topic(source, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    ledger = app.topic(target, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    held = app.Table("held", default=int, partitions=job.regions)

    @app.agent(inbox)
    async def decide(stream: faust.StreamT[Any]) -> None:
        async for event in stream.events():
            message = event.message
            now = int(message.timestamp * 1000)
            for value in job.decide(event.value, message.offset, now, held.__getitem__, held.__setitem__):
                await ledger.send(key=event.key, value=value, partition=message.partition)

    app.finalize()
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    collect_as_services_do()
    main(*sys.argv[1:7])
