"""``python -m services.notifier``."""

from __future__ import annotations

from referral_bus.runtime.service import run
from services.notifier.service import build
from services.notifier.settings import NotifierSettings

if __name__ == "__main__":
    run(NotifierSettings.load_or_exit(), build)
