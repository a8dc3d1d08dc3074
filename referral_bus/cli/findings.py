"""What ``refbus doctor`` examines, and what a check finds."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from referral_bus.cli.home import Pid
from referral_bus.log.access import KafkaAccess

SECONDS: Final = 10.0
"""For a question to whatever may not be there."""
_MOST_SKEW_MS: Final = 2_000


@dataclass(frozen=True, slots=True)
class SetUp:
    """What is examined: a home, and the addresses of what runs, from the settings or from the home."""

    home: Path
    bus: str
    kafka: str | None
    database: str | None
    operations: dict[str, str] = field(default_factory=dict)
    probe: bool = True
    """Whether a topic may be made for a moment, to hear what time it is there."""

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How Kafka is reached, besides its address: what the settings say of TLS and the login."""

    @property
    def access(self) -> KafkaAccess | None:
        return None if self.kafka is None else KafkaAccess(self.kafka, self.options)

    @property
    def embedded(self) -> bool:
        """Whether the broker is one that the bus runs itself."""
        if self.kafka is None:
            return True
        return self.kafka.startswith("127.0.0.1:") and (self.home / "kafka").exists()

    @property
    def elsewhere(self) -> bool:
        """Whether nothing of the bus is on this machine, nor is to be: all it needs is named, and there is no home."""
        return not self.embedded and self.database is not None and not self.home.exists()

    @property
    def up(self) -> bool:
        return Pid.running(self.home) is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``advice`` is what to do; empty where all is well, and where nothing was looked at."""

    about: str
    found: str
    advice: str = ""
    looked: bool = True
    """Whether anything was looked at."""


def not_looked_at(about: str, why: str) -> Finding:
    """That there is nothing to ask, so that nobody takes silence for health."""
    return Finding(about, f"not looked at: {why}", looked=False)


def no_address(about: str, setting: str) -> Finding:
    return not_looked_at(about, f"no address of it is known ({setting})")


def clock(about: str, before: int, theirs: int) -> Finding:
    """How another clock stands to ours, given epoch milliseconds: ours before it was asked, and what it said."""
    after = time.time_ns() // 1_000_000
    skew = theirs - after if theirs > after else min(theirs - before, 0)
    if abs(skew) <= _MOST_SKEW_MS:
        return Finding(about, f"within {_MOST_SKEW_MS // 1000} s of this machine's")
    ahead = "ahead of" if skew > 0 else "behind"
    return Finding(
        about,
        f"{abs(skew)} ms {ahead} this machine's",
        "Set both clocks by NTP: deadlines are judged by them.",
    )
