"""One bus for all end-to-end tests: needs, services and referrals are each test's own, so that none meets another's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.notifying import Receiver, receiving
from tests.support.whole_bus import WholeBus, whole_bus


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeBus]:
    async with whole_bus(tmp_path_factory.mktemp("bus")) as bus:
        yield bus


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found
