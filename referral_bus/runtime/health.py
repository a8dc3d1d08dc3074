"""What a service says of itself: whether it may be sent work (ready), and whether it should be restarted (not alive)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Health:
    """Parts report here; the operations listener reads. A service with no part yet is not ready."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: dict[str, str | None] = {}
        self._hindered: dict[str, str] = {}
        self._beats: dict[str, float] = {}

    def starting(self, part: str, why: str) -> None:
        """The part can't serve yet, or not now; ``why`` is shown on ``/readyz``."""
        self._waiting[part] = why

    def hindered(self, part: str, why: str) -> None:
        """The part can't serve now, and the service may be sent work all the same; ``why`` is shown on ``/readyz``."""
        self._hindered[part] = why

    def ready(self, part: str) -> None:
        """The part serves."""
        self._hindered.pop(part, None)
        self._waiting[part] = None

    def beat(self, part: str, within: float) -> None:
        """The part lives, and promises to say so again within this many seconds."""
        self._beats[part] = self._monotonic() + within

    def silent(self, part: str) -> None:
        """The part ends as planned, and beats no more."""
        self._beats.pop(part, None)

    def problems(self) -> dict[str, str]:
        """Why the service is not ready, by part; empty when it is."""
        if not self._waiting:
            return {"service": "is starting"}
        return {part: why for part, why in self._waiting.items() if why is not None}

    def hindrances(self) -> dict[str, str]:
        """Why parts can't serve that the service is ready without."""
        return dict(self._hindered)

    def stuck(self) -> list[str]:
        """The parts that broke their promise to beat; a service with any should be restarted."""
        now = self._monotonic()
        return sorted(part for part, until in self._beats.items() if until < now)
