"""An upgrade that rolls: this version and the next side by side, of matching and of a schema, in the order docs/how-to/upgrade.md gives."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from referral_bus.client.answers import Answer
from referral_bus.client.errors import BusError, Refused
from referral_bus.contracts.ledger import OfferAccepted, OfferMade, ReferralOpened, RulesActivated
from referral_bus.contracts.reference import Rules
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.process import ChildProcess
from referral_bus.log import topics
from referral_bus.log.port import Partition, Reader
from referral_bus.log.reading import read_on
from tests.support.next_version import NEWEST_SCHEMA, NEXT_RULES, NextVersion
from tests.support.whole_bus import REGIONS, WholeBus, bus_of, new_need, plan_of, request, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

HELD = {"REFBUS_WRITE_SCHEMAS_UP_TO": str(NEWEST_SCHEMA)}
REFBUS = ("-c", "from referral_bus.cli import main; main()")
AGENCIES = {"hospital": "harbor", "school": "cedar"}
"""An agency of each region, and a provider there."""

_BETWEEN_SECONDS = 0.6
"""Between two of an agency's referrals: there are always some under way, and the cores are left to the processes that start."""
_AWAITED_SECONDS = 0.15
"""The same while somebody waits for more."""


class Ledger:
    """The whole ledger, read on from where it was read up to. By the headers: this version can't read what the next one writes."""

    def __init__(self, readers: list[Reader]) -> None:
        self._readers = readers
        self._about: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._schemas: set[int] = set()

    async def about(self, type: str) -> Counter[str]:
        """How often each referral has an event of this type."""
        await self._read()
        return self._about[type]

    async def schemas(self) -> set[int]:
        """The schemas by which it is written."""
        await self._read()
        return self._schemas

    async def _read(self) -> None:
        for reader in self._readers:
            async for record in read_on(reader, reader.position()):
                headers = dict(record.headers)
                self._about[headers["ce_type"].decode()][headers["ce_subject"].decode()] += 1
                self._schemas.add(int.from_bytes((record.value or b"")[1:5], "big"))


@asynccontextmanager
async def ledger_of(whole: WholeBus) -> AsyncIterator[Ledger]:
    topic = topics.ledger(whole.name)
    async with AsyncExitStack() as stack:
        readers = []
        for number in range(await whole.log.partitions(topic)):
            readers.append(await whole.log.reader(Partition(topic, number)))
            stack.push_async_callback(readers[-1].close)
        yield Ledger(readers)


class Load:
    """Agencies that refer people all the while, providers that accept some of them, and their own list of what was acknowledged."""

    def __init__(self, whole: WholeBus, ledger: Ledger) -> None:
        self.whole = whole
        self.ledger = ledger
        self.opened: list[str] = []
        self.accepted: list[str] = []
        self._goal = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._refer(*parties)) for parties in AGENCIES.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    task.result()

    async def _refer(self, agency: str, provider: str) -> None:
        need = new_need()
        await self.whole.service(provider, need, places=5_000)
        bus, other = self.whole.party(agency), self.whole.party(provider)
        while True:
            answer = await self._until_taken(lambda id: bus.submit(request(need), id=id))
            assert answer.referral is not None
            self.opened.append(answer.referral)
            if len(self.opened) % 3 == 0:
                with suppress(BusError):  # not decided yet: nobody promised that
                    timeline = await bus.timeline(answer.referral, after=answer.token, wait=5.0)
                    if timeline["task"] is not None:
                        task: str = timeline["task"]
                        await self._until_taken(lambda id, task=task: other.accept(task, id=id))
                        self.accepted.append(answer.referral)
            await asyncio.sleep(_AWAITED_SECONDS if len(self.opened) < self._goal else _BETWEEN_SECONDS)

    @staticmethod
    async def _until_taken(say: Callable[[str], Awaitable[Answer]]) -> Answer:
        """Say it again under the same id until it is acknowledged: doors are restarted too."""
        id = uuid4().hex
        while True:
            try:
                return await say(id)
            except Refused:
                raise
            except BusError:
                await asyncio.sleep(0.2)

    async def grows(self, by: int = 8) -> None:
        """Wait until so many more were acknowledged, and all of them decided."""
        goal = self._goal = len(self.opened) + by
        await until(lambda: len(self.opened) >= goal, within=60.0)
        wanted = set(self.opened[:goal])
        try:
            async with asyncio.timeout(60.0):
                while wanted := wanted - (await self.ledger.about(OfferMade.event_type())).keys():
                    await asyncio.sleep(0.3)
        except TimeoutError:
            raise AssertionError(f"acknowledged, but not decided: {sorted(wanted)}") from None


def _now_by(old: ChildProcess, version: NextVersion, settings: dict[str, str]) -> ChildProcess:
    service = old.name.rpartition("-")[0]
    kept = {name: value for name, value in old.environment.items() if name not in HELD}
    environment = {**kept, **version.environment, **settings}
    return ChildProcess(old.name, version.command("-m", f"services.{service}"), environment, old.log)


async def _upgraded(whole: WholeBus, name: str, version: NextVersion, settings: dict[str, str]) -> None:
    """The process stops, and starts as the next version."""
    await whole.bus.processes[name].stop()
    whole.bus.processes[name] = _now_by(whole.bus.processes[name], version, settings)
    await whole.bus.start_service(name)


async def test_an_upgrade_that_rolls_loses_nothing_and_decides_nothing_twice(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    version = NextVersion(tmp_path_factory.mktemp("next"))
    assert version.schema == NEWEST_SCHEMA + 1
    async with bus_of(replace(plan_of(tmp_path), matching_workers=2)) as whole, ledger_of(whole) as ledger:
        await whole.publish_parties()
        load = Load(whole, ledger)
        async with load.running():
            await load.grows()
            former = whole.bus.processes["matching-1"]

            # The new code beside the old, writing what that knows. It is killed: the old one takes over what it has decided.
            await _upgraded(whole, "matching-1", version, HELD)
            await load.grows()
            await whole.bus.processes["matching-1"].kill()
            await load.grows()
            await whole.bus.start_service("matching-1")
            await load.grows()

            # The last of the old code goes.
            for name in ("matching-2", "projections-1", "notifier-1", "intake-1"):
                await _upgraded(whole, name, version, HELD)
            await load.grows()
            assert max(await ledger.schemas()) <= NEWEST_SCHEMA

            # Schemas of both kinds side by side, then the new one alone.
            await _upgraded(whole, "matching-1", version, {})
            await load.grows()
            await _upgraded(whole, "matching-2", version, {})
            await load.grows()
            assert {NEWEST_SCHEMA + 1} <= await ledger.schemas()

            await whole.operations().publish(Rules(rules="matching", version=NEXT_RULES))

            async def activated() -> bool:
                return (await ledger.about(RulesActivated.event_type())).total() == len(REGIONS)

            await until(activated)
            await load.grows()

            # Whoever forgot a process of the old code is told so, and it decides nothing. Alone in the group it has every partition, that
            # of a region which the new code has written included.
            for name in ("matching-1", "matching-2"):
                await whole.bus.processes[name].stop()
            apart = {
                "REFBUS_OPERATIONS_PORT": str(free_ports(1)[0]),
                "REFBUS_DATA_DIR": str(tmp_path / "old"),
            }
            old = ChildProcess(
                "matching-old",
                [sys.executable, "-m", "services.matching"],
                {**former.environment, **apart},
                tmp_path / "old.log",
            )
            await old.start()
            assert await asyncio.wait_for(old.wait(), 60.0) == 1
            assert "upgrade readers before writers" in old.log.read_text()
            for name in ("matching-1", "matching-2"):
                await whole.bus.start_service(name)
            await load.grows()
        await _is_whole(whole, load, version)


async def _is_whole(whole: WholeBus, load: Load, version: NextVersion) -> None:
    opened = await load.ledger.about(ReferralOpened.event_type())
    assert set(load.opened) <= opened.keys()
    assert set(opened.values()) == {1}
    accepted = await load.ledger.about(OfferAccepted.event_type())
    assert {referral: accepted[referral] for referral in load.accepted} == dict.fromkeys(load.accepted, 1)
    assert set(accepted.values()) <= {1}
    assert set((await load.ledger.about(OfferMade.event_type())).values()) == {1}
    report = json.loads(version.run(*REFBUS, "verify", "--json", "--home", str(whole.home)))
    assert report["good"], report
    version.run(*REFBUS, "check-views", "--home", str(whole.home))
    assert await whole.rows("select unit from projections.units where free < 0") == []
