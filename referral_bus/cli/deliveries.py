"""``refbus deliveries``: what became of an organisation's notices by webhook and feed, and another attempt at them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from referral_bus.cli.home import Home
from referral_bus.cli.party import Notifier, Organisation, Token, connected

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="What became of an organisation's notices by webhook and feed, and another attempt at them.",
)


@commands.command("list")
def listed(
    organisation: Organisation,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 50,
    token: Token = None,
    notifier: Notifier = None,
    home: Home = Path(".refbus"),
) -> None:
    """Print the latest deliveries as JSON: their state, the attempts, and why the last one failed."""
    with connected(home, organisation, ("agency", "provider"), token, notifier=notifier) as bus:
        print(json.dumps(bus.deliveries(limit), indent=2))


@commands.command()
def resend(
    organisation: Organisation,
    token: Token = None,
    notifier: Notifier = None,
    home: Home = Path(".refbus"),
) -> None:
    """Attempt at once what waits for its next attempt, and anew what was given up by webhook: its receiver is mended."""
    with connected(home, organisation, ("agency", "provider"), token, notifier=notifier) as bus:
        print(f"{bus.resend_deliveries()} deliveries are attempted anew.")
