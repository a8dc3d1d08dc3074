"""A batch at the HTTP door: an event that hits a fault of ours takes no other along."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.access.caller import Caller
from referral_bus.client import cloud_event
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.log import topics
from referral_bus.log.port import Partition
from referral_bus.runtime.health import Health
from referral_bus.web import problems
from referral_bus.web.caller import caller_of
from referral_bus.wire.cloudevents import BATCH
from referral_bus.wire.inbox import received
from services.intake.api import Doors
from services.intake.forgetting import Forgetting
from services.intake.publishing import Publishing
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from tests.support.admitting import referral
from tests.unit.intake.test_admission import CODEC, Border
from tests.unit.intake.test_outboxes import CURSED, breaks


def http(border: Border) -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    app.dependency_overrides[caller_of] = lambda: Caller("hospital", frozenset({"agency"}))
    unused = cast("Any", None)
    Doors(
        admission=border.admission,
        publishing=cast("Publishing", unused),
        forgetting=cast("Forgetting", unused),
        quotas=Quotas(1_000.0, 1_000),
        reach=Reach(border.log, Partition(topics.inbox("main"), 0), cast("AsyncEngine", unused), Health()),
        clock=border.clock,
        public_key="{}",
        maximum_batch=10,
    ).install(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://intake")


async def test_a_fault_of_ours_is_told_of_its_own_event_and_the_others_are_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks(monkeypatch, lambda request: request.subject == CURSED)
    async with Border() as border, http(border) as client:
        await border.open()
        subjects = {"s-1": "one", "s-2": CURSED, "s-3": "three"}
        events = [
            cloud_event(referral(subject=subject), "hospital", id, border.clock.now())
            for id, subject in subjects.items()
        ]
        answer = await client.post("/v1/events", content=json.dumps(events), headers={"content-type": BATCH})
        assert answer.status_code == 207
        results = answer.json()["results"]
        assert [result["status"] for result in results] == [202, 500, 202]
        assert results[1]["code"] == "internal"
        said = [received(record, CODEC)[1].body for record in await border.inbox()]
        assert {body.referral for body in said if isinstance(body, SubmitReferral)} == {
            referral_id("north", "main", "hospital", id) for id in ("s-1", "s-3")
        }
