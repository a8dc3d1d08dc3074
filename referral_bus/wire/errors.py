"""What can be wrong with bytes that came from elsewhere."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes or headers that are not a message of the bus. The message never repeats the content: it may concern a person."""


class TooLarge(WireError):
    """A message that no record can hold, so that it can't be written."""
