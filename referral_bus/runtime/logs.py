"""Logs as one JSON object a line on standard error, each with the correlation id of what is being worked on.

Messages speak of ids, positions and reasons, never of a person: what arrives from outside is not put into a message. An exception is
logged with its type and the place it was raised, not with its text, which may quote a value.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_CORRELATION: ContextVar[str | None] = ContextVar("correlation", default=None)
_LONGEST: Final = 2_000
_FRAMES: Final = 6
_OWN: Final = ("referral_bus", "services")
_QUIET: Final = (
    "aiokafka",
    "httpx",
    "httpcore",
    "uvicorn",
    "faust",
    "mode",
    "alembic",
    "asyncio",
    "opentelemetry",
)
"""Libraries that log much at INFO, or quote what they were given."""


def told(error: BaseException) -> str:
    """What may be said of an error in a message: the text of one of the bus's own, which holds nothing of a person; of any other the
    type alone, for its text may quote a value."""
    own = type(error).__module__.split(".")[0] in _OWN
    return str(error) if own else type(error).__name__


@contextmanager
def correlated(correlation: str | None) -> Iterator[None]:
    """Log everything inside with this correlation id."""
    token = _CORRELATION.set(correlation)
    try:
        yield
    finally:
        _CORRELATION.reset(token)


def correlation() -> str | None:
    """The correlation id of what is being worked on."""
    return _CORRELATION.get()


class JsonLines(logging.Formatter):
    """``{"time", "level", "service", "logger", "message", "correlation"?, "error"?, "at"?}``; time is RFC 3339 in UTC."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": _message(record)[:_LONGEST],
        }
        if (about := _CORRELATION.get()) is not None:
            line["correlation"] = about
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-_FRAMES:]
            line["at"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames
            ]
        return json.dumps(line, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    # Behind its first line asyncio quotes the task that failed, with the text of the exception.
    return message.partition("\n")[0] if record.name == "asyncio" else message


def configure(service: str, level: str) -> None:
    """Send all logs of this process to standard error, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
