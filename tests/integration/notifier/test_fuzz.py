"""Whatever is sent to the notifier's API, it answers and does not fail."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fuzzing import fuzz
from tests.support.notifying import World

_EXPECTED = {200, 201, 204, 400, 401, 403, 404, 405, 409, 410, 422, 429}


# The service draws random numbers in this process while a request is made up, which hypothesis takes for its own strategies' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_random_requests_on_every_route_are_answered_and_never_fail(world: World) -> None:
    async with world.running():
        await world.adopt()
        await world.reflected()
        base = f"http://127.0.0.1:{world.settings.port}"
        token = world.token("hospital", ["agency", "provider"])
        async with asyncio.timeout(90):
            seen = await asyncio.to_thread(fuzz, base, [token], _EXPECTED)
        async with world.http("hospital") as http:
            assert (await http.get("/v1/subscriptions")).status_code == 200
    assert len(seen) == 6, seen
    assert 200 in seen["GET /v1/stream"]
    assert {201, 422} <= seen["POST /v1/subscriptions"]
