"""A run: the cluster up, fault after fault, everything settled, and all of it kept in the history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.cluster.collecting import collect
from tests.chaos.cluster.faults import NEEDS_NAMESPACES, Fault, chosen
from tests.chaos.cluster.history import Writer, packed
from tests.chaos.cluster.network import Network
from tests.chaos.cluster.observing import Observer
from tests.chaos.cluster.parts import Supervisor
from tests.chaos.cluster.place import BUS, NODES, Place, Say, place
from tests.chaos.cluster.striking import Striker
from tests.chaos.town import REGIONS, Client

SETTLE_SECONDS: Final = 240.0
_WARM_SECONDS: Final = 4.0
_QUIET_SECONDS: Final = 16.0
"""Nothing new for so long, and nothing left undone: longer than the longest offer stays open by itself, and it is settled."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. ``only`` picks faults by the beginning of their kind and the part; ``why_not`` says why there are no namespaces."""

    faults: int
    seed: str
    pace: float
    only: str | None
    home: Path
    keep: Path
    namespaces: bool
    why_not: str | None

    def chosen(self) -> list[Fault]:
        if self.only is None:
            return chosen(self.seed, self.faults, namespaces=self.namespaces)
        many = chosen(self.seed, self.faults * 50, namespaces=self.namespaces)
        return [one for one in many if f"{one.how} {' '.join(one.victims)}".startswith(self.only)][
            : self.faults
        ]


async def run(order: Order, say: Say) -> Path:
    """Do it, and return where the history is. Where the bus does not settle it says so, and all there is is kept all the same."""
    say(f"data and logs are in {order.home}, the history goes to {order.keep}")
    skipped = {} if order.why_not is None else dict.fromkeys(sorted(NEEDS_NAMESPACES), order.why_not)
    for how, why in skipped.items():
        say(f"skipped: {how}, since {why}")
    async with AsyncExitStack() as stack:
        history = Writer(order.keep)
        stack.callback(history.close)
        history.note(
            "run",
            seed=order.seed,
            bus=BUS,
            wall=time.time_ns() // 1_000_000,
            skipped=skipped,
            pace=order.pace,
        )
        network = Network(NODES, order.namespaces)
        cluster = await stack.enter_async_context(place(order.home, network, order.pace, say))
        supervisor = asyncio.create_task(Supervisor(cluster.parts, say).run())
        stack.push_async_callback(_cancelled, supervisor)
        observer = Observer(BUS, cluster.bus.addresses.kafka, cluster.inside, len(REGIONS), history)
        observer.start()
        stack.callback(observer.stop)
        await asyncio.sleep(_WARM_SECONDS)
        striker = Striker(cluster, observer, history, say)
        faults = order.chosen()
        for number, fault in enumerate(faults, start=1):
            words = f"{number:2}/{len(faults)} {fault.how} {' and '.join(fault.victims)} {fault.seconds} s"
            took = await striker.strike(number, fault)
            say(f"{words}: {'does not go on' if took is None else f'everything went on after {took:.1f} s'}")
        say("settling")
        history.note("settling")
        left = await settled(cluster.clients.values(), observer)
        if left:
            history.note("unsettled", seconds=SETTLE_SECONDS, left=left)
            say(f"did not settle: {', '.join(f'{count} {what}' for what, count in left.items())}")
        for part in cluster.parts.values():
            for at in part.fell:
                history.note("fell", at=at, part=part.name)
        say("reading everything")
        await _collected(cluster, history)
    return await asyncio.to_thread(packed, order.keep)


async def settled(clients: Collection[Client], observer: Observer) -> dict[str, int]:
    """Stop submitting, and wait until every referral has come to its end and everybody has heard, and said, all there is. Returns what
    is left undone where that takes too long, and nothing otherwise."""
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            await _at_rest(clients, observer)
            for client in clients:
                await client.end()
    except TimeoutError:
        for client in clients:
            await client.stop()
        return _left(observer)
    return {}


async def _at_rest(clients: Collection[Client], observer: Observer) -> None:
    for client in clients:
        await client.finish()
    quiet_since, before = time.monotonic(), -1
    while time.monotonic() <= quiet_since + _QUIET_SECONDS:
        for client in clients:
            await client.rest()
        events = observer.behind({})
        if events != before or any(_left(observer).values()):
            quiet_since, before = time.monotonic(), events
        await asyncio.sleep(0.5)


def _left(observer: Observer) -> dict[str, int]:
    return {
        "undecided": observer.undecided(),
        "not in the views": observer.behind(observer.views),
        "not told": observer.behind(observer.told),
    }


async def _collected(cluster: Place, history: Writer) -> None:
    clients = cluster.clients
    await collect(
        cluster.bus,
        cluster.inside,
        {name: Path(client.plan.journal) for name, client in clients.items()},
        [
            one
            for client in clients.values()
            for one, _, channel in client.plan.subscriptions
            if channel == "feed"
        ],
        history,
    )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
