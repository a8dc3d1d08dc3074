"""What a subscription may not be is refused at a cost that is bounded."""

from __future__ import annotations

from typing import Any, cast

import httpx
from fastapi import FastAPI

from referral_bus.access.caller import Caller
from referral_bus.runtime.clock import SystemClock
from referral_bus.web import problems
from referral_bus.web.bodies import MOST_FAULTS
from referral_bus.web.caller import caller_of
from services.notifier.api import Doors


async def test_of_very_many_wrong_fields_it_is_said_how_many() -> None:
    app = FastAPI()
    problems.install(app)
    app.dependency_overrides[caller_of] = lambda: Caller("hospital", frozenset({"agency"}))
    unused = cast("Any", None)
    Doors(
        subscriptions=unused, deliveries=unused, streams=unused, secrets=unused, rules=unused,
        clock=SystemClock(), resend_pause_ms=0,
    ).install(app)  # fmt: skip
    wrong = {"channel": "sse", "role": "agency", **{f"a{n}": 0 for n in range(MOST_FAULTS + 1)}}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://notifier"
    ) as client:
        problem = (await client.post("/v1/subscriptions", json=wrong)).json()
    assert (problem["status"], problem["code"], problem["field"]) == (422, "invalid", "body")
    assert problem["detail"].startswith(f"body: {MOST_FAULTS + 1} fields are wrong, too many to name one.")
