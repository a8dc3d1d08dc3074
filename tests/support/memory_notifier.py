"""The tables of the schema ``notifier`` in memory, as far as they decide who hears what by webhook and feed. ``tests/contract/notifier``
holds them to those in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
from services.notifier import hearing, standing
from services.notifier.bell import Bell
from services.notifier.deliveries import FEED_BATCH, Claimed, ResentJustNow, SendingChannel, Waiting
from services.notifier.fold import Gap, Located, _fresh
from services.notifier.notices import Kept
from services.notifier.standing import ReferralStanding
from tests.support.memory_database import Database, away


@dataclass(frozen=True)
class Subscribed:
    """One subscription. ``types`` of None covers every type."""

    subscription: str
    organisation: str
    role: str
    types: tuple[str, ...] | None = None
    channel: SendingChannel = "webhook"

    @property
    def url(self) -> str | None:
        return f"https://{self.organisation}.example/" if self.channel == "webhook" else None

    @property
    def sealed_secret(self) -> bytes | None:
        return b"" if self.channel == "webhook" else None

    def covers(self, notice: Kept) -> bool:
        mine = (self.organisation, self.role) == (notice.organisation, notice.role)
        return mine and (self.types is None or notice.type in self.types)


@dataclass
class Delivery:
    """A row of ``notifier.deliveries``."""

    subscription: Subscribed
    notice: Kept
    enqueued_at: int
    due_at: int
    leased_until: int = 0
    attempts: int = 0
    attempts_before: int = 0
    result: str | None = None
    failed: bool = False
    """Whether there is a reason why an attempt failed."""


@dataclass
class NotifierTables:
    """The tables."""

    subscriptions: list[Subscribed]
    regions: dict[str, tuple[int, int]] = field(default_factory=dict)
    standings: dict[str, ReferralStanding] = field(default_factory=dict)
    organisations: dict[str, tuple[int, frozenset[Any]]] = field(default_factory=dict)
    """The version that is known, and its roles."""
    services: dict[str, str] = field(default_factory=dict)
    """Who offers each."""
    parked: dict[tuple[str, int], hearing.Sender] = field(default_factory=dict)
    streams: dict[str, int] = field(default_factory=dict)
    notices: list[Kept] = field(default_factory=list)
    deliveries: dict[tuple[str | int, ...], Delivery] = field(default_factory=dict)
    """By their identity."""
    resends: dict[str, int] = field(default_factory=dict)
    """When each organisation last had its deliveries sent again."""

    def take(self, located: Sequence[Located], now: int) -> list[Kept]:
        """Reflect these events, which are the next: all of them, or where one can't be, none. Returns the new notices."""
        before = {name: rows.copy() for name, rows in vars(self).items()}
        try:
            for one in located:
                meta = one.entry.meta
                for heard in self._hear(one.entry):
                    self._enqueue(self._kept(heard, meta.region, meta.sequence), now)
                self.regions[meta.region] = meta.sequence + 1, one.offset + 1
        except BaseException:
            vars(self).update(before)
            raise
        return self.notices[len(before["notices"]) :]

    def _hear(self, entry: Entry) -> list[hearing.Heard]:
        event = entry.event
        before = self.standings.get(hearing.about(event) or "")
        parked: hearing.Sender | None = None
        match event:
            case ReferralOpened():
                before = self.standings[event.referral] = standing.opened(event)
            case ReferenceAdopted() if event.organisation is not None:
                said = event.organisation
                known, _ = self.organisations.get(said.organisation, (0, None))
                if said.version > known:  # regions adopt the same each in its own time
                    self.organisations[said.organisation] = said.version, frozenset(said.roles)
            case ServicePublished():
                self.services[event.definition.service] = event.definition.organisation
            case KeyDestroyed():
                erased = {
                    n: standing.erased(s) for n, s in self.standings.items() if s.subject == event.subject
                }
                self.standings.update(erased)
            case SubmissionParked():
                by = hearing.sender(entry, before, self._roles(entry))
                if by is not None:
                    self.parked[entry.meta.region, entry.meta.sequence] = by
            case SubmissionRefused() if event.parked is not None:
                parked = self.parked.pop((entry.meta.region, event.parked), None)
            case _ if before is not None:
                self.standings[before.referral] = standing.after(before, event)
        owner = self.services.get(event.service) if isinstance(event, hearing.OF_A_UNIT) else None
        return hearing.hearers(entry, before, parked, self._roles(entry), owner)

    def _roles(self, entry: Entry) -> hearing.Roles:
        event, submission = entry.event, entry.meta.submission
        roles = {name: its for name, (_, its) in self.organisations.items()}
        if isinstance(event, Escalated):
            return {
                n: its for n, its in roles.items() if event.to == n or (not event.to and "operations" in its)
            }
        return {n: its for n, its in roles.items() if submission is not None and submission.source == n}

    def _kept(self, heard: hearing.Heard, region: str, sequence: int) -> Kept:
        number = self.streams[heard.organisation] = self.streams.get(heard.organisation, 0) + 1
        values = {name: getattr(heard, name) for name in hearing.Heard.__dataclass_fields__}
        return Kept(**values, number=number, region=region, sequence=sequence)

    def _enqueue(self, kept: Kept, now: int) -> None:
        self.notices.append(kept)
        for one in self.subscriptions:
            if one.covers(kept):
                self.add(Delivery(one, kept, now, now))

    @staticmethod
    def key(subscription: str, notice: Kept) -> tuple[str | int, ...]:
        """The identity of a delivery: subscription and event."""
        return subscription, notice.region, notice.sequence

    def add(self, delivery: Delivery) -> None:
        key = self.key(delivery.subscription.subscription, delivery.notice)
        if key in self.deliveries:
            raise RuntimeError("there is such a delivery")  # what the primary key would refuse
        self.deliveries[key] = delivery


class MemoryFold:
    """As :class:`services.notifier.fold.Fold`."""

    def __init__(self, database: Database, tables: NotifierTables, bell: Bell | None = None) -> None:
        self._database, self._tables, self._bell = database, tables, bell

    async def apply(self, batch: Sequence[Located], now: int) -> list[Gap]:
        told: list[Kept] = []

        def there() -> list[Gap]:
            positions = {one.entry.meta.region: (1, 0) for one in batch} | self._tables.regions
            fresh, gaps = _fresh(batch, positions)
            told.extend(self._tables.take(fresh, now))
            return gaps

        gaps = await self._database.ask(there, away)
        if told and self._bell is not None:
            self._bell.ring({one.organisation for one in told})
        return gaps


class MemoryDeliveries:
    """As :class:`services.notifier.deliveries.Deliveries`. Why an attempt failed it does not keep."""

    def __init__(self, database: Database, tables: NotifierTables) -> None:
        self._database, self._tables = database, tables

    async def claim(self, now: int, until: int, each: int, most: int) -> list[Claimed]:
        def there() -> list[Claimed]:
            attempts = [
                attempt
                for subscribed, waiting in self._waiting_of_each()
                for attempt in (_batch if subscribed.channel == "feed" else _singly)(waiting, now, each)
            ]
            chosen = [
                one for _, _, _, batch in sorted(attempts, key=lambda one: one[:3])[:most] for one in batch
            ]
            claimed: list[Claimed] = []
            for one in sorted(chosen, key=lambda one: (one.subscription.subscription, one.notice.number)):
                one.leased_until, one.attempts = until, one.attempts + 1
                to, made = one.subscription, (one.attempts, one.attempts_before)
                where = to.subscription, to.channel, to.url, to.sealed_secret
                claimed.append(Claimed(*where, *made, one.enqueued_at, one.notice))
            return claimed

        return await self._database.ask(there, away)

    async def finish(self, claimed: list[Claimed], result: str, at: int, reason: str | None = None) -> None:
        await self._write(claimed, result=result, leased_until=0, failed=reason is not None)

    async def postpone(self, claimed: list[Claimed], due_at: int, reason: str) -> None:
        await self._write(claimed, due_at=due_at, leased_until=0, failed=True)

    async def _write(self, claimed: list[Claimed], **values: Any) -> None:
        if not claimed:
            return

        def there() -> None:
            for one in claimed:
                row = self._tables.deliveries[self._tables.key(one.subscription, one.notice)]
                if row.attempts == one.attempts and row.result is None:
                    for name, value in values.items():
                        setattr(row, name, value)

        await self._database.ask(there, away)

    async def resend(self, organisation: str, now: int, pause_ms: int) -> int:
        def there() -> int:
            last = self._tables.resends.get(organisation)
            if last is not None and now - pause_ms < last <= now:
                raise ResentJustNow(last + pause_ms - now)
            self._tables.resends[organisation] = now
            mine = [
                d for d in self._tables.deliveries.values() if d.subscription.organisation == organisation
            ]
            waits = [one for one in mine if one.result is None and one.attempts and one.due_at > now]
            given_up = [
                one for one in mine if one.result == "given_up" and one.subscription.channel == "webhook"
            ]
            for one in given_up:
                one.result, one.enqueued_at, one.attempts_before = None, now, one.attempts
            for one in (*waits, *given_up):
                one.due_at = now
            return len(waits) + len(given_up)

        return await self._database.ask(there, away)

    async def waiting(self, now: int) -> Waiting:
        def there() -> Waiting:
            left = self._waiting()
            due = [now - one.due_at for one in left if one.due_at <= now and one.leased_until <= now]
            failed = [
                now - one.enqueued_at for one in left if one.failed and one.attempts > one.attempts_before
            ]
            return Waiting(len(left), max(due, default=0), max(failed, default=0))

        return await self._database.ask(there, away)

    def _waiting(self) -> list[Delivery]:
        return [one for one in self._tables.deliveries.values() if one.result is None]

    def _waiting_of_each(self) -> list[tuple[Subscribed, list[Delivery]]]:
        """What waits for each subscription, in order."""
        waiting: dict[Subscribed, list[Delivery]] = {}
        for one in sorted(self._waiting(), key=lambda one: one.notice.number):
            waiting.setdefault(one.subscription, []).append(one)
        return list(waiting.items())


_Attempt = tuple[int, int, str, list[Delivery]]
"""Whose turn it is, since when, and what is attempted at once."""


def _singly(waiting: list[Delivery], now: int, each: int) -> list[_Attempt]:
    """Of a webhook each delivery that is due is an attempt; at most ``each`` are under way."""
    under_way = sum(one.leased_until > now for one in waiting)
    due = [one for one in waiting if one.due_at <= now and one.leased_until <= now]
    return [
        (turn, one.due_at, one.subscription.subscription, [one])
        for turn, one in enumerate(due[: max(0, each - under_way)], under_way + 1)
    ]


def _batch(waiting: list[Delivery], now: int, _: int) -> list[_Attempt]:
    """Of a feed all that is due is one attempt, unless anything of it is under way or waits for its next."""
    if any(one.due_at > now or one.leased_until > now for one in waiting):
        return []
    batch = waiting[:FEED_BATCH]
    return [(1, min(one.due_at for one in batch), batch[0].subscription.subscription, batch)]
