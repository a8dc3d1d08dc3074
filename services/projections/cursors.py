"""Opaque cursors: the key of the last row of a page, so that the next page goes on behind it whatever was added meanwhile."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Final

from referral_bus.web.problems import Problem

Key = int | str
LONGEST: Final = 1_000
_LARGEST: Final = 2**63 - 1


def write(key: Sequence[Key]) -> str:
    """The cursor of a row's key."""
    return (
        base64.urlsafe_b64encode(json.dumps(list(key), separators=(",", ":")).encode()).decode().rstrip("=")
    )


def read(cursor: str, kinds: Sequence[type[Key]]) -> list[Key]:
    """The key of a cursor, whose parts are of these kinds. Raises a 422 problem for anything this API did not give."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _foreign() from None
    if not isinstance(key, list) or len(key) != len(kinds):
        raise _foreign()
    if not all(_fits(part, kind) for part, kind in zip(key, kinds, strict=True)):
        raise _foreign()
    return key


def _fits(part: object, kind: type[Key]) -> bool:
    if kind is int:
        return type(part) is int and -1 <= part <= _LARGEST
    return isinstance(part, str) and part.isascii() and part.isprintable()


def _foreign() -> Problem:
    return Problem(
        422,
        "invalid",
        "cursor: is none that this view gave. Leave it out to begin at the first page.",
        field="cursor",
    )
