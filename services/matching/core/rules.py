"""The versions of matching's own rules. A region decides by the version its ledger last activated, whichever version of the code runs.

A change to what is decided is a new version here, and code that asks ``state.rules`` which of the two to do: old ledgers must come out
the same, and old and new workers beside each other must decide the same.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 1
"""What a region decides by before it activates anything."""

SUPPORTED: Final = frozenset({1})


class UnsupportedRules(Exception):
    """The ledger goes on under rules this version of matching does not know: it must stop, since it would decide otherwise."""
