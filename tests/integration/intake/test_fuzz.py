"""Whatever is sent to intake, over HTTP or into an outbox, is answered; nothing fails and what is good still comes through."""

from __future__ import annotations

import asyncio
import json
import os
import random
from uuid import uuid4

import pytest

from referral_bus.client import cloud_event
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.requests import REQUESTS
from referral_bus.contracts.vocabulary import Role
from referral_bus.log import topics
from referral_bus.log.port import Outgoing
from referral_bus.sealing.jwe import seal_to
from tests.support.admitting import OPERATIONS, World, now, organisation, referral, until
from tests.support.fuzzing import fuzz

_EXPECTED = {200, 201, 202, 204, 207, 400, 401, 403, 404, 405, 406, 409, 413, 415, 422}
_SPEAKERS: dict[str, list[Role]] = {
    "hospital": ["agency"],
    "shelter": ["provider"],
    OPERATIONS: ["operations"],
}


# The service draws random numbers in this process while a request is made up, which hypothesis takes for its own strategies' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.timeout(240)
async def test_random_requests_on_every_route_are_answered_and_never_fail(world: World) -> None:
    async with world.running(quota_per_second=100_000, quota_burst=100_000):
        await world.publish()
        # Each party is allowed other routes; refusals for the role alone would try little.
        tokens = [world.token(name, roles) for name, roles in _SPEAKERS.items()]
        async with asyncio.timeout(200):
            seen = await asyncio.to_thread(fuzz, world.url, tokens, _EXPECTED, examples=8)
        async with world.client("hospital") as hospital:
            assert (await hospital.submit(referral())).referral is not None
    for operation in ("POST /v1/referrals", "POST /v1/reference", "PUT /v1/services/{service}"):
        assert {400, 422} & seen[operation], (operation, seen)
    assert {"POST /v1/events", "PUT /v1/capacity/{unit}", "POST /v1/offers/{task}/accept"} <= seen.keys()
    said = [route for route in seen if route.startswith(("POST /v1/referrals/", "POST /v1/offers/"))]
    assert len(said) == len(REQUESTS) - 3, (
        "all but submitting, capacity and services are said of a referral or an offer"
    )


async def test_garbage_in_an_outbox_is_refused_record_by_record_and_stops_nothing(world: World) -> None:
    chance = random.Random(7)
    # Outboxes are no bus's own, and other tests read theirs on the same broker.
    name = f"clinic-{uuid4().hex[:8]}"
    async with world.running():
        await world.publish(organisation(name))
        good = [cloud_event(referral(subject=f"s-{n}"), name, f"good-{n}", now()) for n in range(8)]
        values = [seal_to(world.intake_keys.public, json.dumps(event).encode()) for event in good]
        garbage = [os.urandom(chance.randrange(1, 400)) for _ in range(20)]
        garbage += [seal_to(world.intake_keys.public, os.urandom(50)) for _ in range(10)]
        garbage += [value[: chance.randrange(1, len(value))] for value in values]
        mixed = [*values, *garbage]
        chance.shuffle(mixed)
        appender = await world.log.appender()
        await appender.append([Outgoing(topics.outbox(name), 0, None, value) for value in mixed])

        async def all_answered() -> bool:
            feed = [
                world.codec.decode(one.value) for one in await world.records(topics.feed(world.bus, name))
            ]
            said = [body for body in await world.said() if isinstance(body, SubmitReferral)]
            refused = [one for one in feed if isinstance(one, AdmissionRefused)]
            return (len(said), len(refused)) == (len(values), len(garbage))

        await until(all_answered)
