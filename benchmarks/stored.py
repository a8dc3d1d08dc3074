"""What a referral leaves behind: bytes on the disks of three brokers, every topic on all of them, and in PostgreSQL.

People of the demonstration's county are referred one after the other on the whole bus, and each thing that is said is decided before the
next: as on a bus with a few submissions a second, each is a transaction of its own, which takes more than in a batch. What was there before
the first of those that count is taken off, so that organisations, services and empty tables don't count.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from benchmarks.brokers import BROKERS, cluster
from benchmarks.outside import every_record
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from referral_bus.access.tokens import issue_token
from referral_bus.client.answers import Answer
from referral_bus.contracts.ids import parse_token
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.demo.county import County, counted_now
from referral_bus.demo.scenario import Parties, cast
from referral_bus.demo.settle import settle
from referral_bus.embedded.bus import LocalBus, Plan, local_bus
from referral_bus.embedded.reference import publish_defaults
from referral_bus.log import topics

_BUS: Final = "bench"
_SEED: Final = 1
_QUIET_LOOKS, _LOOK_SECONDS = 5, 1.0
_POLL_SECONDS: Final = 0.02
_DECIDED_SECONDS: Final = 120.0
_TOPICS: Final = {
    "inbox": "submission",
    "ledger": "event",
    "feeds": "notice",
    "delivery": "notice",
    "disclosure": "notice",
}
"""The kinds of topics that grow, and with what each does."""
_TABLES: Final = {
    "views": (r"projections\.", "event"),
    "notices and deliveries": (r"notifier\.(notices|deliveries|reports|parked)$", "notice"),
    "what the notifier knows of referrals": (r"notifier\.", "referral"),
    "admissions": (r"intake\.admissions$", "submission"),
    "what intake knows of referrals": (r"intake\.", "referral"),
    "keys of people": (r"sealing\.", "referral"),
}
"""Tables that are kept for as long as each other, the first that fits, and with what they grow."""
_SIZES: Final = (
    "select relnamespace::regnamespace || '.' || relname, pg_total_relation_size(oid)"
    " from pg_class where relkind = 'r'"
)
_DECIDED: Final = "select 1 from projections.regions where region = %s and decided_through >= %s"
_ASKED: Final = "select task, provider from projections.tasks where referral = %s"

Stored = Counter[str]
"""How many there are of what things grow with, and the bytes of each kind of thing."""
Sql = psycopg.AsyncConnection[tuple[Any, ...]]


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Some referrals that don't count and then those that do, on a bus and brokers of their own, ``runs`` times."""
    before, counted = scale.of(50, 5), scale.of(400, 10)
    of = {f"{topic}, on {BROKERS} brokers": (topic, one) for topic, one in _TOPICS.items()}
    of |= {tables: (tables, one) for tables, (_names, one) in _TABLES.items()}
    figure = Figure(
        "stored",
        "What a referral leaves on the disks of brokers and database",
        (
            *(Measure(f"{what}s", "a referral") for what in ("submission", "event", "notice")),
            *(Measure(name, f"bytes/{one}") for name, (_kind, one) in of.items()),
        ),
        {
            OURS: "the whole bus; each organisation hears what concerns it on its feed; each person is referred, and the provider that is "
            "asked acknowledges, accepts, begins and tells the outcome"
        },
    )
    figure.setting = (
        f"{BROKERS} brokers, replication {BROKERS}; {counted:,} referrals after {before:,} others; topics without the indexes of their "
        f"segments, tables with theirs, as they are, dead rows included; {scale.runs} runs"
    )
    for _run in range(scale.runs):
        more = await _lived(before, counted)
        taken = {f"{what}s": more[what] / counted for what in ("submission", "event", "notice")}
        taken |= {name: more[kind] / more[one] for name, (kind, one) in of.items()}
        figure.add(OURS, taken)
    return figure


async def _lived(before: int, counted: int) -> Stored:
    """What the counted referrals left."""
    players = cast(before + counted, _SEED)
    requests = [(agency, request) for agency, of in players.requests.items() for request in of]
    random.Random(_SEED).shuffle(requests)
    async with cluster() as (folder, brokers):
        kafka = ",".join(broker.bootstrap for broker in brokers)
        plan = Plan(folder / "bus", bus=_BUS, kafka=kafka, replication=BROKERS, durable=False)
        async with local_bus(plan) as bus, httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
            await publish_defaults(bus, list(players.regions))
            await settle(bus, County.make(_SEED, counted_at=counted_now()))
            parties = Parties(bus, players, http)
            await _subscribed(bus, http, players.organisations)
            address = bus.addresses.database.replace("+psycopg", "", 1)
            async with await psycopg.AsyncConnection.connect(address, autocommit=True) as sql:
                await _stored(bus, folder, sql)
                for agency, request in requests[:before]:
                    await _life(parties, sql, agency, request)
                found = await _stored(bus, folder, sql)
                for agency, request in requests[before:]:
                    await _life(parties, sql, agency, request)
                after = await _stored(bus, folder, sql)
    after.subtract(found)
    after["referral"] = counted
    return after


async def _life(parties: Parties, sql: Sql, agency: str, request: ReferralRequest) -> None:
    """A referral from its submission to its outcome; where nobody can be asked, to its end."""
    answer = await parties.bus_of(agency, "agency").submit(request)
    await _decided(sql, answer)
    offered = await (await sql.execute(_ASKED, [answer.referral])).fetchone()
    if offered is None or answer.referral is None:
        return
    task, provider = offered
    bus = parties.bus_of(provider, "provider")
    await _decided(sql, await bus.acknowledge(task))
    await _decided(sql, await bus.accept(task))
    await _decided(sql, await bus.start(answer.referral, int(time.time() * 1000)))
    await _decided(sql, await bus.outcome(answer.referral, "need_met"))


async def _decided(sql: Sql, answer: Answer) -> None:
    """Wait until the views show what became of it. They are asked past the API, which would write down what it shows."""
    region, _, offset = parse_token(answer.token)
    async with asyncio.timeout(_DECIDED_SECONDS):
        while True:
            if (await sql.execute(_DECIDED, [region, offset])).rowcount:
                return
            await asyncio.sleep(_POLL_SECONDS)


async def _subscribed(bus: LocalBus, http: httpx.AsyncClient, organisations: Iterable[Organisation]) -> None:
    """Each organisation to its feed, in each of its roles."""
    address, key = f"{bus.addresses.notifier}/v1/subscriptions", bus.secrets.read("token_key")
    for one in organisations:
        headers = {"authorization": f"Bearer {issue_token(key, _BUS, one.organisation, one.roles)}"}
        for role in one.roles:
            body = {"channel": "feed", "role": role}
            (await http.post(address, json=body, headers=headers)).raise_for_status()


async def _stored(bus: LocalBus, folder: Path, sql: Sql) -> Stored:
    """What there is once nothing grows any more: notices and views come after what is decided."""
    found, same = Stored(), 0
    while same < _QUIET_LOOKS:
        await asyncio.sleep(_LOOK_SECONDS)
        now = _of_topics(folder) + await _of_the_database(sql)
        same, found = (same + 1 if now == found else 0), now
    for what, topic in (("submission", topics.inbox(_BUS)), ("event", topics.ledger(_BUS))):
        found[what] = sum([1 async for _ in every_record(bus.addresses.kafka, topic)])
    return found


def _of_topics(folder: Path) -> Stored:
    """The segments of each kind of topic, of all brokers."""
    found = Stored()
    for segment in folder.glob("kafka-*/data/*/*.log"):
        kind = _kind_of(segment.parent.name.rpartition("-")[0])
        if kind in _TOPICS:
            found[kind] += segment.stat().st_size
    return found


def _kind_of(topic: str) -> str:
    return "feeds" if topic.startswith(topics.feed(_BUS, "")) else topic.rpartition(".")[2]


async def _of_the_database(sql: Sql) -> Stored:
    """The tables with their indexes, and how many notices there are."""
    found = Stored()
    for name, size in await (await sql.execute(_SIZES)).fetchall():
        kind = _kind_of_table(name)
        if kind is not None:
            found[kind] += size
    [found["notice"]] = await (await sql.execute("select count(*) from notifier.notices")).fetchone() or (0,)
    return found


def _kind_of_table(name: str) -> str | None:
    return next((tables for tables, (names, _) in _TABLES.items() if re.match(names, name)), None)
