"""What goes wrong when the parts of a bus are brought up on one machine."""

from __future__ import annotations


class EmbeddedError(Exception):
    """A part could not be brought up, or ended by itself. The message says in one sentence what happened, and then what to do."""
