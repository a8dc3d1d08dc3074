"""A figure's measures, as a table for people and as JSON for whoever compares runs."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

logger = logging.getLogger(__name__)

RESULTS: Final = Path(__file__).resolve().parent / "results"
OURS: Final = "ours"
"""The bus. Another way of running it is called so too, with more behind it."""
HEADINGS: Final = ("measure", "of", "min", "median", "max", "beside ours", "target", "reached")


class Measure(NamedTuple):
    """What is measured. ``target`` is the bus's, and ``better`` says on which side of it to be; without one it is information."""

    name: str
    unit: str
    better: Literal["less", "more"] = "less"
    target: float | None = None


class Figure:
    """One figure: its measures, taken of the bus and of each contender beside it, once a run."""

    def __init__(self, name: str, title: str, measures: Sequence[Measure], contenders: Mapping[str, str]):
        self.name = name
        self.title = title
        self.setting = ""
        """How it was measured: sizes, runs."""
        self._measures = {measure.name: measure for measure in measures}
        self._contenders = dict(contenders)
        self._load = os.getloadavg()[0]
        self._taken: dict[str, dict[str, list[float]]] = {name: {} for name in self._measures}

    def add(self, contender: str, taken: Mapping[str, float]) -> None:
        """What one run of a contender gave. Raises KeyError for a measure or contender the figure does not have."""
        if contender not in self._contenders:
            raise KeyError(contender)
        for name, value in taken.items():
            self._taken[name].setdefault(contender, []).append(value)
        logger.info("%s, %s: %s", self.name, contender, ", ".join(f"{k} {text(v)}" for k, v in taken.items()))

    def show(self, console: Console) -> None:
        """Print the table, and below it who the contenders are."""
        table = Table(title=f"{self.title}\n[dim]{self.setting}[/dim]", title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
        for measure in self._measures.values():
            for row in rows_of(measure, self._taken[measure.name]):
                table.add_row(*row)
            table.add_section()
        console.print(table)
        for name, does in self._contenders.items():
            console.print(f"[dim]{name}: {does}[/dim]")

    def save(self, folder: Path = RESULTS) -> Path:
        """Write the figure's JSON file and return where it is."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self._document(), indent=1) + "\n", encoding="utf-8")
        return path

    def _document(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "title": self.title,
            "setting": self.setting,
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {
                "cpus": os.cpu_count(),
                "load_before": self._load,
                "architecture": platform.machine(),
                "python": platform.python_version(),
            },
            "contenders": self._contenders,
            "measures": [
                {**measure._asdict(), "values": self._taken[name]} for name, measure in self._measures.items()
            ],
        }


def rows_of(measure: Measure, taken: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    """A row of text for each contender, under :data:`HEADINGS`."""
    rows: list[tuple[str, ...]] = []
    for number, (contender, values) in enumerate(taken.items()):
        name = f"{measure.name} ({measure.unit})" if measure.unit else measure.name
        target, reached = "", ""
        if contender.startswith(OURS) and measure.target is not None:
            target = f"{'≤' if measure.better == 'less' else '≥'} {text(measure.target)}"
            reached = "yes" if _reaches(measure, median(values)) else "no"
        figures = (text(min(values)), text(median(values)), text(max(values)))
        rows.append(
            (name if not number else "", contender, *figures, _beside(taken, contender), target, reached)
        )
    return rows


def text(value: float) -> str:
    """A value as the tables show it."""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _reaches(measure: Measure, value: float) -> bool:
    if measure.target is None:
        return True
    return value <= measure.target if measure.better == "less" else value >= measure.target


def _beside(taken: Mapping[str, Sequence[float]], contender: str) -> str:
    """The contender's median as a multiple of ours; nothing for ours, or where ours is zero."""
    if contender == OURS or not taken.get(OURS) or median(taken[OURS]) == 0:
        return ""
    return f"{median(taken[contender]) / median(taken[OURS]):.2f} of it"
