"""The rows of a directory, whatever it was written in, and the account of what becomes of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from referral_bus.directory.model import FileCount, Problem

Values = dict[str, str]


def clean(text: str) -> str:
    """A cell's text, trimmed, without what neither UTF-8 (lone surrogates) nor a database (NUL) can hold."""
    return text.replace("\0", " ").encode(errors="replace").decode().strip()


@dataclass(slots=True, eq=False)
class Row:
    """One row of one table. ``values`` are clean, and hold no empty ones."""

    file: str
    at: str
    values: Values

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")


@dataclass(slots=True)
class Rows:
    """All rows by the table they belong to (names as in HSDS 3.1), each either used or left out for a
    reason."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _count: Counter[str] = field(default_factory=Counter)
    _used: set[Row] = field(default_factory=set)
    _left_out: set[Row] = field(default_factory=set)
    _passed_over: dict[Row, str] = field(default_factory=dict)

    def readable(self, table: str) -> list[Row]:
        """The rows of a table that are not left out yet."""
        return [row for row in self.tables.get(table, []) if row not in self._left_out]

    def open(self, file: str) -> None:
        """A file is read; it stands in the account even if it has no rows."""
        if file not in self._files:
            self._files.append(file)

    def add(self, table: str, row: Row) -> None:
        """A row was read."""
        self._count[row.file] += 1
        self.tables.setdefault(table, []).append(row)

    def use(self, row: Row) -> None:
        """The row went into a service or an organisation."""
        self._used.add(row)

    def leave_out(self, row: Row, reason: str) -> None:
        """The row can't be used; of a row that is used already, not for this as well."""
        if row in self._used:
            self.note(row, reason)
        elif row not in self._left_out:
            self._left_out.add(row)
            self.problems.append(Problem(row.file, row.at, reason))

    def pass_over(self, row: Row, reason: str) -> None:
        """The row can be used, but not for this; it is left out in the end if nothing else uses it."""
        self._passed_over.setdefault(row, reason)

    def note(self, row: Row, reason: str) -> None:
        """The row is used, but not all of it."""
        self.problems.append(Problem(row.file, row.at, reason, used=True))

    def unread(self, file: str, at: str, count: int, reason: str) -> None:
        """``count`` rows of a file were not taken up at all."""
        self._count[file] += count
        self.problems.append(Problem(file, at, reason))

    def about(self, file: str, reason: str) -> None:
        """Something is to be said of a file as a whole; its rows are accounted for on their own."""
        self.problems.append(Problem(file, "", reason, used=True))

    def close(self) -> list[FileCount]:
        """Leave out every row that nothing made use of, and give the account of each file."""
        for row in chain.from_iterable(self.tables.values()):
            if row not in self._used and row not in self._left_out:
                reason = self._passed_over.get(row, "no service or organisation that was read refers to it")
                self.leave_out(row, reason)
        used = Counter(row.file for row in self._used - self._left_out)
        return [
            FileCount(file, self._count[file], used[file], self._count[file] - used[file])
            for file in self._files
        ]
