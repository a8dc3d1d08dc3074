"""What means that Kafka or PostgreSQL does not answer now: nothing is lost, and the same can be tried again."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.log.port import LogError, LogRefused, LogUnavailable
from referral_bus.sealing.port import KeyStoreBusy, KeyStoreError, KeyStoreUnavailable

_AWAY: Final = (
    LogUnavailable,
    LogRefused,
    KeyStoreUnavailable,
    OperationalError,
    InterfaceError,
    PoolTimeout,
    OSError,
    TimeoutError,
)

OUTAGES: Final = (LogError, KeyStoreError, *_AWAY)
"""To be caught, logged and answered with 503. What else is raised is a fault of the code."""

RETRY_SECONDS: Final = 2
"""For Retry-After: about as long as a broker's or database's restart takes at the least."""

_NO_SERVER: Final = ("08", "53", "57P")
"""Beginnings of PostgreSQL's codes: no connection, no resources, shut down."""


def away(error: Exception) -> bool:
    """Whether all who ask at the same time hear the same. A statement that was cancelled, a lock or a deadlock may be one caller's."""
    if isinstance(error, OperationalError):
        state = getattr(error.orig, "sqlstate", None)
        return state is None or state.startswith(_NO_SERVER)
    return isinstance(error, _AWAY) and not isinstance(error, KeyStoreBusy)
