"""Intake over HTTP: referrals put to one process on loopback, by a second one; each is answered once all in-sync replicas have it.

One by one over 32 connections, and in batches of a hundred CloudEvents over 4. What was answered 202 is looked for on the inbox
afterwards.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.outside import every_record
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Service, Stage
from benchmarks.world import OPERATIONS, POLICY, PROTOCOL, World, cases, worlds
from referral_bus.access.tokens import issue_token
from referral_bus.client import Bus
from referral_bus.contracts.reference import Organisation, RegionTable
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics

PLAIN: Final = "plain FastAPI"
LOTS: Final = 1_000_000
"""As good as no quota."""
_LONG_SECONDS: Final = 6 * 3600
_AGENCIES: Final = 5


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peer, in turn, ``runs`` times, one by one and in batches."""
    ones, batched = scale.of(10_000, 1_000), scale.of(40_000, 2_000)
    figure = Figure(
        "intake",
        "Referrals over HTTP, one intake process, sealed, acks=all",
        (
            Measure("one by one", "/s", "more", 500),
            Measure("in batches of 100", "/s", "more", 2000),
            Measure("one by one, p99", "ms"),
            Measure("one by one, CPU a thousand", "s"),
            Measure("in batches, CPU a thousand", "s"),
            Measure("lost", "", "less", 0),
            Measure("twice", "", "less", 0),
            Measure("refused", "", "less", 0),
            Measure("peak memory", "MB"),
        ),
        {
            OURS: "the intake service: token, rights, quota, validation, two keys a person made and kept, sections sealed, repeats "
            "table (PostgreSQL, fsync on), Kafka",
            PLAIN: "FastAPI that validates the same models and appends to Kafka (no token, sealing, keys, repeats or database)",
        },
    )
    figure.setting = (
        f"{ones:,} referrals one by one over 32 connections, {batched:,} in batches over 4; every person a new one; "
        f"{scale.runs} runs of each in turn; load, intake, PostgreSQL and broker on the same cores"
    )
    bus = await stage.bus()
    places = worlds(PARTITIONS, places=1)
    files = {
        "one": written(stage, bus, places, ones, "one"),
        "batch": written(stage, bus, places, batched, "batch"),
    }
    service = stage.service(
        "intake", bus, await stage.database("intake"), quota_per_second=LOTS, quota_burst=LOTS
    )
    plain_bus = await stage.bus()
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    program = stage.program("peers.plain_intake", stage.bootstrap, topics.inbox(plain_bus), port)
    plain = Service(program, url, url)
    for one in (service, plain):
        await one.program.start()
    try:
        for one in (service, plain):
            await one.ready()
        await publish(stage, service, bus, places)
        for run in range(scale.runs):
            figure.add(OURS, await _taken(stage, service, topics.inbox(bus), files, f"r{run}"))
            figure.add(PLAIN, await _taken(stage, plain, topics.inbox(plain_bus), files, f"r{run}"))
    finally:
        for one in (service, plain):
            await one.program.stop()
    return figure


def written(stage: Stage, bus: str, among: list[World], count: int, name: str) -> Path:
    """What the load program sends: a line a referral."""
    signing = stage.secrets.read("token_key")
    tokens: dict[str, str] = {}
    lines = []
    for case in cases(among, count):
        token = tokens.get(case.agency)
        if token is None:
            token = tokens[case.agency] = issue_token(signing, bus, case.agency, ["agency"], _LONG_SECONDS)
        # Every region's people have the same references; here they are all different.
        request = case.request.model_copy(
            update={"subject": f"{name}-{case.world.region}-{case.request.subject}"}
        )
        line = {
            "agency": case.agency,
            "token": token,
            "request": request.model_dump(mode="json", exclude_none=True),
        }
        lines.append(json.dumps(line))
    path = stage.folder / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


async def publish(stage: Stage, service: Service, bus: str, among: list[World]) -> None:
    token = issue_token(stage.secrets.read("token_key"), bus, OPERATIONS, ["operations"], _LONG_SECONDS)
    first = among[0]
    operations = Organisation(
        organisation=OPERATIONS,
        name="Operations",
        kind="operations",
        roles=["operations"],
        home_region=first.region,
    )
    table = RegionTable(version=1, partitions={world.region: world.partition for world in among})
    async with Bus(lambda: token, intake=service.url) as client:
        await client.publish(table)
        for message in (operations, PROTOCOL, POLICY):
            await client.publish(message)
        for agency in first.organisations[:_AGENCIES]:
            await client.publish(agency)


async def _taken(
    stage: Stage, service: Service, inbox: str, files: dict[str, Path], label: str
) -> dict[str, float]:
    taken: dict[str, float] = {}
    said: dict[str, dict[str, Any]] = {}
    for how, words in (("one", "one by one"), ("batch", "in batches")):
        before = service.program.usage().cpu
        load = stage.program("http_load", service.url, files[how], f"{label}-{how}", how)
        await load.start()
        try:
            said[how] = await load.result()
        finally:
            await load.stop()
        used = service.program.usage()
        taken[f"{words}, CPU a thousand"] = (used.cpu - before) / max(1, said[how]["taken"]) * 1000
    found = await _ids(stage, inbox, f"{label}-")
    sent = sum(int(one["taken"]) for one in said.values())
    return {
        **taken,
        "one by one": said["one"]["taken"] / said["one"]["seconds"],
        "in batches of 100": said["batch"]["taken"] / said["batch"]["seconds"],
        "one by one, p99": said["one"]["p99"],
        "lost": sent - len(found),
        "twice": found.total() - len(found),
        "refused": sum(int(one["refused"]) for one in said.values()),
        "peak memory": used.peak,
    }


async def _ids(stage: Stage, inbox: str, beginning: str) -> Counter[str]:
    """The submissions on the inbox whose id begins so, and how often each stands there."""
    found: Counter[str] = Counter()
    async for message in every_record(stage.bootstrap, inbox):
        id = next((value.decode() for name, value in message.headers if name == "ce_id"), "")
        if id.startswith(beginning):
            found[id] += 1
    return found
