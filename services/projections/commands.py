"""``refbus rebuild`` and ``refbus check-views``."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.cli.home import Home, local_settings
from referral_bus.cli.telling import FOUND, tell
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.runtime.metrics import CHECKS, VIEWS_CHECKED, VIEWS_DIFFERENT
from referral_bus.store.engine import new_engine
from referral_bus.store.port import StoreError
from referral_bus.wire.codec import Codec
from services.projections import check
from services.projections import rebuild as rebuilding
from services.projections.known import Damaged
from services.projections.settings import ViewsSettings

_PATIENCE_SECONDS = 60.0

Result = TypeVar("Result")

err = Console(stderr=True, soft_wrap=True)


def rebuild(home: Home = Path(".refbus")) -> None:
    """Make the views anew from the ledger, beside those that serve, and swap them. The service runs on."""
    settings = ViewsSettings.load(**local_settings(home))

    async def work() -> int:
        async with _parts(settings) as parts:
            with _display("rebuilding the views") as display:
                task = display.add_task("ledger", total=None)
                positions = await rebuilding.rebuild(
                    *parts, lambda done, of: display.update(task, completed=done, total=of)
                )
            return sum(positions.values())

    reached = _run(work())
    print(f"The views were made anew and serve now; they reflect the ledger up to {reached} offsets.")


def check_views(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    patience: Annotated[
        float, typer.Option(help="How long to wait for the views to catch up, in seconds.", min=0)
    ] = _PATIENCE_SECONDS,
    metrics: Annotated[
        Path | None,
        typer.Option(help="Also write what was found to this file (.prom), for Prometheus' node exporter."),
    ] = None,
    home: Home = Path(".refbus"),
) -> None:
    """Fold the ledger afresh and compare every row of every view with it. Exits with 3 where any differs."""
    settings = ViewsSettings.load(**local_settings(home))

    async def work() -> check.Comparison:
        async with _parts(settings) as parts:
            with _display("checking the views") as display:
                task = display.add_task("ledger", total=None)
                return await check.compare(
                    *parts, patience, lambda done, of: display.update(task, completed=done, total=of)
                )

    found = _run(work())
    if metrics is not None:
        VIEWS_DIFFERENT.set(found.different)
        VIEWS_CHECKED.set_to_current_time()
        tell(metrics, CHECKS, f"{found.different} rows differ")
    if as_json:
        content: dict[str, Any] = {"equal": found.equal, **asdict(found)}
        print(json.dumps(content, indent=2))
    else:
        rows = sum(found.rows.values())
        print(f"{rows} rows in {len(found.rows)} tables were compared; {found.different} differ.")
        for difference in found.differences:
            columns = f": {', '.join(difference.columns)}" if difference.columns else ""
            print(f"  {difference.table} {json.dumps(difference.key)} is {difference.what}{columns}")
        if not found.equal:
            print("Run 'refbus verify' to see whether the ledger is sound, then 'refbus rebuild'.")
    if not found.equal:
        raise typer.Exit(FOUND)


class _Parts(NamedTuple):
    engine: AsyncEngine
    log: KafkaLog
    topic: str
    codec: Codec


@asynccontextmanager
async def _parts(settings: ViewsSettings) -> AsyncIterator[_Parts]:
    engine, log = new_engine(settings.database_url.get_secret_value()), KafkaLog(settings.kafka_access())
    try:
        yield _Parts(engine, log, topics.ledger(settings.bus), Codec.load())
    finally:
        await log.close()
        await engine.dispose()


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do it; what a person can mend is said in a sentence."""
    try:
        return asyncio.run(work)
    except (
        Damaged,
        StoreError,
        check.NotCaughtUp,
        rebuilding.AlreadyRebuilding,
        rebuilding.NotTheOwner,
    ) as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(
            f"the database did not do it ({type(error).__name__}): is REFBUS_DATABASE_URL right, and has projections run there?"
        )


def _fail(sentence: str) -> NoReturn:
    print(f"refbus: {sentence}", file=sys.stderr)
    raise typer.Exit(2)


def _display(what: str) -> Progress:
    return Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=err,
        # What is no terminal, a log most often, is told of the end alone.
        transient=True,
    )
