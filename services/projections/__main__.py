"""``python -m services.projections``."""

from __future__ import annotations

from referral_bus.runtime.service import run
from services.projections.service import build
from services.projections.settings import ProjectionsSettings

if __name__ == "__main__":
    run(ProjectionsSettings.load_or_exit(), build)
