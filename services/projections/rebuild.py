"""Making the views anew from the ledger, beside those that serve, and swapping them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.log.port import Log, Partition
from referral_bus.store.migrate import migrate
from referral_bus.store.postgres import PostgresViews
from referral_bus.wire.codec import Codec
from services.projections.fold import Fold
from services.projections.replay import Progress, Replay
from services.projections.swap import drop, only_rebuild, swap
from services.projections.tables import NEXT_SCHEMA, SCHEMA, ViewTables

MIGRATIONS: Final = "services.projections.migrations"
_LEVEL_RECORDS: Final = 500
"""Below so many records behind the ledger's end, the rest is folded while writers wait."""
_OWNER: Final = text(
    """
    select pg_get_userbyid(nspowner) as owner, current_user as this from pg_namespace where nspname = :schema
    """
)


class AlreadyRebuilding(Exception):
    """Another rebuild is under way."""


class NotTheOwner(Exception):
    """The views belong to another role."""


async def rebuild(
    engine: AsyncEngine, log: Log, topic: str, codec: Codec, progress: Progress = lambda done, of: None
) -> dict[Partition, int]:
    """Returns the positions of the new views when they were swapped in.

    Raises AlreadyRebuilding, NotTheOwner, Damaged, LogError and StoreError; the views that serve are then as they were.
    """
    async with only_rebuild(engine) as alone:
        if not alone:
            raise AlreadyRebuilding(
                "another rebuild of these views is under way: wait for it, or stop it and start again"
            )
        await _owned(engine)
        await drop(engine, NEXT_SCHEMA)
        await migrate(engine, NEXT_SCHEMA, MIGRATIONS)
        following = ViewTables(NEXT_SCHEMA)
        store = PostgresViews(engine, following.positions, following.views)
        partitions = [Partition(topic, number) for number in range(await log.partitions(topic))]
        replay = await Replay.open(log, partitions, store, Fold(store, codec))
        try:
            await _catch_up(replay, progress)

            async def reach(serving: Mapping[Partition, int]) -> None:
                await replay.through(serving)

            await swap(engine, following, reach)
            return replay.positions()
        finally:
            await replay.close()


async def _owned(engine: AsyncEngine) -> None:
    """What is made here belongs to who makes it: swapped in by another than the service's role, that would lose its tables."""
    async with engine.connect() as connection:
        found = (await connection.execute(_OWNER, {"schema": SCHEMA})).one_or_none()
    if found is not None and found.owner != found.this:
        raise NotTheOwner(
            f"the views belong to {found.owner}, and this is {found.this}, to whom new ones would belong: "
            "run it with the REFBUS_DATABASE_URL of projections"
        )


async def _catch_up(replay: Replay, progress: Progress) -> None:
    """Fold all there is, and what came meanwhile, until little is left."""
    left = _LEVEL_RECORDS + 1
    while left > _LEVEL_RECORDS:
        ends = await replay.ends()
        at, of = replay.positions(), sum(ends.values())

        def told(partition: Partition, position: int, at: dict[Partition, int] = at, of: int = of) -> None:
            at[partition] = position
            progress(min(sum(at.values()), of), of)

        await replay.through(ends, told)
        progress(of, of)
        left = sum((await replay.ends()).values()) - of
