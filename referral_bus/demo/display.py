"""How a demo shows what goes on: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from referral_bus.demo.result import Result
from referral_bus.demo.watch import Seen

_REFRESHES_PER_SECOND: Final = 5
_LINE_EVERY_SECONDS: Final = 3.0
_SHOWN: Final = (
    ("referrals decided", "ReferralOpened"),
    ("offers made", "OfferMade"),
    ("accepted", "OfferAccepted"),
    ("declined", "OfferDeclined"),
    ("expired", "OfferExpired"),
    ("withdrawn", "ReferralWithdrawn"),
    ("service started", "ServiceStarted"),
    ("outcome reported", "OutcomeReported"),
    ("closed", "ReferralClosed"),
    ("refused", "SubmissionRefused"),
)


class Display:
    """Shows steps, then progress, then the result."""

    def __init__(self, console: Console, referrals: int) -> None:
        self._console = console
        self._referrals = referrals
        self._seen = Seen()
        self._began = time.monotonic()
        self._said_at = float("-inf")

    def step(self, sentence: str) -> None:
        """Say what is being done now."""
        self._console.print(f"[dim]{sentence} …[/dim]")

    @contextmanager
    def live(self, seen: Seen) -> Iterator[None]:
        """Show what is seen, as it grows, until the block ends."""
        self._seen, self._began = seen, time.monotonic()
        if not self._console.is_terminal:
            yield
            self.tick(last=True)
            return
        with Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        ):
            yield

    def tick(self, last: bool = False) -> None:
        """Where there is no terminal: a line now and then."""
        if self._console.is_terminal or (not last and time.monotonic() - self._said_at < _LINE_EVERY_SECONDS):
            return
        self._said_at = time.monotonic()
        counts = ", ".join(
            f"{self._seen.events[name]} {label}" for label, name in _SHOWN if self._seen.events[name]
        )
        self._console.print(
            f"{time.monotonic() - self._began:5.0f} s: {counts or 'nothing yet'}", soft_wrap=True
        )

    def result(self, result: Result) -> None:
        """The figures, in the end."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in result.as_json().items():
            if value is not None:
                table.add_row(
                    name.replace("_", " "), f"{value:.1f}" if isinstance(value, float) else str(value)
                )
        self._console.print(table)

    def _table(self) -> RenderableType:
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, name in _SHOWN:
            count = self._seen.events[name]
            bar = ProgressBar(total=max(self._referrals, count, 1), completed=count, width=40)
            table.add_row(label, str(count), bar)
        return Group(table, f"[dim]{time.monotonic() - self._began:.0f} s[/dim]")
