"""Who does the job of matching, ours and the peers, and the backlog they all get: the same referrals, to the same services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from benchmarks.java import STREAMS_SOURCES, compiled
from benchmarks.processes import Program
from benchmarks.report import OURS
from benchmarks.stage import PARTITIONS, Stage
from benchmarks.world import Said, World, cases, sealed, unsealed, worlds
from referral_bus.log import topics
from referral_bus.log.port import Outgoing
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from referral_bus.wire.schemas import SCHEMAS

BARE: Final = "bare loop"
FAUST: Final = "Faust"
QUIX: Final = "Quix Streams"
STREAMS: Final = "Kafka Streams"
FASTSTREAM: Final = "FastStream"
RECIPE: Final = "bare aiokafka"
_MODULES: Final = {
    BARE: "bare_loop",
    FAUST: "faust_matching",
    QUIX: "quix_matching",
    FASTSTREAM: "faststream_matching",
    RECIPE: "aiokafka_matching",
}
SECRETS_OF: Final = "bench"
DATABASE: Final = "matching"


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that has not started yet, and where it reads and writes."""

    name: str
    program: Program
    input: str
    output: str
    group: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """The referrals, sealed for ours and clear for the peers, and what goes before them."""

    worlds: tuple[World, ...]
    referrals: tuple[str, ...]
    services: Path
    """The services as peers are given them: a JSON file. Ours reads them from its inbox."""
    _sealed: Sequence[Said]
    _clear: Sequence[Said]
    _codec: Codec

    @classmethod
    async def make(cls, stage: Stage, count: int, places: int, partitions: int = PARTITIONS) -> Self:
        """``count`` referrals over all regions, one on each partition; ``places`` multiplies the places of each unit."""
        codec, made = Codec.load(), worlds(partitions, places)
        among = cases(made, count)
        engine = new_engine(await stage.database(DATABASE))
        try:
            await migrate(engine, "sealing", "referral_bus.sealing.migrations")
            shut = await sealed(among, engine, stage.secrets.derived(SECRETS_OF), codec)
        finally:
            await engine.dispose()
        services = stage.folder / "services.json"
        described = {
            world.region: [service.model_dump(mode="json") for service in world.services] for world in made
        }
        services.write_text(json.dumps(described), encoding="utf-8")
        referrals = tuple(case.referral for case in among)
        return cls(tuple(made), referrals, services, shut, unsealed(among, codec), codec)

    def first(self, count: int) -> Self:
        """The first so many of its referrals."""
        return replace(
            self,
            referrals=self.referrals[:count],
            _sealed=self._sealed[:count],
            _clear=self._clear[:count],
        )

    @property
    def places(self) -> dict[str, int]:
        """How many places each unit has."""
        return {
            unit.unit: unit.available
            for world in self.worlds
            for service in world.services
            for unit in service.units
        }

    def beginning(self, contender: Contender) -> list[Outgoing]:
        """What its regions hear before they can decide: nothing for a peer."""
        if contender.name != OURS:
            return []
        return [
            said.record(contender.input, self._codec) for world in self.worlds for said in world.beginning()
        ]

    def records(self, contender: Contender) -> list[Outgoing]:
        """The referrals."""
        said = self._sealed if contender.name == OURS else self._clear
        return [one.record(contender.input, self._codec) for one in said]


async def contender(
    stage: Stage, backlog: Backlog, name: str, *, at_once: bool, **settings: str | int | float
) -> Contender:
    """A contender on a bus of its own. ``at_once``: peers are set to commit as soon as they can, not in their own time. ``settings`` are
    ours."""
    bus = await stage.bus(len(backlog.worlds))
    source, target = topics.inbox(bus), topics.ledger(bus)
    if name == OURS:
        service = stage.service("matching", bus, await stage.database(DATABASE), **settings)
        return Contender(name, service.program, source, target, f"refbus-{bus}-matching")
    words: list[str | Path] = [
        stage.bootstrap,
        bus,
        source,
        target,
        backlog.services,
        "at-once" if at_once else "in-time",
    ]
    if name == STREAMS:
        java = await asyncio.to_thread(compiled, STREAMS_SOURCES, stage.folder / "streams")
        program = stage.command("kafka-streams", *java, "Matching", *words, SCHEMAS)
    else:
        program = stage.program(f"peers.{_MODULES[name]}", *words)
    return Contender(name, program, source, target, f"peer-{bus}")
