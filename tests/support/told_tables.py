"""The notifier's tables as processes see them, in PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.ledger import OfferAccepted
from services.notifier import tables
from services.notifier.bell import Bell
from services.notifier.deliveries import Deliveries
from services.notifier.fold import Fold
from services.notifier.standing import ReferralStanding
from tests.support.memory_database import Beside
from tests.support.memory_notifier import MemoryDeliveries, MemoryFold, NotifierTables, Subscribed

SUBSCRIPTIONS = [
    Subscribed("sb-clinic", "clinic", "provider"),
    Subscribed("sb-hospital", "hospital", "agency"),
    Subscribed("sb-operations", "operations", "operations"),
    Subscribed("sb-pantry", "pantry", "provider"),
    Subscribed("sb-police", "police", "agency"),
    Subscribed("sb-police-accepted", "police", "agency", (OfferAccepted.event_type(),)),
    Subscribed("sb-police-provider", "police", "provider"),
    Subscribed("sb-shelter", "shelter", "provider"),
]
FEEDS = [
    Subscribed("sb-feed-police", "police", "agency", channel="feed"),
    Subscribed("sb-feed-shelter", "shelter", "provider", channel="feed"),
]


class Side(Protocol):
    """The tables as processes see them."""

    deliveries: Any

    def fold(self, bell: Bell | None = None) -> Any: ...

    async def rows(self) -> dict[str, Any]:
        """What stands in the tables that say who hears what."""


@dataclass
class InMemory:
    tables: NotifierTables

    def __post_init__(self) -> None:
        self.deliveries = MemoryDeliveries(Beside(), self.tables)

    def fold(self, bell: Bell | None = None) -> Any:
        return MemoryFold(Beside(), self.tables, bell)

    async def rows(self) -> dict[str, Any]:
        there = self.tables
        rows = {
            "regions": there.regions,
            "standings": there.standings,
            "organisations": there.organisations,
            "services": there.services,
            "parked": {key: (by.organisation, by.submission, by.role) for key, by in there.parked.items()},
            "streams": there.streams,
            "notices": sorted(
                (one.organisation, one.number, one.region, one.sequence) for one in there.notices
            ),
        }
        return deepcopy(rows)


@dataclass
class InPostgres:
    engine: AsyncEngine

    def __post_init__(self) -> None:
        self.deliveries = Deliveries(self.engine)

    def fold(self, bell: Bell | None = None) -> Any:
        return Fold(self.engine, bell)

    async def rows(self) -> dict[str, Any]:
        async with self.engine.connect() as connection:

            async def all_of(table: Any) -> Sequence[Any]:
                return (await connection.execute(select(table))).mappings().all()

            return {
                "regions": {
                    one["region"]: (one["next_sequence"], one["next_offset"])
                    for one in await all_of(tables.regions)
                },
                "standings": {
                    one["referral"]: ReferralStanding(**one) for one in await all_of(tables.standings)
                },
                "organisations": {
                    one["organisation"]: (one["version"], frozenset(one["roles"]))
                    for one in await all_of(tables.organisations)
                },
                "services": {one["service"]: one["organisation"] for one in await all_of(tables.services)},
                "parked": {
                    (one["region"], one["sequence"]): (one["organisation"], one["submission"], one["role"])
                    for one in await all_of(tables.parked)
                },
                "streams": {one["organisation"]: one["last_number"] for one in await all_of(tables.streams)},
                "notices": sorted(
                    (one["organisation"], one["number"], one["region"], one["sequence"])
                    for one in await all_of(tables.notices)
                ),
            }
