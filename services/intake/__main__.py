"""``python -m services.intake``."""

from __future__ import annotations

from referral_bus.runtime.service import run
from services.intake.service import build
from services.intake.settings import IntakeSettings

if __name__ == "__main__":
    run(IntakeSettings.load_or_exit(), build)
