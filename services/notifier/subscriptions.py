"""Who subscribed to what."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import tables
from services.notifier.hearing import HearingRole
from services.notifier.notices import Filter

Channel = Literal["webhook", "sse", "feed"]

MOST_EACH: Final = 20
"""Subscriptions an organisation may have."""


class TooManySubscriptions(Exception):
    """The organisation has as many subscriptions as it may."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it is kept, without its secret. ``types`` of None covers every type."""

    subscription: str
    organisation: str
    channel: Channel
    role: HearingRole
    types: list[str] | None
    url: str | None
    created_at: int


_SHOWN = [tables.subscriptions.c[name] for name in Subscription.__dataclass_fields__]


def new_subscription_id() -> str:
    """``sb-`` and 100 random bits."""
    return "sb-" + base64.b32encode(secrets.token_bytes(13)).decode().lower()[:20]


class Subscriptions:
    """The subscriptions of all organisations; each call is for one of them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, subscription: Subscription, sealed_secret: bytes | None) -> None:
        """Keep a new subscription: it covers what happens from now on. Raises TooManySubscriptions."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text("select pg_advisory_xact_lock(hashtextextended(:organisation, 1))"),
                {"organisation": subscription.organisation},
            )
            there = await connection.scalar(
                select(func.count()).where(tables.subscriptions.c.organisation == subscription.organisation)
            )
            if (there or 0) >= MOST_EACH:
                raise TooManySubscriptions
            values: dict[str, Any] = {
                name: getattr(subscription, name) for name in Subscription.__dataclass_fields__
            }
            await connection.execute(
                insert(tables.subscriptions).values(**values, sealed_secret=sealed_secret)
            )

    async def of(self, organisation: str) -> list[Subscription]:
        """The organisation's subscriptions, oldest first."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                select(*_SHOWN)
                .where(tables.subscriptions.c.organisation == organisation)
                .order_by(tables.subscriptions.c.created_at, tables.subscriptions.c.subscription)
            )
            return [Subscription(**row) for row in rows.mappings()]

    async def remove(self, organisation: str, subscription: str) -> bool:
        """End one of the organisation's subscriptions; what is not delivered yet is not. False where there is no such."""
        async with self._engine.begin() as connection:
            result = await connection.execute(
                delete(tables.subscriptions).where(
                    tables.subscriptions.c.organisation == organisation,
                    tables.subscriptions.c.subscription == subscription,
                )
            )
        return result.rowcount > 0

    async def stream_filter(self, organisation: str, roles: tuple[HearingRole, ...]) -> Filter:
        """What the organisation's event stream shows in these roles: what its ``sse`` subscriptions cover, or all if it has none."""
        narrowed = [one for one in await self.of(organisation) if one.channel == "sse"]
        if not narrowed:
            return Filter(organisation, tuple((role, None) for role in roles))
        return Filter(
            organisation,
            tuple(
                (one.role, tuple(one.types) if one.types is not None else None)
                for one in narrowed
                if one.role in roles
            ),
        )
