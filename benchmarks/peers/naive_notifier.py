"""``python -m benchmarks.peers.naive_notifier BOOTSTRAP TOPIC ADDRESSES``: webhooks as one would first write them, until it is ended.

The ledger is read and each event posted to whom it concerns, one after the other. ADDRESSES is a JSON file: URL by ``organisation role``.
Less than the bus does: it does not decide who may hear what, shows nothing of the person, records no release, signs nothing, remembers
nothing it delivered (so a restart would begin anew), and tries nothing twice.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import uvloop

from benchmarks.heard import Heard, heard_of
from benchmarks.outside import Reading, reading
from benchmarks.processes import collect_as_services_do

SECONDS = 10.0
"""How long it waits for an answer: as long as the bus does."""


async def run(bootstrap: str, topic: str, addresses: dict[str, str]) -> None:
    decoding, agencies = Reading(), dict[str, str]()
    async with (
        reading(bootstrap, topic) as consumer,
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as http,
    ):
        while True:
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                for message in messages:
                    for one in heard_of(decoding.datum(message.value), agencies):
                        await _post(http, addresses[one.name], f"{topic} {one.id}", one)


async def _post(http: httpx.AsyncClient, url: str, id: str, one: Heard) -> None:
    with suppress(httpx.HTTPError):  # and on to the next
        await http.post(url, json=one.content, headers={"webhook-id": id})


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))))
