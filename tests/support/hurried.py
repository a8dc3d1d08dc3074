"""Intake that counts for how long an outbox stands still a hundred times as fast: ``python -m tests.support.hurried``.

What takes five minutes until it is told of takes as many seconds, and everything else is as it is.
"""

from __future__ import annotations

import time
from functools import partial

from referral_bus.runtime.service import run
from services.intake import outboxes
from services.intake.outbox_lag import OutboxLag
from services.intake.service import build
from services.intake.settings import IntakeSettings

if __name__ == "__main__":
    setattr(outboxes, "OutboxLag", partial(OutboxLag, lambda: time.monotonic() * 100))  # noqa: B010 - it is a class there
    run(IntakeSettings.load_or_exit(), build)
