"""``refbus forget``: a person's keys are destroyed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home
from referral_bus.cli.party import Intake, Token, connected


def forget(
    subject: Annotated[
        str, typer.Argument(help="The bus's pseudonym (sj-...), or the agency's own reference.")
    ],
    organisation: Annotated[
        str | None,
        typer.Option("--organisation", help="The agency whose reference it is; not needed for a pseudonym."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    token: Token = None,
    intake: Intake = None,
    home: Home = Path(".refbus"),
) -> None:
    """Destroy the keys of a person: nothing sealed of them can be opened any more, not even from a backup. It
    can't be undone."""
    if not subject.startswith("sj-") and organisation is None:
        raise Rejected("Give --organisation with an agency's own reference, or the bus's pseudonym (sj-...).")
    if not yes and not typer.confirm("All that is sealed of this person becomes unreadable for ever. Go on?"):
        raise Rejected("Nothing was destroyed.")
    with connected(home, "operations", ("operations",), token, intake=intake) as bus:
        print(json.dumps(bus.forget(subject, organisation=organisation), indent=2))
