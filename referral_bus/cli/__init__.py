"""``refbus``: the bus from the command line."""

from referral_bus.cli.main import main

__all__ = ["main"]
