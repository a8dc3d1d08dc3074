"""``refbus deliveries``: what became of an organisation's notices by webhook and feed, and another attempt at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import typer

from referral_bus.cli.home import Home
from referral_bus.cli.party import Notifier, Organisation, Token, connected
from referral_bus.cli.rows import MOST, AsJson, Most, rows_of, show_rows
from referral_bus.client.answers import Page

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="What became of an organisation's notices by webhook and feed, and another attempt at them.",
)

COLUMNS: Final = ("delivery", "type", "referral", "state", "attempts", "reason", "due_at", "done_at")


@commands.command("list")
def listed(
    organisation: Organisation,
    most: Most = MOST,
    as_json: AsJson = False,
    token: Token = None,
    notifier: Notifier = None,
    home: Home = Path(".refbus"),
) -> None:
    """Show the deliveries, the latest first: their state, the attempts, and why the last one failed."""
    with connected(home, organisation, ("agency", "provider"), token, notifier=notifier) as bus:

        def page(**paging: Any) -> Page:
            said = bus.deliveries(**paging)
            return Page(items=said["deliveries"], cursor=said["cursor"])

        show_rows(rows_of(page, most), COLUMNS, as_json)


@commands.command()
def resend(
    organisation: Organisation,
    token: Token = None,
    notifier: Notifier = None,
    home: Home = Path(".refbus"),
) -> None:
    """Attempt at once what waits for its next attempt, and anew what was given up by webhook: its receiver is mended."""
    with connected(home, organisation, ("agency", "provider"), token, notifier=notifier) as bus:
        resent = bus.resend_deliveries()
    print(f"{resent} {'delivery is' if resent == 1 else 'deliveries are'} attempted anew.")
