"""Rows that the bus gives by pages, as a table for people or as JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from referral_bus.cli.party import local
from referral_bus.client.answers import Page, Row

Most = Annotated[int, typer.Option("--most", help="How many rows at most.", min=1, max=10_000)]
AsJson = Annotated[bool, typer.Option("--json", help="Whole rows as JSON, one a line.")]

MOST: Final = 50
"""How many are shown where nobody says."""
_PAGE: Final = 200

console = Console(soft_wrap=True)


def rows_of(ask: Callable[..., Page], most: int, **asked: Any) -> Iterator[Row]:
    """The rows of as many pages as it takes."""
    cursor: str | None = None
    left = most
    while left:
        given = {name: value for name, value in asked.items() if value is not None}
        if cursor is not None:
            given["cursor"] = cursor
        page = ask(limit=min(left, _PAGE), **given)
        yield from page.items[:left]
        left -= min(left, len(page.items))
        cursor = page.cursor
        if cursor is None:
            return


def show_rows(rows: Iterator[Row], columns: Sequence[str], as_json: bool) -> None:
    """Print these columns of the rows as a table, or the rows whole."""
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    table = Table(*(column.removesuffix("_at").replace("_", " ") for column in columns), box=None)
    for row in rows:
        table.add_row(*(_cell(column, row) for column in columns))
    if table.row_count:
        console.print(table, markup=False)
    else:
        print("There is nothing.")


def _cell(column: str, row: Mapping[str, Any]) -> str:
    """What stands in a table: moments in local time, events by their names, nothing for nothing."""
    value = row.get(column)
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case int() if column.endswith("_at") or column in ("at", "since", "until"):
            moment, today = local(value), local(time.time_ns() // 1_000_000).date()
            return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"
        case str() if column == "type" and value.count(".") > 1:
            return value.split(".")[-2]
        case list():
            return ", ".join(f"{one['place']}. at {one['service']}" for one in value)
        case _:
            return str(value)
