"""The notifier: the real service tells agencies and providers of a ledger's events by webhook, and another process receives.

All that is said of deliveries is counted by the receiver, by the id that a webhook carries, and held against what the ledger itself says
who is to hear. The first part of a run is a backlog and the second a steady pace; then a backlog where every webhook is slow, and one
where the agency that hears most never gets an answer through.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import httpx

from benchmarks.heard import TYPES, Heard, heard_of
from benchmarks.ledgers import PEOPLE, Author, write
from benchmarks.outside import Reading, every_record
from benchmarks.processes import Program, Usage, family_cpu
from benchmarks.receiver import SLOW_SECONDS
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Service, Stage
from benchmarks.world import World, cases, worlds
from referral_bus.access.tokens import issue_token
from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.vocabulary import Role
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Partition
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import SubjectKeys
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec

NAIVE: Final = "naive notifier"
REGIONS: Final = 2
PER_SECOND: Final = 50
"""Events, at a steady pace."""
_DAYS_AGO: Final = 86_400_000
_PACE_MS: Final = 3_000
_OPEN_AT_ONCE: Final = 50
"""Referrals of a region that live at once: few, so that a short ledger has whole lives too."""
_LOOK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 20.0
"""After so long in which nothing came, nothing is waited for any more; and longer than an attempt at a webhook that hangs takes."""
_START_SECONDS: Final = 120.0
_AT_MOST_SECONDS: Final = 90.0
"""How long is looked at who is held up by others."""
_SILENT: Final = "co-response-team agency"

MEASURES: Final = (
    Measure("delivered", "/s"),
    Measure("lost", "", "less", 0),
    Measure("repeated", "", "less", 0),
    Measure("CPU a thousand", "s"),
    Measure("PostgreSQL's CPU a thousand", "s"),
    Measure("peak memory", "MB"),
    Measure("p50", "ms"),
    Measure("p99", "ms"),
    Measure("delivered, all are slow", "/s"),
    Measure("delivered to the others, one hangs", "/s"),
    Measure("missing at the others, one hangs", "", "less", 0),
)


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peer, in turn, ``runs`` times, each on buses of its own."""
    backlog, seconds, few = scale.of(20_000, 1_500), scale.of(30, 4), scale.of(4_000, 400)
    figure = Figure(
        "notifier",
        "Ledger events to webhooks, one process",
        MEASURES,
        {
            OURS: "the notifier: decides when a notice leaves what it may show, seals that to the recipient, records the release, signs, "
            "says what became of it, and remembers it",
            NAIVE: "posts each event to whom it concerns, one after the other on connections that are kept; decides, shows, records and "
            "remembers nothing",
        },
    )
    figure.setting = (
        f"backlog of {backlog:,} ledger events of {REGIONS} regions, then {seconds} s with {PER_SECOND} events/s; {few:,} events "
        f"where all answer after {SLOW_SECONDS * 1000:.0f} ms, or one never; agencies hear of three kinds of events and providers of two; "
        f"{scale.runs} runs of each in turn, receiver, PostgreSQL and broker on the same cores"
    )
    [port] = free_ports(1)
    receiver = stage.program("receiver", port)
    await receiver.start()
    try:
        for _ in range(scale.runs):
            for name in (OURS, NAIVE):
                run = await Run.of(stage, port, name, "at-once", backlog)
                figure.add(name, await _measured(run, seconds * PER_SECOND))
                for how in ("slowly", "never"):
                    figure.add(name, await _held_up(await Run.of(stage, port, name, how, few)))
    finally:
        await receiver.stop()
    return figure


class _Seen(NamedTuple):
    """How many deliveries had come at a moment, and what had been used for them."""

    deliveries: int
    used: Usage
    database_cpu: float


@dataclass
class Run:
    """A contender on a bus of its own, and its subscribers."""

    stage: Stage
    bus: str
    receiver: str
    program: Program
    silent: str | None
    """Who never gets an answer through."""
    ids: Mapping[str, str]
    """By organisation and role, what the ids of its webhooks begin with."""
    authors: Sequence[Author]
    _before: int = field(default=0)

    @classmethod
    async def of(cls, stage: Stage, port: int, contender: str, how: str, events: int) -> Run:
        """``how`` everybody answers, or one if it is ``never``. So many events are on the ledger."""
        bus = await stage.bus()
        database = await stage.database(bus.replace("-", "_"))
        made = _with_keys(worlds(REGIONS, places=2))
        receiver, silent = f"http://127.0.0.1:{port}", _SILENT if how == "never" else None
        parties = {f"{name} {role}": (name, role) for name, role in _parties(made)}
        urls = {
            party: f"{receiver}/{how if how != 'never' or party == silent else 'at-once'}/{party.replace(' ', '/')}"
            for party in parties
        }
        authors = await _authors(stage, bus, database, made)
        if contender == OURS:
            service = stage.service("notifier", bus, database, webhook_allow_http_loopback="true")
            ids = await _subscribed(service, stage.secrets.read("token_key"), bus, parties, urls)
            program = service.program
        else:
            addresses = stage.folder / f"{bus}.json"
            addresses.write_text(json.dumps(urls), encoding="utf-8")
            program = stage.program("peers.naive_notifier", stage.bootstrap, topics.ledger(bus), addresses)
            ids = {party: f"{topics.ledger(bus)} {party}" for party in parties}
        for author in authors:
            await write(stage.log, author, [author.beginning()], inbox=False)
            lives = author.lives(author.written + events // len(authors))
            await write(stage.log, author, lives, inbox=False)
        return cls(stage, bus, receiver, program, silent, ids, authors)

    async def wanted(self) -> dict[str, int]:
        """The ids of the webhooks that are to come by what stands on the ledger, without those of who is silent, and when their events
        were appended (epoch milliseconds)."""
        decoding, agencies, found = Reading(), dict[str, str](), dict[str, int]()
        async for message in every_record(self.stage.bootstrap, topics.ledger(self.bus)):
            for one in heard_of(decoding.datum(message.value), agencies):
                if one.name != self.silent:
                    found[self._id(one)] = message.timestamp
        return found

    def _id(self, one: Heard) -> str:
        return f"{self.ids[one.name]}.{one.place}"

    async def start(self) -> None:
        self._before = await self._count()
        await self.program.start()

    async def came(self, count: int, within: float = math.inf) -> tuple[_Seen, _Seen]:
        """Wait until so many more webhooks came, or none does any more, or for ``within`` seconds; how it stood when the first came, and
        when the last did."""
        first = last = self._seen(0)
        began = moved = time.monotonic()
        while last.deliveries < count and time.monotonic() - began < within:
            seen = self._seen(await self._count() - self._before)
            if not first.deliveries:
                first = seen
            if seen.deliveries > last.deliveries:
                last, moved = seen, time.monotonic()
            elif time.monotonic() - moved > (_PATIENCE_SECONDS if last.deliveries else _START_SECONDS):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return first, last

    async def arrivals(self) -> dict[str, list[float]]:
        """When each webhook came, by its id, in seconds since the epoch."""
        found: dict[str, list[float]] = await self._asked("arrivals")
        return found

    def _seen(self, count: int) -> _Seen:
        return _Seen(count, self.program.usage(), family_cpu(self.stage.postgres.pid))

    async def _count(self) -> int:
        count: int = await self._asked("count")
        return count

    async def _asked(self, what: str) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
            return (await http.get(f"{self.receiver}/{what}")).json()


async def _measured(run: Run, paced: int) -> dict[str, float]:
    """A backlog, and then so many events at a steady pace."""
    backlog = await run.wanted()
    await run.start()
    try:
        first, last = await run.came(len(backlog))
        peak = last.used.peak
        await _at_a_pace(run, paced)
        wanted = await run.wanted()
        await run.came(len(wanted))
        # What comes twice comes after the first.
        await asyncio.sleep(1.0)
        arrivals = await run.arrivals()
    finally:
        await run.program.stop()
    thousands = (last.deliveries - first.deliveries) / 1000
    took = sorted(
        arrivals[id][0] * 1000 - at for id, at in wanted.items() if id in arrivals and id not in backlog
    )
    return {
        "delivered": _rate(arrivals, backlog),
        "lost": len(wanted.keys() - arrivals.keys()),
        "repeated": sum(len(times) - 1 for id, times in arrivals.items() if id in wanted),
        "CPU a thousand": (last.used.cpu - first.used.cpu) / thousands,
        "PostgreSQL's CPU a thousand": (last.database_cpu - first.database_cpu) / thousands,
        "peak memory": peak,
        "p50": took[len(took) // 2],
        "p99": took[len(took) * 99 // 100],
    }


async def _held_up(run: Run) -> dict[str, float]:
    """A backlog where all are slow, or one is silent."""
    wanted = await run.wanted()
    await run.start()
    try:
        await run.came(len(wanted), _AT_MOST_SECONDS)
        arrivals = await run.arrivals()
    finally:
        await run.program.stop()
    if run.silent is None:
        return {"delivered, all are slow": _rate(arrivals, wanted)}
    return {
        "delivered to the others, one hangs": _rate(arrivals, wanted),
        "missing at the others, one hangs": len(wanted.keys() - arrivals.keys()),
    }


def _rate(arrivals: Mapping[str, Sequence[float]], wanted: Mapping[str, int]) -> float:
    """A second, from the first that came of these to the last."""
    times = sorted(arrivals[id][0] for id in wanted if id in arrivals)
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


async def _at_a_pace(run: Run, events: int) -> None:
    """Put events on the ledger as matching does where few come in a second: each in a transaction of its own, the regions at once."""
    each = events // len(run.authors)
    records = [
        list(itertools.islice(_records(author, author.written + each), each)) for author in run.authors
    ]
    seconds = len(run.authors) / PER_SECOND
    await asyncio.gather(
        *(
            _one_by_one(run, author, its, seconds, number / PER_SECOND)
            for number, (author, its) in enumerate(zip(run.authors, records, strict=True))
        )
    )


def _records(author: Author, events: int) -> Iterator[Outgoing]:
    for batch in author.lives(events):
        yield from batch.ledger


async def _one_by_one(
    run: Run, author: Author, records: Sequence[Outgoing], seconds: float, later: float
) -> None:
    source, group = (
        Partition(topics.inbox(run.bus), author.world.partition),
        topics.group(run.bus, "matching"),
    )
    transactor = await run.stage.log.transactor(f"{group}-{source.number}")
    try:
        began = time.monotonic() + later
        for number, record in enumerate(records):
            await asyncio.sleep(max(0.0, began + number * seconds - time.monotonic()))
            await transactor.commit([record], group, {source: author.offset})
    finally:
        await transactor.close()


def _with_keys(among: Sequence[World]) -> list[World]:
    """The same regions, and every organisation has a key that what it is shown is sealed to. It has one in all of them."""
    public = {
        one.organisation: new_encryption_keys().public for world in among for one in world.organisations
    }
    return [
        dataclasses.replace(
            world,
            organisations=tuple(
                one.model_copy(update={"encryption_key": public[one.organisation]})
                for one in world.organisations
            ),
        )
        for world in among
    ]


def _parties(among: Sequence[World]) -> set[tuple[str, Role]]:
    """The organisations of all regions in each of their roles."""
    return {
        (one.organisation, role)
        for world in among
        for one in world.organisations
        for role in one.roles
        if role in ("agency", "provider")
    }


async def _authors(stage: Stage, bus: str, database: str, among: Sequence[World]) -> list[Author]:
    """They seal as intake does: what they write is opened."""
    codec, derived, now = Codec.load(), stage.secrets.derived(bus), int(time.time() * 1000) - _DAYS_AGO
    sealer, found = Sealer(codec), dict[str, SubjectKeys]()
    engine = new_engine(database)
    try:
        await migrate(engine, "sealing", "referral_bus.sealing.migrations")
        keys = KeyStore(engine, {"facts": derived.facts_key, "identity": derived.identity_key})
        for world in among:
            made = await keys.ensure(case.subject for case in cases([world], PEOPLE))
            found |= {subject: own for subject, own in made.items() if isinstance(own, SubjectKeys)}
    finally:
        await engine.dispose()

    def seal(subject: str, section: Facts | Identity) -> bytes:
        own = found[subject]
        return sealer.seal(own.facts if isinstance(section, Facts) else own.identity, subject, section)

    return [Author(world, bus, codec, now, _PACE_MS, _OPEN_AT_ONCE, seal) for world in among]


async def _subscribed(
    service: Service,
    signing: str,
    bus: str,
    parties: Mapping[str, tuple[str, Role]],
    urls: Mapping[str, str],
) -> dict[str, str]:
    """Everybody subscribes, at a service that is stopped again: its ledger is still empty. The subscriptions by party."""
    found = {}
    await service.program.start()
    try:
        await service.ready()
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30.0) as http:
            for party, (name, role) in parties.items():
                answer = await http.post(
                    "/v1/subscriptions",
                    json={"channel": "webhook", "role": role, "url": urls[party], "types": TYPES},
                    headers={"authorization": f"Bearer {issue_token(signing, bus, name, [role])}"},
                )
                found[party] = answer.raise_for_status().json()["subscription"]
    finally:
        with contextlib.suppress(TimeoutError):
            await service.program.stop()
    return found
