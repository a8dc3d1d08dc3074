"""The history of a run: a file of JSON objects, a line each, written as things happen. Everything a check needs is in it.

Times (``at``) are seconds of the machine's monotonic clock; ``run`` says what the wall clock was at one of them. A backlog says first what
lay before the victims: in the partitions they read, or at their doors. ``what`` is one of:

| what | when | with |
|---|---|---|
| run | it began | seed, bus, wall (epoch ms), skipped (kinds of faults, and why), pace |
| fault | a fault was done | number, how, victims, seconds, skew, backlog (as seen by the run), partitions (null: all) |
| full | the disk of a fault was full, and stayed so until it was healed | number |
| unwritten | a write was refused since | number, said (by a log, or by the end of the part) |
| healed | what was done was undone | number |
| recovered | everything went on | number, seconds |
| fell | a part was found ended by itself | part |
| settling | the clients were told to submit nothing new | |
| unsettled | at the end not all came to rest | seconds, left |
| positions | a few times a second | views, told: the ledger offset up to which a partition is in the views, and in the notices stored |
| line | after the run: a line of a client's own list | client, line |
| record | after the run: a committed record, as an outsider read it | topic, partition, offset, timestamp, key, value, headers (base64) |
| row | after the run: a row of a view | table, row |
| views | after the run: what ``refbus check-views`` said | said |
| verified | after the run: what ``refbus verify`` said | said |
| unsaid | instead of one of these: it failed | command, why |
| end | everything is in the file | |

A history from before there were full, unwritten, settling, partitions and the door of a line's try is checked all the same, by what it
has.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from referral_bus.log.port import Record
from tests.support.checking import Line


class Writer:
    """Writes each line at once, so that a run that broke off leaves what it knew."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1, encoding="utf-8")

    def note(self, what: str, *, at: float | None = None, **more: Any) -> None:
        moment = time.monotonic() if at is None else at
        self._file.write(json.dumps({"at": round(moment, 4), "what": what, **more}) + "\n")

    def record(self, record: Record) -> None:
        self.note(
            "record",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            key=_text(record.key),
            value=_text(record.value),
            headers=[[name, _text(value)] for name, value in record.headers],
        )

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True)
class History:
    """A run's history, read."""

    run: Line
    faults: list[Line] = field(default_factory=list)
    recovered: dict[int, float] = field(default_factory=dict)
    full: dict[int, float] = field(default_factory=dict)
    """Since when the disk of a fault was full."""
    unwritten: dict[int, str] = field(default_factory=dict)
    """By what it is known that a write was refused."""
    fell: list[Line] = field(default_factory=list)
    positions: list[Line] = field(default_factory=list)
    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    """Of each client's own list."""
    records: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    """Of each topic, partition after partition."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Of each table of the views."""
    views: dict[str, Any] | None = None
    verified: dict[str, Any] | None = None
    unsaid: dict[str, str] = field(default_factory=dict)
    """Why a command said nothing."""
    settling: float | None = None
    """Since when the clients submitted nothing new."""
    unsettled: Line | None = None

    def noted(self, what: str) -> list[Line]:
        """What all clients noted of a kind."""
        return [line for lines in self.lines.values() for line in lines if line["what"] == what]

    def monotonic(self, wall: int) -> float:
        """The monotonic time of an epoch millisecond."""
        return float(self.run["at"] + (wall - self.run["wall"]) / 1000)


class Unfinished(Exception):
    """The history ends before everything was kept in it: there is nothing to check."""


def read(path: Path) -> History:
    """Raises Unfinished where the run broke off, OSError and ValueError where the file can't be read."""
    lines = _lines(path)
    history, ended = History(next(lines)), False
    for line in lines:
        match line["what"]:
            case "fault":
                history.faults.append(line)
            case "recovered":
                history.recovered[line["number"]] = line["seconds"]
            case "full":
                history.full[line["number"]] = line["at"]
            case "unwritten":
                history.unwritten[line["number"]] = line["said"]
            case "fell":
                history.fell.append(line)
            case "positions":
                history.positions.append(line)
            case "line":
                history.lines[line["client"]].append(line["line"])
            case "record":
                history.records[line["topic"]].append(_record(line))
            case "row":
                history.rows[line["table"]].append(line["row"])
            case "views":
                history.views = line["said"]
            case "verified":
                history.verified = line["said"]
            case "unsaid":
                history.unsaid[line["command"]] = line["why"]
            case "settling":
                history.settling = line["at"]
            case "unsettled":
                history.unsettled = line
            case "end":
                ended = True
    if not ended:
        raise Unfinished(f"{path} ends before the run did: there is nothing to check in it")
    return history


def packed(path: Path) -> Path:
    """The history in a gzip file beside it, in its place."""
    small = path.with_name(path.name + ".gz")
    with path.open("rb") as whole, gzip.open(small, "wb", compresslevel=1) as file:
        shutil.copyfileobj(whole, file, 1024 * 1024)
    path.unlink()
    return small


def _lines(path: Path) -> Iterator[Line]:
    lines: Iterable[str]
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as lines
    ):
        for line in lines:
            yield json.loads(line)


def _record(line: Line) -> Record:
    return Record(
        line["topic"],
        line["partition"],
        line["offset"],
        line["timestamp"],
        _bytes(line["key"]),
        _bytes(line["value"]),
        tuple((name, _bytes(value) or b"") for name, value in line["headers"]),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value)
