"""The ledger reflected in SQL: a batch of events, one transaction, in which each region's position moves on from just before it.

An event below its region's position was reflected before and changes nothing, so replays, a killed process and a slow
previous owner double nothing. An event beyond it means that some in between were not read (the stream lost them, or the
database is older than the group's offsets): its region is left as it is, and the caller reads what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, delete, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from referral_bus.contracts.ledger import (
    Entry,
    Escalated,
    KeyDestroyed,
    ReferenceAdopted,
    ReferralOpened,
    ServicePublished,
    SubmissionParked,
    SubmissionRefused,
)
from referral_bus.store.rows import storable
from services.notifier import hearing, standing, tables
from services.notifier.bell import Bell
from services.notifier.hearing import Heard, Sender
from services.notifier.reports import report
from services.notifier.standing import ReferralStanding

# Locked in an order all processes keep.
_TAKE = text(
    """
    insert into notifier.streams as s (organisation, last_number)
    select w.organisation, w.count from unnest(:organisations, :counts) as w(organisation, count)
    order by w.organisation
    on conflict (organisation) do update set last_number = s.last_number + excluded.last_number
    returning organisation, last_number
    """
).bindparams(bindparam("organisations", type_=ARRAY(Text)), bindparam("counts", type_=ARRAY(BigInteger)))


@dataclass(frozen=True, slots=True)
class Located:
    """An event and where it stands on the ledger."""

    entry: Entry
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a region are missing: those from ledger offset ``next_offset`` up to ``found``, the first that was not reflected."""

    region: str
    next_offset: int
    found: Located


@dataclass(frozen=True, slots=True)
class _Told:
    heard: Heard
    region: str
    sequence: int


class Fold:
    """Reflects events. Holds nothing in memory, so any number may run side by side. ``bell`` rings for those who hear something."""

    def __init__(self, engine: AsyncEngine, bell: Bell | None = None) -> None:
        self._engine = engine
        self._bell = bell

    async def apply(self, batch: Sequence[Located], now: int) -> list[Gap]:
        """Reflect the events, in order; what they give to deliver is due ``now`` (epoch milliseconds).

        Returns the regions that could not go on since events are missing. Raises UnheardOf for an event of a kind not known
        here, having changed nothing.
        """
        told: list[_Told] = []
        async with self._engine.begin() as connection:
            positions = await _lock(connection, batch)
            fresh, gaps = _fresh(batch, positions)
            if fresh:
                told = await _reflect(connection, [located.entry for located in fresh])
                await _enqueue(connection, told, now)
                await _move(connection, fresh)
        if told and self._bell is not None:
            self._bell.ring({one.heard.organisation for one in told})
        return gaps


async def _lock(connection: AsyncConnection, batch: Iterable[Located]) -> dict[str, tuple[int, int]]:
    """The position of each region in the batch: sequence and offset. They stay locked, in an order all processes keep."""
    partitions = {located.entry.meta.region: located.partition for located in batch}
    regions = tables.regions.c
    wanted = (
        select(regions.region, regions.next_sequence, regions.next_offset)
        .where(regions.region.in_(partitions))
        .order_by(regions.region)
        .with_for_update()
    )
    rows = (await connection.execute(wanted)).all()
    if len(rows) < len(partitions):
        await connection.execute(
            insert(tables.regions).on_conflict_do_nothing(),
            [
                {"region": region, "partition": partition, "next_sequence": 1, "next_offset": 0}
                for region, partition in sorted(partitions.items())
            ],
        )
        rows = (await connection.execute(wanted)).all()
    return {row.region: (row.next_sequence, row.next_offset) for row in rows}


def _fresh(
    batch: Iterable[Located], positions: dict[str, tuple[int, int]]
) -> tuple[list[Located], list[Gap]]:
    """The events that are next, in order, and the regions where one is missing before the next."""
    following = {region: sequence for region, (sequence, _) in positions.items()}
    fresh: list[Located] = []
    gaps: dict[str, Gap] = {}
    for located in batch:
        meta = located.entry.meta
        if meta.region in gaps or meta.sequence < following[meta.region]:
            continue
        if meta.sequence > following[meta.region]:
            reflected = [one.offset + 1 for one in fresh if one.entry.meta.region == meta.region]
            gaps[meta.region] = Gap(
                meta.region, reflected[-1] if reflected else positions[meta.region][1], located
            )
            continue
        following[meta.region] += 1
        fresh.append(located)
    return fresh, list(gaps.values())


async def _reflect(connection: AsyncConnection, entries: Sequence[Entry]) -> list[_Told]:
    """Fold the events into the standings and the reference data. Returns who hears what, in order."""
    about = {hearing.about(entry.event) for entry in entries}
    known = await load_standings(connection, {referral for referral in about if referral is not None})
    changed: dict[str, ReferralStanding] = {}
    told: list[_Told] = []
    for entry in entries:
        event, region = entry.event, entry.meta.region
        before = known.get(hearing.about(event) or "")
        roles = await _roles(connection, entry) if hearing.needs_roles(entry) else {}
        parked: Sender | None = None
        match event:
            case ReferralOpened():
                before = known[event.referral] = changed[event.referral] = standing.opened(event)
            case ReferenceAdopted():
                await _adopt(connection, event)
            case ServicePublished():
                await _offered(connection, event)
            case KeyDestroyed():
                await _erase(connection, event.subject)
                for referral, one in known.items():
                    if one.subject == event.subject:
                        known[referral] = changed[referral] = standing.erased(one)
            case SubmissionParked():
                await _park(connection, entry, event, hearing.sender(entry, before, roles))
            case SubmissionRefused():
                if event.parked is not None:
                    parked = await _unpark(connection, region, event.parked)
            case _ if before is not None:
                known[before.referral] = changed[before.referral] = standing.after(before, event)
                await _keep_report(connection, entry, before.subject)
        owner = await _owner(connection, event.service) if isinstance(event, hearing.OF_A_UNIT) else None
        told += [
            _Told(heard, region, entry.meta.sequence)
            for heard in hearing.hearers(entry, before, parked, roles, owner)
        ]
    await _save(connection, changed.values())
    return told


async def _roles(connection: AsyncConnection, entry: Entry) -> hearing.Roles:
    """The roles of whoever hears of the event: its sender, whom it is escalated to, or all of operations."""
    event, admitted = entry.event, entry.meta.submission
    organisations = tables.organisations.c
    concerned = organisations.organisation == (None if admitted is None else admitted.source)
    if isinstance(event, Escalated):
        concerned = (
            organisations.roles.contains(["operations"])
            if event.to is None
            else organisations.organisation == event.to
        )
    rows = await connection.execute(select(organisations.organisation, organisations.roles).where(concerned))
    return {row.organisation: frozenset(row.roles) for row in rows}


async def _keep_report(connection: AsyncConnection, entry: Entry, subject: str) -> None:
    said = report(entry.event)
    if said is not None:
        await connection.execute(
            insert(tables.reports)
            .values(
                region=entry.meta.region,
                sequence=entry.meta.sequence,
                subject=subject,
                at=entry.meta.now,
                codes=dict(said.codes),
                sealed_text=said.sealed_text,
            )
            .on_conflict_do_nothing()
        )


async def load_standings(
    connection: AsyncConnection, referrals: Collection[str]
) -> dict[str, ReferralStanding]:
    """Where the referrals stand now, without those that were never opened."""
    if not referrals:
        return {}
    rows = await connection.execute(
        select(tables.standings).where(tables.standings.c.referral.in_(referrals))
    )
    return {row["referral"]: ReferralStanding(**row) for row in rows.mappings()}


async def _save(connection: AsyncConnection, changed: Iterable[ReferralStanding]) -> None:
    names = [column.name for column in tables.standings.columns]
    rows = [{name: getattr(one, name) for name in names} | {"offers": dict(one.offers)} for one in changed]
    if rows:
        statement = insert(tables.standings)
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["referral"],
                set_={name: statement.excluded[name] for name in names if name != "referral"},
            ),
            rows,
        )


async def _erase(connection: AsyncConnection, subject: str) -> None:
    await connection.execute(
        update(tables.standings)
        .where(tables.standings.c.subject == subject)
        .values(sealed_facts=None, sealed_identity=None)
    )
    await connection.execute(delete(tables.reports).where(tables.reports.c.subject == subject))


async def _adopt(connection: AsyncConnection, event: ReferenceAdopted) -> None:
    if event.organisation is not None:
        organisation = event.organisation
        table, key = tables.organisations, {"organisation": organisation.organisation}
        values: dict[str, Any] = {
            "version": organisation.version,
            "kind": organisation.kind,
            "roles": list(organisation.roles),
            "encryption_key": organisation.encryption_key,
        }
    elif event.agreement is not None:
        table, key = tables.agreements, {"agreement": event.agreement.agreement}
        values = {
            "version": event.agreement.version,
            "recipient": event.agreement.recipient,
            "content": event.agreement.model_dump(mode="json"),
        }
    else:
        return
    values = storable(values)
    statement = insert(table).values(**key, **values)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(key),
            set_=values,
            where=table.c.version < statement.excluded.version,
        )
    )


async def _offered(connection: AsyncConnection, event: ServicePublished) -> None:
    definition = event.definition
    values = {"organisation": definition.organisation}
    await connection.execute(
        insert(tables.services)
        .values(service=definition.service, **values)
        .on_conflict_do_update(index_elements=["service"], set_=values)
    )


async def _owner(connection: AsyncConnection, service: str) -> str | None:
    """Who offers the service; None where it was published before this was kept."""
    owner: str | None = await connection.scalar(
        select(tables.services.c.organisation).where(tables.services.c.service == service)
    )
    return owner


async def _park(
    connection: AsyncConnection, entry: Entry, event: SubmissionParked, by: Sender | None
) -> None:
    if by is not None:
        await connection.execute(
            insert(tables.parked)
            .values(
                region=entry.meta.region,
                sequence=entry.meta.sequence,
                organisation=by.organisation,
                role=by.role,
                submission=by.submission,
                until=event.until,
            )
            .on_conflict_do_nothing()
        )


async def _unpark(connection: AsyncConnection, region: str, sequence: int) -> Sender | None:
    row = (
        await connection.execute(
            delete(tables.parked)
            .where(tables.parked.c.region == region, tables.parked.c.sequence == sequence)
            .returning(tables.parked.c.organisation, tables.parked.c.submission, tables.parked.c.role)
        )
    ).first()
    return None if row is None else Sender(*row)


async def _enqueue(connection: AsyncConnection, told: Sequence[_Told], now: int) -> None:
    """Give each notice its number, and each subscription that covers it a delivery.

    The organisations' rows stay locked until the commit, so numbers become visible in their order: a stream that has shown
    one has missed none below it.
    """
    if not told:
        return
    next_number = await _take_numbers(connection, Counter(one.heard.organisation for one in told))
    notices: list[dict[str, Any]] = []
    for one in told:
        heard = one.heard
        number = next_number[heard.organisation]
        next_number[heard.organisation] = number + 1
        notices.append(
            {
                "organisation": heard.organisation,
                "number": number,
                "region": one.region,
                "sequence": one.sequence,
                "role": heard.role,
                "type": heard.type,
                "at": heard.at,
                "referral": heard.referral,
                "task": heard.task,
                "reason": heard.reason,
                "expires_at": heard.expires_at,
                "submission": heard.submission,
                "unit": heard.unit,
            }
        )
    await connection.execute(insert(tables.notices), notices)
    deliveries = await _deliveries(connection, notices, now)
    if deliveries:
        await connection.execute(insert(tables.deliveries), deliveries)


async def _take_numbers(connection: AsyncConnection, counts: dict[str, int]) -> dict[str, int]:
    """The first of as many numbers as each organisation needs."""
    rows = await connection.execute(
        _TAKE, {"organisations": list(counts.keys()), "counts": list(counts.values())}
    )
    return {row.organisation: row.last_number - counts[row.organisation] + 1 for row in rows}


async def _deliveries(
    connection: AsyncConnection, notices: Sequence[dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    subscriptions = tables.subscriptions.c
    covering = (
        select(
            subscriptions.subscription, subscriptions.organisation, subscriptions.role, subscriptions.types
        )
        .where(
            subscriptions.organisation.in_({notice["organisation"] for notice in notices}),
            subscriptions.channel != "sse",
        )
        .with_for_update(read=True, key_share=True)
    )
    rows = (await connection.execute(covering)).all()
    return [
        {
            "subscription": row.subscription,
            "region": notice["region"],
            "sequence": notice["sequence"],
            "organisation": notice["organisation"],
            "number": notice["number"],
            "enqueued_at": now,
            "due_at": now,
        }
        for notice in notices
        for row in rows
        if (row.organisation, row.role) == (notice["organisation"], notice["role"])
        and (row.types is None or notice["type"] in row.types)
    ]


async def _move(connection: AsyncConnection, fresh: Iterable[Located]) -> None:
    last = {located.entry.meta.region: located for located in fresh}
    regions = tables.regions.c
    await connection.execute(
        update(tables.regions)
        .where(regions.region == bindparam("of"))
        .values(
            partition=bindparam("at_partition"),
            next_sequence=bindparam("following"),
            next_offset=bindparam("behind"),
        ),
        [
            {
                "of": region,
                "at_partition": located.partition,
                "following": located.entry.meta.sequence + 1,
                "behind": located.offset + 1,
            }
            for region, located in last.items()
        ],
    )
