"""Intake that counts for how long an outbox stands still, and how old its key set is, a hundred times as fast:
``python -m tests.support.hurried``.

What takes five minutes until it is told of takes as many seconds, and everything else is as it is.
"""

from __future__ import annotations

import time
from functools import partial

from referral_bus.access import tokens
from referral_bus.runtime.service import run
from services.intake import outboxes, service
from services.intake.outbox_lag import OutboxLag
from services.intake.settings import IntakeSettings


def _hurried() -> float:
    return time.monotonic() * 100


if __name__ == "__main__":
    setattr(outboxes, "OutboxLag", partial(OutboxLag, _hurried))  # noqa: B010 - it is a class there
    setattr(service, "TokenVerifier", partial(tokens.TokenVerifier, monotonic=_hurried))  # noqa: B010 - as above
    setattr(tokens, "_LOOK_SECONDS", 0.6)  # noqa: B010 - it is final there
    run(IntakeSettings.load_or_exit(), service.build)
