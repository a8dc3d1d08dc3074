"""One bus for all tests of this folder: needs, services and referrals are each test's own, so that none meets another's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.whole_bus import WholeBus, whole_bus


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeBus]:
    async with whole_bus(tmp_path_factory.mktemp("bus")) as bus:
        yield bus
