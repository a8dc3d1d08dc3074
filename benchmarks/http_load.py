"""``python -m benchmarks.http_load URL FILE LABEL one|batch``: put referrals to an intake, and say how long it took.

FILE is JSON lines, each an agency with its token and a request. LABEL makes ids and people those of this run. ``one`` sends each in a
request of its own over 32 connections, ``batch`` a hundred CloudEvents in each request over 4. Bodies are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import uvloop

from benchmarks.processes import collect_as_services_do, own_cpu, tell
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.wire.cloudevents import BATCH

CONNECTIONS: Final = {"one": 32, "batch": 4}
EVENTS_A_BATCH: Final = 100
_SECONDS: Final = 300.0


class Prepared(NamedTuple):
    """A request ready to be sent, and how many referrals are in it."""

    path: str
    headers: dict[str, str]
    body: bytes
    referrals: int


def prepared(file: Path, label: str, how: str) -> list[Prepared]:
    """The requests, in their order."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["id"] = f"{label}-{number}"
        line["request"]["subject"] = f"{label}-{line['request']['subject']}"
    return list(_ones(lines) if how == "one" else _batches(lines))


def _ones(lines: list[dict[str, Any]]) -> Iterator[Prepared]:
    for line in lines:
        headers = {
            "authorization": f"Bearer {line['token']}",
            "content-type": "application/json",
            "idempotency-key": line["id"],
        }
        yield Prepared("/v1/referrals", headers, json.dumps(line["request"]).encode(), 1)


def _batches(lines: list[dict[str, Any]]) -> Iterator[Prepared]:
    # An organisation speaks for itself alone, so a batch is of one agency.
    lines.sort(key=lambda line: str(line["agency"]))
    for agency, group in groupby(lines, lambda line: line["agency"]):
        own = list(group)
        for start in range(0, len(own), EVENTS_A_BATCH):
            some = own[start : start + EVENTS_A_BATCH]
            events = [
                {
                    "specversion": "1.0",
                    "id": line["id"],
                    "source": f"/organisations/{agency}",
                    "type": SubmitReferral.event_type(),
                    "datacontenttype": "application/json",
                    "data": line["request"],
                }
                for line in some
            ]
            headers = {"authorization": f"Bearer {some[0]['token']}", "content-type": BATCH}
            yield Prepared("/v1/events", headers, json.dumps(events).encode(), len(some))


async def run(url: str, file: Path, label: str, how: str) -> None:
    requests = prepared(file, label, how)
    taken = refused = 0
    took: list[float] = []
    line = iter(requests)

    async def client(http: aiohttp.ClientSession) -> None:
        nonlocal taken, refused
        for request in line:
            began = time.perf_counter()
            async with http.post(url + request.path, data=request.body, headers=request.headers) as answer:
                body = await answer.read()
            took.append(time.perf_counter() - began)
            accepted = _accepted(answer.status, body)
            taken += accepted
            refused += request.referrals - accepted

    connector = aiohttp.TCPConnector(limit=CONNECTIONS[how])
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        cpu, began = own_cpu(), time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(CONNECTIONS[how])))
        seconds, used = time.perf_counter() - began, own_cpu() - cpu
    took.sort()
    tell(seconds=seconds, cpu=used, taken=taken, refused=refused, p99=took[len(took) * 99 // 100] * 1000)


def _accepted(status: int, body: bytes) -> int:
    if status == 202:
        return 1
    if status == 207:
        return sum(result["status"] == 202 for result in json.loads(body)["results"])
    return 0


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
