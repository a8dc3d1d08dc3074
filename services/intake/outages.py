"""What means that Kafka or PostgreSQL does not answer now: nothing is lost, and the same can be tried again."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.log.port import LogError, LogRefused, LogUnavailable
from referral_bus.sealing.port import KeyStoreError, KeyStoreUnavailable

AWAY: Final = (
    LogUnavailable,
    LogRefused,
    KeyStoreUnavailable,
    OperationalError,
    InterfaceError,
    PoolTimeout,
    OSError,
    TimeoutError,
)
"""Whatever is asked: what one hears, all hear who ask at the same time."""

OUTAGES: Final = (LogError, KeyStoreError, *AWAY)
"""To be caught, logged and answered with 503. What else is raised is a fault of the code."""

RETRY_SECONDS: Final = 2
"""For Retry-After: about as long as a broker's or database's restart takes at the least."""
