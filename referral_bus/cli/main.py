"""The command's entry: its own commands, those the services contribute, and errors as sentences."""

from __future__ import annotations

import gc
import logging
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import typer

from referral_bus.cli.errors import Rejected
from referral_bus.cli.later import group_of
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.log.port import LogError
from referral_bus.runtime.settings import SettingsError

COMMANDS: Final = "refbus.commands"
"""The entry-point group of the services: the name is the command's, the object a function typer can call."""

OWN: Final = {
    "up": "local:up",
    "down": "local:down",
    "demo": "demo:demo",
    "token": "party:token",
    "submit": "party:submit",
    "respond": "saying:respond",
    "referral": "saying:referral",
    "follow": "party:follow",
    "show": "views:show",
    "deliveries": "deliveries:commands",
    "publish": "publish:publish",
    "directory": "directory:commands",
    "forget": "privacy:forget",
    "doctor": "doctor:doctor",
    "deadletter": "deadletter:commands",
    "topics": "topics:topics",
    "backup": "backup:backup",
    "restore": "backup:restore",
}
"""The modules of this package and what in them the commands are, in the order of the help."""


def commands() -> list[EntryPoint]:
    """Where each command is: nothing is imported before it is run."""
    own = [EntryPoint(name, f"referral_bus.cli.{where}", COMMANDS) for name, where in OWN.items()]
    return [*own, *sorted(entry_points(group=COMMANDS), key=lambda point: point.name)]


app = typer.Typer(
    name="refbus",
    cls=group_of(commands()),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def refbus() -> None:
    """The interagency referral bus: run it, use it, and check what it did."""


def main() -> None:
    """Run the command. What a person can mend is said in a sentence, without a traceback, with exit code 1."""
    # The client of Kafka logs each attempt to connect; what came of them all is in the sentence.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        app()
    except (EmbeddedError, LogError, SettingsError, Rejected) as error:
        print(f"refbus: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        # As Python ends it looks for garbage in all that was imported: a sixth of a short command's time.
        gc.freeze()
