"""``refbus demo``: agencies and providers of a county use a bus of their own, and the outcome is checked."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from referral_bus.cli.directory import assumed
from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Pid
from referral_bus.client.errors import BusError
from referral_bus.contracts.facts import Need
from referral_bus.demo.county import counted_now
from referral_bus.demo.display import Display
from referral_bus.demo.outside import Leftovers, cleared
from referral_bus.demo.result import Result, Unchecked, compute
from referral_bus.demo.scenario import Cast, Played, cast, play
from referral_bus.demo.watch import NotSettled
from referral_bus.directory.build import ASSUMED_TERMS
from referral_bus.directory.model import DirectoryError, Import
from referral_bus.directory.reader import read
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY, terms
from referral_bus.embedded.bus import Plan, local_bus
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.reference import OPERATIONS
from referral_bus.log.port import LogError

_REGION_OF_A_DIRECTORY = "central"
_HELP_OF_A_DIRECTORY = "1375"
"""What services that do not say what they help with are taken to help with: nobody could be referred to them
otherwise. Advocacy & Legal Aid, as the one real directory without terms that we know has it."""
_MOST_FAULTS = 5
_SAID = (BusError, LogError, EmbeddedError, NotSettled, Unchecked, Leftovers, DirectoryError)
"""Errors whose message is for people."""


def demo(
    referrals: Annotated[
        int, typer.Option(help="How many referrals the agencies submit.", min=1, max=100_000)
    ] = 600,
    seed: Annotated[int, typer.Option(help="The county and its people are made from it.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file as JSON.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Use the services of this HSDS directory instead of the synthetic county's."),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="IANA time zone of the directory's opening hours, as America/Chicago. Without it nobody knows when they are."
        ),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Kafka to use instead of the embedded one.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="postgresql+psycopg:// address of an empty database, instead of the embedded one."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            help="Folder for data and logs, which must not hold a bus yet. Left out: a temporary one."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data and logs for a look at them.")] = False,
) -> None:
    """Run the whole life of referrals on a real Kafka and PostgreSQL, check every promise, and leave nothing
    behind."""
    console = Console()
    display = Display(console, referrals)
    try:
        services = None if directory is None else _directory(directory, zone, console)
        players = cast(referrals, seed, services, counted_now())
        with _home(home, keep, console) as folder, Pid(folder):
            plan = Plan(folder, bus="demo", kafka=kafka, database=database, durable=False)
            played, result = asyncio.run(_until_signalled(_run(plan, players, display, seed)))
    except _SAID as error:
        raise Rejected(str(error)) from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Rejected("The demo was stopped before its end, and so was all it had started.") from None
    except BaseExceptionGroup as group:
        raise Rejected(_sentence(group)) from None
    display.result(result)
    if json_file is not None:
        _write(json_file, result)
    _conclude(console, played, result)


async def _run(plan: Plan, players: Cast, display: Display, seed: int) -> tuple[Played, Result]:
    organisations = [organisation.organisation for organisation in players.organisations]
    async with cleared(plan, [*organisations, OPERATIONS]), local_bus(plan, display.step) as bus:
        playing = asyncio.create_task(play(bus, players, display, seed))
        failing = asyncio.create_task(bus.first_failure())
        try:
            await asyncio.wait((playing, failing), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                raise failing.result()
            played = playing.result()
        finally:
            for task in (playing, failing):
                task.cancel()
            await asyncio.gather(playing, failing, return_exceptions=True)
        display.step("checking ledger and views")
        return played, await compute(bus, organisations)


async def _until_signalled(work: Coroutine[None, None, tuple[Played, Result]]) -> tuple[Played, Result]:
    """Do the work; SIGTERM ends it as Ctrl-C does, so that everything is stopped and removed either way."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


@contextmanager
def _home(home: Path | None, keep: bool, console: Console) -> Iterator[Path]:
    """The demo's folder, removed in the end unless it is to be kept."""
    if home is not None and home.exists() and any(home.iterdir()):
        raise Rejected(f"{home} is not empty. Name a new folder with --home, or leave it out.")
    folder = Path(tempfile.mkdtemp(prefix="refbus-demo-")) if home is None else home.resolve()
    try:
        yield folder
    finally:
        if keep:
            console.print(f"Data and logs are in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _directory(path: Path, zone: str | None, console: Console) -> Import:
    need = Need(vocabulary=OPEN_ELIGIBILITY, code=_HELP_OF_A_DIRECTORY)
    found = read(path, assumed(region=_REGION_OF_A_DIRECTORY, terms=(need,), zone=zone))
    if not found.services:
        raise Rejected(f"No service of {path} can be used. 'refbus directory import' says why, row by row.")
    console.print(
        f"{len(found.services)} services and {len(found.organisations)} organisations from {path}",
        soft_wrap=True,
    )
    if count := found.assumed.get(ASSUMED_TERMS):
        taken = terms()[_HELP_OF_A_DIRECTORY].name
        console.print(f"{count} do not say what they help with: here it is {taken}.", soft_wrap=True)
    return found


def _write(path: Path, result: Result) -> None:
    try:
        path.write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Rejected(
            f"The result can't be written to {path}: {error.strerror}. Name another file."
        ) from None


def _conclude(console: Console, played: Played, result: Result) -> None:
    """Say in a sentence whether the bus kept its promises; exit code 1 where not."""
    expected = played.expectations
    broken = [*result.broken_promises(), *expected.faults[:_MOST_FAULTS]]
    if len(expected.faults) > _MOST_FAULTS:
        broken.append(f"and {len(expected.faults) - _MOST_FAULTS} more answers were not as they must be")
    if broken:
        raise Rejected(
            f"The bus did not keep its promises: {'; '.join(broken)}. Run it with --keep to look into it."
        )
    at_once = expected.refused_at_once.total()
    console.print(
        f"Every promise was kept: {result.submitted} submissions were decided once each, {expected.repeats} "
        f"repeats answered like the first, {at_once} bad ones refused at the door and {result.refused} later.",
        soft_wrap=True,
    )


def _sentence(group: BaseExceptionGroup[BaseException]) -> str:
    """The first error of a group whose message is for people. What is none of ours is raised as it is."""
    mine, other = group.split(_SAID)
    if mine is None or other is not None:
        raise group
    error: BaseException = mine
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
