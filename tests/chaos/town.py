"""A bus with two matching workers, some services with few places, and a load on it: where the chaos happens."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from referral_bus.access.tokens import issue_token
from referral_bus.client.bus import Bus
from referral_bus.contracts.ids import service_id, unit_id
from referral_bus.contracts.reference import OfferLimits, Organisation, Protocol
from referral_bus.contracts.services import ANY, ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import OrganisationKind, Role
from referral_bus.demo.watch import Watch
from referral_bus.embedded.bus import LocalBus, Plan, local_bus
from referral_bus.embedded.reference import OPERATIONS, publish_defaults
from referral_bus.embedded.server import enter_network
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.topics import inbox, ledger
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from tests.chaos.backlogs import Backlogs
from tests.support.checking import Line, Seen, outside_records
from tests.support.lending import not_passed_on
from tests.support.load import NEED, LoadPlan

REGIONS: Final = ("east", "north", "south", "west")
"""One for each partition, so that each matching worker has two."""

PROTOCOL: Final = Protocol(
    protocol="standard",
    version=2,
    offer_limits=OfferLimits(crisis=8_000, urgent=10_000, routine=12_000),
    maximum_offers=3,
    parking_ms=5_000,
    waitlist_review_ms=8_000,
    elsewhere_ms=8_000,
)
"""The standard protocol in seconds: offers expire while a service is down, and go on to the next; and of the faults that hold a region up
some are over before the others do without it, and some are not."""

SETTINGS: Final = {
    "REFBUS_WEBHOOK_ALLOW_HTTP_LOOPBACK": "true",
    "REFBUS_WEBHOOK_FIRST_RETRY_SECONDS": "0.2",
    "REFBUS_WEBHOOK_LONGEST_RETRY_SECONDS": "1",
    "REFBUS_WEBHOOK_TIMEOUT_SECONDS": "1",
    "REFBUS_SNAPSHOT_EVENTS": "500",
}

PLACES: Final = 3
"""Of each unit; four units a region. A burst wants more than are free."""
PACE: Final = 0.5
_LENDS_TO: Final = 1
_QUIET_SECONDS: Final = 40.0
_DONE_SECONDS: Final = 240.0
_LOOK_SECONDS: Final = 0.02


class Client:
    """The load's process and the list it keeps."""

    def __init__(self, plan: LoadPlan, process: asyncio.subprocess.Process, words: Path) -> None:
        self.plan = plan
        self._process = process
        self._words = words
        self._path = Path(plan.journal)
        self._lines: list[Line] = []
        self._read = 0

    @property
    def lines(self) -> list[Line]:
        """All that it noted so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read += len(whole)
            self._lines += [json.loads(line) for line in whole.splitlines()]
        return self._lines

    def noted(self, what: str) -> list[Line]:
        return [line for line in self.lines if line["what"] == what]

    @property
    def in_flight(self) -> dict[int, str]:
        """The numbers of the requests to intake that have no answer yet, with the door (HOST:PORT) each is at."""
        open_: dict[int, str] = {}
        for line in self.lines:
            if line["what"] == "try":
                open_[line["number"]] = line["door"]
            elif line["what"] in ("answered", "broken"):
                open_.pop(line["number"], None)
        return open_

    @property
    def heard(self) -> dict[str, int]:
        """The number of the last notice each follower of an event stream heard."""
        return {line["organisation"]: line["number"] for line in self.noted("heard")}

    @property
    def acknowledged(self) -> list[Line]:
        return self.noted("acknowledged")

    @property
    def referrals(self) -> set[str]:
        """Those whose submission was acknowledged."""
        return {line["referral"] for line in self.acknowledged if line["kind"] == "SubmitReferral"}

    async def begin(self) -> None:
        await self._tell("begin")

    async def burst(self, count: int) -> None:
        await self._tell(f"burst {count}")

    async def finish(self) -> None:
        """Submit nothing new, and wait until all that was begun is acknowledged."""
        await self._tell("finish")
        await self._until(lambda: bool(self.noted("finished")))

    async def rest(self) -> None:
        """Wait until everybody has said what they wanted to say about all they have heard."""
        before = len(self.noted("rested"))
        await self._tell("rest")
        await self._until(lambda: len(self.noted("rested")) > before)

    async def end(self) -> None:
        await self._tell("end")
        async with asyncio.timeout(_DONE_SECONDS):
            code = await self._process.wait()
        assert code == 0, self._ended()

    async def listening(self) -> None:
        await self._until(lambda: bool(self.noted("ready")))

    async def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.returncode is None, self._ended()
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(_DONE_SECONDS):
            while not reached():
                assert self._process.returncode is None, self._ended()
                await asyncio.sleep(_LOOK_SECONDS)

    def _ended(self) -> str:
        return f"the load ended with {self._process.returncode}:\n{self._words.read_text()[-3_000:]}"


@dataclass(slots=True)
class Town:
    """A running bus with its load. ``runs`` counts how often each process was started."""

    bus: LocalBus
    client: Client
    watch: Watch
    backlogs: Backlogs
    codec: Codec
    runs: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Killed, and not back yet."""

    async def settled(self) -> None:
        """Stop submitting, and wait until every referral has come to its end and everybody has heard, and said, all there is."""
        client = self.client
        await client.finish()
        referrals = client.referrals
        await self.watch.until(
            lambda seen: referrals <= seen.closed.keys() and seen.opened.keys() <= seen.closed.keys(),
            lambda seen: (
                f"{len((referrals | seen.opened.keys()) - seen.closed.keys())} referrals are not closed"
            ),
            _QUIET_SECONDS,
        )
        while True:
            await client.rest()
            before = await self.backlogs.ends()
            await self._done()
            await client.rest()
            await self._passed_on()
            if await self.backlogs.ends() == before:
                break
        await client.end()

    async def _done(self) -> None:
        """Wait until nothing is left undone. Raises TimeoutError with what is."""
        deadline = time.monotonic() + _DONE_SECONDS
        while left := await self._left():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {_DONE_SECONDS:.0f} s there is still left undone: {left}")
            await asyncio.sleep(0.2)

    async def _passed_on(self) -> None:
        """Wait until each region has on its inbox what others have to say to it: the relay's own position lags behind that while nothing
        comes. Raises TimeoutError with what is missing."""
        kafka, name = self.bus.addresses.kafka, self.bus.plan.bus
        deadline = time.monotonic() + _DONE_SECONDS
        while True:
            said = await asyncio.to_thread(outside_records, kafka, ledger(name))
            asked = await asyncio.to_thread(outside_records, kafka, inbox(name))
            missing = not_passed_on(Seen.of(asked, said, self.codec))
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {_DONE_SECONDS:.0f} s: {missing[:3]}")
            await asyncio.sleep(0.2)

    async def _left(self) -> dict[str, object]:
        backlogs, heard = self.backlogs, self.client.heard
        left: dict[str, object] = {
            "undecided": {number: count for number, count in (await backlogs.undecided()).items() if count},
            "events not in the views": await backlogs.behind(await backlogs.projected()),
            "events not heard": await backlogs.behind(await backlogs.told()),
            "deliveries": await backlogs.undelivered(),
            "notices not streamed": {
                organisation: last - heard.get(organisation, 0)
                for organisation, last in (await backlogs.notices()).items()
                if organisation in dict(self.client.plan.streams) and last > heard.get(organisation, 0)
            },
        }
        return {what: count for what, count in left.items() if count}

    async def restart(self, name: str) -> None:
        """Start a killed process again; returns once it is ready."""
        self.runs[name] += 1
        await self.bus.start_service(name)
        self.down.discard(name)

    def ended_by_themselves(self) -> list[str]:
        """The processes that are not running though nobody killed them."""
        return [
            name
            for name, process in self.bus.processes.items()
            if name not in self.down and not process.running
        ]

    def starts(self) -> dict[str, int]:
        """How often each process says in its log that it runs."""
        return {
            name: sum(
                json.loads(line).get("message") == f"{name.rpartition('-')[0]} runs"
                for line in process.log.read_text(encoding="utf-8").splitlines()
                if line.startswith("{")
            )
            for name, process in self.bus.processes.items()
        }


@asynccontextmanager
async def town(home: Path, bus_id: str, kafka: str, database: str) -> AsyncIterator[Town]:
    """A bus that is up, with its services published and the load's agencies and providers listening and submitting."""
    plan = Plan(
        home=home,
        bus=bus_id,
        kafka=kafka,
        database=database,
        partitions=len(REGIONS),
        matching_workers=2,
        durable=False,
        settings=SETTINGS,
    )
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(local_bus(plan))
        codec, log = Codec.load(), KafkaLog(kafka)
        stack.push_async_callback(log.close)
        watch = Watch(log, bus_id, codec)
        following = asyncio.create_task(watch.run())
        stack.push_async_callback(_cancelled, following)
        load = LoadPlan(
            bus=bus_id,
            kafka=kafka,
            intake=bus.addresses.intake,
            notifier=bus.addresses.notifier,
            token_key=str(bus.secrets.folder / "token_key"),
            journal=str(home / "journal"),
            regions=list(REGIONS),
            pace=PACE,
        )
        await published(bus, [load], watch, PLACES, _LENDS_TO)
        client = await started(load, home)
        stack.push_async_callback(client.stop)
        await client.listening()
        engine = new_engine(database, pool_size=2)
        stack.push_async_callback(engine.dispose)
        backlogs = await Backlogs.open(bus_id, kafka, log, engine)
        stack.push_async_callback(backlogs.close)
        yield Town(bus, client, watch, backlogs, codec, dict.fromkeys(bus.processes, 1))


async def published(
    bus: LocalBus, loads: Sequence[LoadPlan], watch: Watch, places: int, lends_to: int
) -> None:
    """Publish reference data, the organisations of the loads, and the services of their providers with so many places each. The second
    service of each provider in a region takes the people of so many other regions too."""
    key = bus.secrets.read("token_key")

    def party(organisation: str, *roles: Role) -> Bus:
        return Bus(lambda: issue_token(key, bus.plan.bus, organisation, roles), intake=bus.addresses.intake)

    await publish_defaults(bus, list(REGIONS))
    organisations = [one for load in loads for one in _organisations(load)]
    async with party(OPERATIONS, "operations") as operations:
        await operations.publish(PROTOCOL)
        for organisation in organisations:
            await operations.publish(organisation)
    wanted = {
        (region, "organisation", organisation.organisation, 1)
        for region in REGIONS
        for organisation in organisations
    } | {(region, "protocol", PROTOCOL.protocol, PROTOCOL.version) for region in REGIONS}
    await watch.until(
        lambda seen: wanted <= seen.adopted,
        lambda seen: f"not adopted: {sorted(wanted - seen.adopted)[:3]}",
        _QUIET_SECONDS,
    )
    providers = [name for load in loads for name in load.providers]
    services = [
        _service(region, name, number, places, regions)
        for at, region in enumerate(REGIONS)
        for name in providers
        for number, regions in ((1, ()), (2, (REGIONS * 2)[at + 1 : at + 1 + lends_to]))
    ]
    for provider in providers:
        async with party(provider, "provider") as bus_of:
            for service in services:
                if service.organisation == provider:
                    await bus_of.publish_service(service)
    listings = sum(len(service.regions) for service in services)
    for event, count in (("ServicePublished", len(services)), ("CapacityListed", listings)):
        await watch.until(
            lambda seen, event=event, count=count: seen.events[event] >= count,
            lambda seen, event=event, count=count: f"{seen.events[event]} of {count} {event}",
            _QUIET_SECONDS,
        )


def _organisations(load: LoadPlan) -> list[Organisation]:
    kinds: dict[str, OrganisationKind] = {
        load.typed: "hospital",
        load.batching: "helpline",
        load.sealing: "school",
    }
    return [
        Organisation(
            organisation=name,
            name=name,
            kind=kinds.get(name, "provider"),
            roles=["provider"] if name in load.providers else ["agency"],
            home_region=REGIONS[0],
            encryption_key=new_encryption_keys().public,
        )
        for name in (*load.agencies, *load.providers)
    ]


def _service(
    region: str, provider: str, number: int, places: int, others: Sequence[str]
) -> ServiceDefinition:
    local = f"{provider}-{number}"
    return ServiceDefinition(
        service=service_id(region, local),
        organisation=provider,
        name=local,
        terms=[NEED],
        areas=[ANY],
        languages=[ANY],
        units=[Unit(unit=unit_id(region, local), name="place", total=places, available=places)],
        regions=list(others),
    )


async def started(load: LoadPlan, home: Path, name: str = "load", network: Path | None = None) -> Client:
    """A load in a process of its own, and in a network namespace of its own where one is given."""
    plan, words = home / f"{name}.json", home / "logs" / f"{name}.log"
    load.write(plan)
    with words.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.load",
            str(plan),
            cwd=Path(__file__).resolve().parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
            preexec_fn=None if network is None else lambda: enter_network(network),
        )
    return Client(load, process, words)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
