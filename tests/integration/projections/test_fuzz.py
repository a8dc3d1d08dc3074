"""Whatever is sent to the query API, it answers and does not fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.support.served_views import World
from tests.support.viewing import accepted, completed

_EXAMPLES = 20
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
            seen = await asyncio.to_thread(fuzz, base, roles)
        async with world.http("hospital") as http:
            assert (await http.get("/v1/caseload")).status_code == 200
    assert len(seen) == 6 and all(statuses <= _EXPECTED for statuses in seen.values()), seen
    assert all({200, 404} & statuses for statuses in seen.values()), seen


def fuzz(base: str, token: str) -> dict[str, set[int]]:
    """The statuses of each operation, valid and invalid requests alike."""
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    schema.config.update(base_url=base)
    seen: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        statuses = seen.setdefault(operation.label, set())
        for mode in schemathesis.GenerationMode:
            tried(operation, mode, token, statuses)()
    return seen


def tried(operation: Any, mode: Any, token: str, statuses: set[int]) -> Callable[[], None]:
    @settings(max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_it(case: Any) -> None:
        # Waiting is not what is tried here.
        case.query = {**(case.query or {}), "wait": "0"}
        response = case.call(headers={"authorization": f"Bearer {token}"})
        statuses.add(response.status_code)
        assert response.status_code in _EXPECTED, response.text[:500]

    return try_it
