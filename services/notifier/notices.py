"""What organisations heard, as it is kept, and as it is put on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.feed import Notice
from referral_bus.wire.cloudevents import STRUCTURED
from referral_bus.wire.envelope import DataClassification, dataschema_of, format_time, source_of
from services.notifier import tables
from services.notifier.hearing import HearingRole

EVENT_CONTENT_TYPE = STRUCTURED
SENDER = "refbus-notifier"
"""Who speaks in feeds and webhooks: the bus itself, as a CloudEvents source."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A notice as it is kept: what happened and for whom, and nothing of the person."""

    organisation: str
    number: int
    region: str
    sequence: int
    role: HearingRole
    type: str
    at: int
    referral: str | None
    task: str | None
    reason: str | None
    expires_at: int | None
    submission: str | None
    unit: str | None = None


def kept(row: RowMapping) -> Kept:
    """A notice from its columns."""
    return Kept(**{column.name: row[column.name] for column in tables.notices.columns})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notices of an organisation a stream shows: any that one of the ``cover`` (role, types; None for all types) covers."""

    organisation: str
    cover: tuple[tuple[HearingRole, tuple[str, ...] | None], ...]


class Notices:
    """Reads the notices of organisations."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def after(self, wanted: Filter, number: int, limit: int) -> list[Kept]:
        """At most ``limit`` notices with a higher number, in order."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(_after(wanted, number, limit))
            return [kept(row) for row in rows.mappings()]

    async def span(self, organisation: str) -> tuple[int, int]:
        """The numbers of the oldest notice that is kept and of the latest there was; (1, 0) where it never heard anything."""
        async with self._engine.connect() as connection:
            last = await connection.scalar(
                select(tables.streams.c.last_number).where(tables.streams.c.organisation == organisation)
            )
            oldest = await connection.scalar(
                select(func.min(tables.notices.c.number)).where(tables.notices.c.organisation == organisation)
            )
        latest = last or 0
        return (latest + 1 if oldest is None else oldest), latest

    async def prune(self, before: int) -> int:
        """Delete the notices of events before ``before`` (epoch milliseconds) that nobody is still to be told of. Returns how many."""
        pending = select(tables.deliveries.c.number).where(
            tables.deliveries.c.organisation == tables.notices.c.organisation,
            tables.deliveries.c.number == tables.notices.c.number,
            tables.deliveries.c.done_at.is_(None),
        )
        async with self._engine.begin() as connection:
            result = await connection.execute(
                delete(tables.notices).where(tables.notices.c.at < before, ~pending.exists())
            )
            heard = select(tables.notices.c.number).where(
                tables.notices.c.region == tables.reports.c.region,
                tables.notices.c.sequence == tables.reports.c.sequence,
            )
            await connection.execute(
                delete(tables.reports).where(tables.reports.c.at < before, ~heard.exists())
            )
            await connection.execute(delete(tables.parked).where(tables.parked.c.until < before))
        return result.rowcount


def _after(wanted: Filter, number: int, limit: int) -> Select[Any]:
    notices = tables.notices.c
    covered = [
        notices.role == role if types is None else (notices.role == role) & notices.type.in_(types)
        for role, types in wanted.cover
    ]
    return (
        select(tables.notices)
        .where(notices.organisation == wanted.organisation, notices.number > number, or_(*covered))
        .order_by(notices.number)
        .limit(limit)
    )


def structured(notice: Notice, kept: Kept, identity: str, schema_id: int) -> bytes:
    """The notice as a structured CloudEvent in JSON (CloudEvents 1.0, JSON event format). ``identity`` recognises a repeat."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": identity,
        "source": source_of(SENDER),
        "type": Notice.event_type(),
        "time": format_time(kept.at),
        "subject": subject(kept),
        "datacontenttype": "application/json",
        "dataschema": dataschema_of(schema_id),
        "dataclassification": classification(notice),
    }
    if kept.submission is not None:
        event["causationid"] = kept.submission
    event["data"] = notice.model_dump(mode="json")
    return json.dumps(event, separators=(",", ":")).encode()


def subject(kept: Kept) -> str:
    """What the notice is about: the referral, else the organisation's own submission, else its unit, else the organisation."""
    return kept.referral or kept.submission or kept.unit or kept.organisation


def classification(notice: Notice) -> DataClassification:
    """``sealed`` where something of the person is in it."""
    return "internal" if notice.disclosed is None else "sealed"
