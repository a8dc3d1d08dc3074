"""``refbus up`` and ``refbus down``: the whole bus on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from referral_bus.cli.home import Home, Pid
from referral_bus.demo.county import REGIONS, County, counted_now
from referral_bus.demo.settle import settle
from referral_bus.embedded.bus import LocalBus, Plan, local_bus
from referral_bus.embedded.reference import publish_defaults
from referral_bus.embedded.secrets import key_of

FIRST_PORT = 18080
_DOWN_SECONDS = 60.0

console = Console()


def up(
    home: Home = Path(".refbus"),
    kafka: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Kafka to use instead of the embedded one.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql+psycopg:// address to use instead of the embedded one.")
    ] = None,
    regions: Annotated[str, typer.Option(help="Names of the regions, comma-separated.")] = ",".join(REGIONS),
    first_port: Annotated[
        int, typer.Option(help="The first of the ports to use, 1024 to 32000.", min=1024, max=32000)
    ] = FIRST_PORT,
    matching_workers: Annotated[
        int, typer.Option(help="Processes that share the matching.", min=1, max=8)
    ] = 1,
    empty: Annotated[
        bool, typer.Option("--empty", help="Begin without the made-up county's organisations and services.")
    ] = False,
) -> None:
    """Bring the bus up and keep it up until Ctrl-C: a service that ends is started anew, unless its settings are
    wrong or it ends again and again. Data stays for the next time."""
    plan = Plan(
        home.resolve(),
        kafka=kafka,
        database=database,
        first_port=first_port,
        matching_workers=matching_workers,
    )
    with Pid(home):
        asyncio.run(_up(plan, regions.split(","), empty))


async def _up(plan: Plan, regions: list[str], empty: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with local_bus(plan, lambda step: console.print(f"[dim]{step} …[/dim]")) as bus:
        await publish_defaults(bus, regions)
        if not empty and not key_of(plan.home, "").parent.exists():
            console.print("[dim]publishing the made-up county …[/dim]")
            await settle(bus, County.make(regions=regions, counted_at=counted_now()))
        console.print(_addresses(bus))
        console.print("The bus is up. Ctrl-C stops it; what it holds stays.")
        failure = asyncio.create_task(bus.supervise(_say))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((failure, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if failure.done():
            raise failure.result()
        failure.cancel()
        await asyncio.gather(failure, return_exceptions=True)
        console.print("[dim]stopping …[/dim]")


def _say(said: str) -> None:
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def _addresses(bus: LocalBus) -> Table:
    addresses = bus.addresses
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("intake", f"{addresses.intake}   (submit; {addresses.intake}/docs)")
    table.add_row("queries", f"{addresses.queries}   (views; {addresses.queries}/docs)")
    table.add_row("notifier", f"{addresses.notifier}   (subscribe, stream)")
    table.add_row("Kafka", addresses.kafka)
    for name, address in addresses.operations.items():
        table.add_row(f"metrics of {name}", f"{address}/metrics")
    table.add_row("logs", str(bus.plan.home / "logs"))
    return table


def down(
    home: Home = Path(".refbus"),
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Also remove all data, keys and logs of this bus.")
    ] = False,
) -> None:
    """Stop a bus that is up in another terminal."""
    pid = Pid.running(home)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_SECONDS
        while Pid.running(home) is not None:
            if time.monotonic() > deadline:
                console.print(
                    f"The bus (process {pid}) has not stopped within {_DOWN_SECONDS:.0f} s: look at {home}/logs."
                )
                raise typer.Exit(1)
            time.sleep(0.1)
        console.print("The bus is down.")
    elif not wipe:
        console.print(f"No bus is up in {home}.")
    if wipe:
        if (home / "secrets").exists() or not home.exists():
            if home.exists():
                shutil.rmtree(home)
            console.print(f"{home} is removed.")
        else:
            console.print(
                f"{home} holds no bus, so nothing in it was removed. Name the right folder with --home."
            )
            raise typer.Exit(1)
