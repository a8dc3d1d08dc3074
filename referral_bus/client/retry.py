"""When to try again, and after how long."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

AGAIN = frozenset({429, 502, 503})
"""Statuses that say: not now."""

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_LONGEST_RETRY_AFTER = 300.0


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 10.2.3: seconds or a date); None where there is none that can
    be read."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_RETRY_AFTER)


def pause(tries: int, asked: float | None) -> float:
    """Seconds to wait after the ``tries``-th try: never less than the bus asked for, otherwise doubling with
    full jitter, so that many clients do not come back at once."""
    longest = min(_FIRST_SECONDS * 2.0 ** (tries - 1), _LONGEST_SECONDS)
    jittered = random.uniform(longest / 10, longest)  # noqa: S311 - spreads load, protects nothing
    return max(asked or 0.0, jittered)
