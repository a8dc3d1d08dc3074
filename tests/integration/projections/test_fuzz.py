"""Whatever is sent to the query API, it answers and does not fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fuzzing import fuzz
from tests.support.served_views import World
from tests.support.viewing import accepted, completed

_EXPECTED = {200, 400, 401, 403, 404, 405, 422, 504}


# The service draws random numbers in this process while a request is made up, which hypothesis takes for its own strategies' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_random_requests_on_every_route_are_answered_and_never_fail(world: World) -> None:
    async with world.running():
        await world.begin()
        opened = await world.opened()
        offer = world.north.offered(opened)
        await world.put(world.north, opened, offer, accepted(offer), *completed(offer))
        await world.reflected()
        base = f"http://127.0.0.1:{world.settings.port}"
        roles = world.token("hospital", ["agency", "provider", "operations"])
        async with asyncio.timeout(60):
            seen = await asyncio.to_thread(fuzz, base, [roles], _EXPECTED, _at_once)
        async with world.http("hospital") as http:
            assert (await http.get("/v1/caseload")).status_code == 200
    assert len(seen) == 9, seen
    assert all({200, 404} & statuses for statuses in seen.values()), seen


def _at_once(case: Any) -> None:
    """Waiting is not what is tried here."""
    case.query = {**(case.query or {}), "wait": "0"}
