"""The command's entry: its own commands, those the services contribute, and errors as sentences."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer

from referral_bus.cli import demo, directory, doctor, local, party, privacy, saying
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.log.port import LogError
from referral_bus.runtime.settings import SettingsError

COMMANDS = "refbus.commands"
"""The entry-point group of the services: the name is the command's, the object a function typer can call."""

app = typer.Typer(
    name="refbus",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The interagency referral bus: run it, use it, and check what it did.",
)

local.register(app)
demo.register(app)
party.register(app)
app.add_typer(saying.respond, name="respond")
app.add_typer(saying.referral, name="referral")
directory.register(app)
privacy.register(app)
doctor.register(app)
for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
    app.command(point.name)(point.load())


def main() -> None:
    """Run the command. What a person can mend is said in a sentence, without a traceback, with exit code 1."""
    try:
        app()
    except (EmbeddedError, LogError, SettingsError, party.Rejected) as error:
        print(f"refbus: {error}", file=sys.stderr)
        raise SystemExit(1) from None
