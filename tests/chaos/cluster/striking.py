"""Faults done to the running cluster while it has work before it, and undone; then the wait until everything goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from referral_bus.log.topics import Reader
from tests.chaos.cluster.faults import Fault
from tests.chaos.cluster.history import Writer
from tests.chaos.cluster.observing import Observer
from tests.chaos.cluster.parts import Kind, Part
from tests.chaos.cluster.place import Place, Say
from tests.chaos.cluster.refusals import Refusals
from tests.chaos.cluster.skewed import set_wrong
from tests.chaos.cluster.standstill import of_line
from tests.support.checking import Line

_BURST: Final = 50
"""Referrals of each client at once before a fault: a backlog."""
_LEAST: Final = 3
_LEAST_UNDECIDED: Final = 15
"""More of these: they are what most faults are about."""
_LOOK_SECONDS: Final = 0.02
_FILL_SECONDS: Final = 0.5
_BURST_SECONDS: Final = 3.0
_BUSY_SECONDS: Final = 60.0
_FROZEN_SECONDS: Final = 0.5
"""For a look at the database after a service was stopped, and what is under way to arrive."""
_STRUCK_SECONDS: Final = 0.3
"""From the strike until matching goes on, where it was stopped for a backlog to be there."""
_BEGUN_SECONDS: Final = 0.02
"""For matching to have begun with the backlog where it goes on before the strike."""
_GOES_ON_SECONDS: Final = 120.0
_REFUSED_SECONDS: Final = 30.0
"""So long at the most a disk stays full for a write to be refused."""
_CALM_SECONDS: Final = 2.0
_UP_SECONDS: Final = 120.0
_READERS: Final[dict[Kind, Reader]] = {
    "matching": "matching",
    "projections": "projections",
    "notifier": "notifier",
}

NotAdmitted = Callable[[set[tuple[str, str]]], set[tuple[str, str]]]
"""Those of the submissions (source and id) that are not on the inbox."""


class Striker:
    """Strikes, and notes in the history what it did."""

    def __init__(self, place: Place, observer: Observer, history: Writer, say: Say) -> None:
        self._place, self._observer, self._history, self._say = place, observer, history, say

    async def strike(self, number: int, fault: Fault) -> float | None:
        """Do it, undo it, and wait until everything goes on. Returns after how many seconds that was; None where it wasn't in time."""
        stopped, backlog, partitions = await self._busy(fault)
        if number % 2:
            for part in stopped:
                asyncio.get_running_loop().call_later(_STRUCK_SECONDS, part.go_on)
        else:
            # In the midst of the transactions in which the backlog is decided.
            for part in stopped:
                part.go_on()
            await asyncio.sleep(_BEGUN_SECONDS)
        at = time.monotonic()
        self._history.note(
            "fault",
            at=at,
            number=number,
            how=fault.how,
            victims=fault.victims,
            backlog=backlog,
            partitions=None if partitions is None else sorted(partitions),
            seconds=fault.seconds,
            skew=fault.skew,
        )
        await self._do(number, fault)
        healed = time.monotonic()
        self._history.note("healed", at=healed, number=number)
        took = await self._goes_on(at, healed)
        if took is not None:
            self._history.note("recovered", number=number, seconds=round(took, 2))
        await asyncio.sleep(_CALM_SECONDS)
        return took

    async def _busy(self, fault: Fault) -> tuple[list[Part], dict[str, int], set[int] | None]:
        """Wait for a moment when the victims have work before them. A service that is to be killed or paused stands still from then on; and
        of what leaves decisions undone, matching does: what is read of the ledger comes late, so that without it all might have been
        decided. Returns who is to go on, what is left undone, and the partitions in which that counts (None: all)."""
        doomed = fault.kind not in ("broker", "database") and fault.how in ("killed", "paused")
        matching = [part for name, part in self._place.parts.items() if name.startswith("matching")]
        undecided = fault.kind not in ("intake", "projections", "notifier")
        victims = [self._place.parts[name] for name in fault.victims]
        parts = victims if doomed else matching if undecided else []
        asked_until = time.monotonic() + _BUSY_SECONDS / 2
        async with asyncio.timeout(_BUSY_SECONDS):
            while True:
                for client in self._place.clients.values():
                    await client.burst(_BURST)
                until = time.monotonic() + _BURST_SECONDS
                while time.monotonic() < until:
                    await asyncio.sleep(_LOOK_SECONDS)
                    for part in parts:
                        part.pause()
                    if parts:
                        await asyncio.sleep(_FROZEN_SECONDS)
                    partitions = await self._read_by(fault)
                    if not partitions and time.monotonic() > asked_until:
                        # The brokers do not say, or the victims read nothing: then the work of all counts, and the history says so.
                        partitions = None
                    backlog = self._backlog(fault, partitions)
                    count = next(iter(backlog.values()))
                    if count >= (_LEAST_UNDECIDED if undecided else _LEAST):
                        return [] if doomed else parts, backlog, partitions
                    for part in parts:
                        part.go_on()
                    if parts:
                        await asyncio.sleep(_FROZEN_SECONDS)

    async def _read_by(self, fault: Fault) -> set[int] | None:
        """The partitions that the victims read: their twins go on with the others. None where they read none, or all have one address."""
        network, reader = self._place.network, _READERS.get(fault.kind)
        if reader is None or not network.namespaces:
            return None
        return await asyncio.to_thread(self._observer.read_at, [*map(network.address, fault.victims)], reader)

    def _backlog(self, fault: Fault, partitions: set[int] | None) -> dict[str, int]:
        """What is left undone: first what lies before the victims, in their partitions or at their doors, then all there is."""
        observer, place = self._observer, self._place
        waiting = [door for client in place.clients.values() for door in client.in_flight.values()]
        match fault.kind:
            case "intake":
                doors = {place.doors[name] for name in fault.victims}
                own = {"requests in flight": sum(door in doors for door in waiting)}
            case "projections":
                own = {"not in the views": observer.behind(observer.views, partitions)}
            case "notifier":
                own = {"not told": observer.behind(observer.told, partitions)}
            case _:
                own = {"undecided": observer.undecided(partitions)}
        left = {
            "undecided": observer.undecided(),
            "requests in flight": len(waiting),
            "not in the views": observer.behind(observer.views),
            "not told": observer.behind(observer.told),
        }
        return own | {what: count for what, count in left.items() if what not in own}

    async def _do(self, number: int, fault: Fault) -> None:
        parts = [self._place.parts[name] for name in fault.victims]
        network = self._place.network
        match fault.how:
            case "killed":
                await asyncio.gather(*(part.down() for part in parts))
                await asyncio.sleep(fault.seconds)
                for part in parts:
                    part.held = False
            case "killed in turn":
                for part in parts:
                    await part.down()
                    await asyncio.sleep(fault.seconds)
                    part.held = False
                    await self._up(part.name)
            case "paused" | "hung":
                for part in parts:
                    part.pause()
                await asyncio.sleep(fault.seconds)
                for part in parts:
                    part.go_on()
            case "cut off":
                for name in fault.victims:
                    network.cut(name)
                await asyncio.sleep(fault.seconds)
                network.heal(fault.victims)
            case "set apart":
                network.set_apart(fault.victims)
                await asyncio.sleep(fault.seconds)
                network.heal(fault.victims)
            case "disk filled":
                for part in parts:
                    await self._full(number, part, fault.seconds)
            case "clock set wrong":
                clocks = [part.clock for part in parts if part.clock is not None]
                for clock in clocks:
                    set_wrong(clock, fault.skew)
                await asyncio.sleep(fault.seconds)
                for clock in clocks:
                    set_wrong(clock, 0)

    async def _full(self, number: int, part: Part, seconds: float) -> None:
        """Keep the part's disk full for so long from when it is, and until a write was refused, which must show."""
        assert part.disk is not None
        place, fell, refused = self._place, len(part.fell), None
        refusals = Refusals(place.home / "logs", place.home / part.name)
        await asyncio.to_thread(part.disk.fill)
        full = time.monotonic()
        self._history.note("full", at=full, number=number)
        while (lasted := time.monotonic() - full) < (_REFUSED_SECONDS if refused is None else seconds):
            await asyncio.sleep(_FILL_SECONDS)
            await asyncio.to_thread(part.disk.fill)
            if refused is None:
                refused = f"{part.name} ended" if len(part.fell) > fell else refusals.first()
                if refused is not None:
                    self._history.note("unwritten", number=number, said=refused)
        part.disk.free()
        self._say(f"   full for {lasted:.1f} s: {refused or 'no write was refused'}")

    async def _up(self, name: str) -> None:
        part = self._place.parts[name]
        async with asyncio.timeout(_UP_SECONDS):
            while part.starting or not part.process.running:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _goes_on(self, at: float, healed: float) -> float | None:
        """Wait until, since it was healed, every region decides, every client is acknowledged to and has what it put on its outbox on the
        inbox, and views and notices follow."""
        observer, clients, parts = self._observer, self._place.clients, self._place.parts
        views, told = dict(observer.views), dict(observer.told)
        waits: list[str] = []
        while time.monotonic() < healed + _GOES_ON_SECONDS:
            still = [f"decisions {number}" for number, seen in observer.decided_at.items() if seen <= healed]
            still += [
                f"{what} {name}"
                for name, one in clients.items()
                for what in stand_still(one.acknowledged, healed, observer.not_admitted)
            ]
            still += [
                f"views {number}" for number, at_ in views.items() if observer.views.get(number, 0) <= at_
            ]
            still += [f"told {number}" for number, at_ in told.items() if observer.told.get(number, 0) <= at_]
            still += [
                f"start of {name}"
                for name, part in parts.items()
                if part.starting or not part.process.running
            ]
            if not still:
                if waits:
                    self._say(f"   last: {' '.join(waits)}")
                return time.monotonic() - at
            waits = still
            await asyncio.sleep(_LOOK_SECONDS * 5)
        self._say(f"   does not go on: {' '.join(waits)}")
        return None


def stand_still(acknowledged: Sequence[Line], since: float, not_admitted: NotAdmitted) -> list[str]:
    """The lanes of a client that have not gone on since: nothing was acknowledged to it over HTTP; or of what it had put on its outbox by
    then not all is on the inbox, or nothing of what came after. What is put on an outbox is acknowledged by Kafka, whatever intake does."""
    still = []
    if not any(line["at"] > since and line["door"] != "outbox" for line in acknowledged):
        still.append("acknowledgements")
    sealed = [line for line in acknowledged if line["door"] == "outbox"]
    fresh = {of_line(line) for line in sealed if line["at"] > since}
    missing = not_admitted({of_line(line) for line in sealed})
    if missing - fresh or not fresh - missing:
        still.append("outboxes")
    return still
