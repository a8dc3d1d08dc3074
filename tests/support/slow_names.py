"""Names that are looked up as slowly as their owner likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ZONE = "slow.example"


class SlowZone:
    """Says nothing of a name until it is let to, and then that there is no such. ``asked`` are the names there were, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = threading.Event()
        self._really = socket.getaddrinfo

    def look_up(self, host: str, *rest: Any, **named: Any) -> Any:
        if not host.endswith(ZONE):
            return self._really(host, *rest, **named)
        self.asked.append(host)
        self.let.wait()
        raise socket.gaierror


@contextmanager
def slow_names() -> Iterator[SlowZone]:
    """Names below ``slow.example`` are asked of a slow zone, all others as ever."""
    zone = SlowZone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", zone.look_up)
        try:
            yield zone
        finally:
            zone.let.set()
