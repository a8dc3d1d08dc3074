"""How far the views reflect the inbox, for those who wait for what they have just submitted."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.ids import parse_token
from referral_bus.runtime import metrics
from referral_bus.web.problems import Problem
from services.projections.tables import SERVING

LONGEST_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.02

_Reflected = dict[str, tuple[int, int]]


class Reflected:
    """Asks the database, whichever process reflects the region; those who wait at the same time share the question."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._asking: asyncio.Task[_Reflected] | None = None

    async def wait_for(self, token: str, seconds: float) -> None:
        """Return once the views reflect the submission of this inbox token. Raises a problem: 422 where it is no token, 504 where
        ``seconds`` were not enough."""
        try:
            region, partition, offset = parse_token(token)
        except ValueError as error:
            raise Problem(422, "invalid", f"after: {error}.", field="after") from None
        began = time.monotonic()
        while True:
            stands_in, decided_through = (await self._regions()).get(region, (partition, -1))
            if stands_in == partition and decided_through >= offset:
                metrics.AFTER_SECONDS.labels(result="visible").observe(time.monotonic() - began)
                return
            if time.monotonic() - began >= seconds:
                metrics.AFTER_SECONDS.labels(result="not_yet_visible").observe(time.monotonic() - began)
                raise Problem(
                    504,
                    "not_yet_visible",
                    f"The views do not reflect the submission within {seconds:g} s. It is not lost: ask again with the same token.",
                    field="after",
                    retry_after=1,
                )
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _regions(self) -> _Reflected:
        """Partition and last decided inbox offset of each region. An answer that is under way already is shared: it may be a moment
        older than the question, and who waits asks again."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="reflected")
            self._asking.add_done_callback(_noticed)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> _Reflected:
        regions = SERVING.regions.c
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                select(regions.region, regions.partition, regions.decided_through)
            )
            return {row.region: (row.partition, row.decided_through) for row in rows}


def _noticed(asked: asyncio.Task[_Reflected]) -> None:
    """Whoever waited may be gone; its failure is not to be told as one nobody noticed."""
    if not asked.cancelled():
        asked.exception()
