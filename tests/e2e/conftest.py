"""What end-to-end tests share, whatever bus they run on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.notifying import Receiver, receiving


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found
