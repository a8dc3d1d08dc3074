"""Deliveries in SQL: claimed for an attempt, then done, due again, or given up.

A claim is a lease: it ends by itself, so what a killed process was at is tried again. The number of attempts tells claims apart: what
became of one is only written while it is the latest, so a slow former claimant changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from sqlalchemy import bindparam, case, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import tables
from services.notifier.notices import Kept, kept

SendingChannel = Literal["webhook", "feed"]
Result = Literal["delivered", "given_up", "withheld"]

FEED_BATCH: Final = 200
"""A feed is written in order, one batch at a time."""

# A statement of its own: what follows must see what the last holder of the lock did, and a statement sees what was there when it began,
# which may be before the lock was free. Two processes would be at one feed, and the second one's notices come first.
_LOCK = text(
    """
    select subscription from notifier.subscriptions s
    where channel in ('webhook', 'feed') and exists (
        select from notifier.deliveries d
        where d.subscription = s.subscription and d.done_at is null and d.due_at <= :now and d.leased_until <= :now
    )
    for no key update skip locked
    """
)

# Materialised: the planner, which knows little of a queue that is ever changing, would choose anew for every delivery that waits.
# A feed's batch is one attempt, a webhook's delivery is one each. Where there is not room for all, the first of each subscription comes
# before the second of any, those under way counted, and among them what has been due longest: who answers slowly keeps back nobody else,
# and nothing is passed over for ever.
_CLAIM = text(
    """
    with open as (
        select subscription, channel from notifier.subscriptions where subscription = any(:ours)
    ), room as materialized (
        select open.subscription, open.channel, busy.under_way, case
            when open.channel = 'webhook' then :each - busy.under_way
            when exists (
                select from notifier.deliveries d
                where d.subscription = open.subscription and d.done_at is null
                    and (d.due_at > :now or d.leased_until > :now)
            ) then 0
            else :batch
        end as places
        from open cross join lateral (
            select count(*) as under_way from notifier.deliveries d
            where open.channel = 'webhook'
                and d.subscription = open.subscription and d.done_at is null and d.leased_until > :now
        ) busy
    ), due as materialized (
        select room.subscription, room.channel, room.under_way, d.region, d.sequence, d.number, d.due_at
        from room cross join lateral (
            select q.region, q.sequence, q.number, q.due_at from notifier.deliveries q
            where q.subscription = room.subscription and q.done_at is null and q.due_at <= :now and q.leased_until <= :now
            order by q.number limit greatest(room.places, 0)
        ) d
    ), turns as (
        select subscription, region, sequence, case
            when channel = 'webhook' then under_way + row_number() over (partition by subscription order by number)
            else 1
        end as turn, case
            when channel = 'webhook' then due_at
            else min(due_at) over (partition by subscription)
        end as since
        from due
    ), attempts as (
        select subscription, region, sequence, dense_rank() over (order by turn, since, subscription) as attempt
        from turns
    ), chosen as materialized (
        select subscription, region, sequence from attempts where attempt <= :most
    ), claimed as (
        update notifier.deliveries d set leased_until = :until, attempts = attempts + 1
        from chosen
        where d.subscription = chosen.subscription and d.region = chosen.region and d.sequence = chosen.sequence
            and d.done_at is null and d.leased_until <= :now
        returning d.subscription, d.attempts, d.attempts_before, d.enqueued_at, d.organisation, d.number
    )
    select s.subscription, s.channel, s.url, s.sealed_secret, c.attempts, c.attempts_before, c.enqueued_at, n.*
    from claimed c
    join notifier.subscriptions s on s.subscription = c.subscription
    join notifier.notices n on n.organisation = c.organisation and n.number = c.number
    order by s.subscription, n.number
    """
)


_WAITING = text(
    """
    select
        count(*),
        coalesce(max(:now - due_at) filter (where leased_until <= :now and due_at <= :now), 0),
        coalesce(max(:now - enqueued_at) filter (where last_reason is not null and attempts > attempts_before), 0)
    from notifier.deliveries where done_at is null
    """
)

# An organisation that never asked, whose pause is over, or whose last time is still to come, which some clock that was wrong wrote.
_RESEND = text(
    """
    insert into notifier.resends as r (organisation, at) values (:organisation, :now)
    on conflict (organisation) do update set at = :now where r.at <= :now - :pause or r.at > :now
    """
)


class ResentJustNow(Exception):
    """The organisation had its deliveries sent again, and may again in ``wait_ms`` milliseconds."""

    def __init__(self, wait_ms: int) -> None:
        super().__init__(f"deliveries were sent again just now, and are again in {wait_ms} ms")
        self.wait_ms = wait_ms


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to attempt until the lease ends. ``attempts_before`` as in the table."""

    subscription: str
    channel: SendingChannel
    url: str | None
    sealed_secret: bytes | None
    attempts: int
    attempts_before: int
    enqueued_at: int
    notice: Kept

    @property
    def tries(self) -> int:
        """The attempts since it was enqueued, or sent anew."""
        return self.attempts - self.attempts_before

    @property
    def identity(self) -> str:
        return _identity(self.subscription, self.notice.region, self.notice.sequence)


class Waiting(NamedTuple):
    """What is not done: how many deliveries; for how many milliseconds one has been due that nobody is at; and how many milliseconds ago
    the oldest was enqueued, or sent anew, of which an attempt has failed since."""

    deliveries: int
    due_ms: int
    failed_ms: int


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as its recipient may look it up."""

    subscription: str
    region: str
    sequence: int
    number: int
    type: str
    referral: str | None
    attempts: int
    last_reason: str | None
    due_at: int
    result: Result | None
    done_at: int | None

    @property
    def identity(self) -> str:
        return _identity(self.subscription, self.region, self.sequence)


def _identity(subscription: str, region: str, sequence: int) -> str:
    """A delivery's id, the same at every attempt: by it the receiver recognises a repeat."""
    return f"{subscription}.{region}.{sequence}"


class Deliveries:
    """The deliveries of all subscriptions. Times are epoch milliseconds, UTC."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, now: int, until: int, each: int, most: int) -> list[Claimed]:
        """Claim what is due for ``most`` attempts: at most ``each`` under way for a webhook, and for a feed the next batch, which is one
        attempt, once nothing before it waits."""
        async with self._engine.begin() as connection:
            ours = list(await connection.scalars(_LOCK, {"now": now}))
            if not ours:
                return []
            rows = await connection.execute(
                _CLAIM,
                {
                    "now": now,
                    "until": until,
                    "each": each,
                    "most": most,
                    "batch": FEED_BATCH,
                    "ours": ours,
                },
            )
            return [
                Claimed(
                    subscription=row["subscription"],
                    channel=row["channel"],
                    url=row["url"],
                    sealed_secret=row["sealed_secret"],
                    attempts=row["attempts"],
                    attempts_before=row["attempts_before"],
                    enqueued_at=row["enqueued_at"],
                    notice=kept(row),
                )
                for row in rows.mappings()
            ]

    async def finish(
        self, claimed: Sequence[Claimed], result: Result, at: int, reason: str | None = None
    ) -> None:
        """These need no more attempts."""
        await self._write(
            claimed, {"result": result, "done_at": at, "leased_until": 0, "last_reason": reason}
        )

    async def postpone(self, claimed: list[Claimed], due_at: int, reason: str) -> None:
        """These are tried again at ``due_at``."""
        await self._write(claimed, {"due_at": due_at, "leased_until": 0, "last_reason": reason})

    async def _write(self, claimed: Sequence[Claimed], values: dict[str, object]) -> None:
        if not claimed:
            return
        deliveries = tables.deliveries.c
        statement = (
            update(tables.deliveries)
            .where(
                deliveries.subscription == bindparam("of"),
                deliveries.region == bindparam("in_region"),
                deliveries.sequence == bindparam("at_sequence"),
                deliveries.attempts == bindparam("claim"),
                deliveries.done_at.is_(None),
            )
            .values(**values)
        )
        async with self._engine.begin() as connection:
            await connection.execute(
                statement,
                [
                    {
                        "of": one.subscription,
                        "in_region": one.notice.region,
                        "at_sequence": one.notice.sequence,
                        "claim": one.attempts,
                    }
                    for one in claimed
                ],
            )

    async def resend(self, organisation: str, now: int, pause_ms: int) -> int:
        """Attempt at once what waits for its next attempt, and as if it were new, with all its time, what was given up; returns how many. A
        feed is in order, so what was given up of one stays so: it is read by the event stream.

        Raises ResentJustNow until ``pause_ms`` milliseconds are over since the last time, whichever process did it: asked for again and
        again, it would do away with the pauses that spare a receiver, which need not be the organisation's own.
        """
        deliveries, subscriptions = tables.deliveries.c, tables.subscriptions.c
        given_up = deliveries.result == "given_up"
        waits = deliveries.done_at.is_(None) & (deliveries.attempts > 0) & (deliveries.due_at > now)
        statement = (
            update(tables.deliveries)
            .where(
                deliveries.subscription == subscriptions.subscription,
                deliveries.organisation == organisation,
                waits | (given_up & (subscriptions.channel == "webhook")),
            )
            .values(
                due_at=now,
                enqueued_at=case((given_up, now), else_=deliveries.enqueued_at),
                attempts_before=case((given_up, deliveries.attempts), else_=deliveries.attempts_before),
                result=None,
                done_at=None,
            )
        )
        async with self._engine.begin() as connection:
            asked = {"organisation": organisation, "now": now, "pause": pause_ms}
            if not (await connection.execute(_RESEND, asked)).rowcount:
                before = select(tables.resends.c.at).where(tables.resends.c.organisation == organisation)
                last = (await connection.execute(before)).scalar_one()
                raise ResentJustNow(last + pause_ms - now)
            return (await connection.execute(statement)).rowcount

    async def waiting(self, now: int) -> Waiting:
        """What is not done."""
        async with self._engine.connect() as connection:
            return Waiting(*map(int, (await connection.execute(_WAITING, {"now": now})).one()))

    async def of(self, organisation: str, before: tuple[int, str] | None, limit: int) -> list[DeliveryRow]:
        """An organisation's deliveries, latest notice first; ``before`` is number and subscription of the last one seen."""
        deliveries, notices = tables.deliveries.c, tables.notices.c
        shown = [
            (notices if name in ("type", "referral") else deliveries)[name]
            for name in DeliveryRow.__dataclass_fields__
        ]
        statement = (
            select(*shown)
            .join_from(tables.deliveries, tables.notices)
            .where(deliveries.organisation == organisation)
            .order_by(deliveries.number.desc(), deliveries.subscription.desc())
            .limit(limit)
        )
        if before is not None:
            statement = statement.where(tuple_(deliveries.number, deliveries.subscription) < tuple_(*before))
        async with self._engine.connect() as connection:
            return [DeliveryRow(**row) for row in (await connection.execute(statement)).mappings()]
