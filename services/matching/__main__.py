"""``python -m services.matching``."""

from __future__ import annotations

from referral_bus.runtime.service import run
from services.matching.service import build
from services.matching.settings import MatchingSettings

if __name__ == "__main__":
    run(MatchingSettings.load_or_exit(), build)
