"""What stands here for PostgreSQL, for disks and for HTTP: as small as it can be and keep the rules that matter.

The statements themselves are proven on a real PostgreSQL in ``tests/integration``, and so are what a notice shows
(:mod:`services.notifier.disclosing`) and the Faust app under the notifier.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import (
    Entry,
    Escalated,
    KeyDestroyed,
    ReferenceAdopted,
    ReferralOpened,
    SubmissionParked,
    SubmissionRefused,
)
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.port import SECTIONS, Section
from services.intake import relay as reference_relay
from services.intake.repeats import Reservation, Standing
from services.matching.snapshots import STATE_VERSION, Captured, Snapshot, Snapshots, _lines
from services.notifier import hearing, standing
from services.notifier.deliveries import Claimed
from services.notifier.disclosing import _notice
from services.notifier.fold import Gap, Located, _fresh
from services.notifier.notices import Kept
from services.notifier.standing import ReferralStanding
from services.notifier.webhook import Answer
from tests.simulation.loop import Node
from tests.simulation.network import Database, Weather

Key = tuple[str, str]


def _away() -> OSError:
    return OSError("the database does not answer")


class WiredKeys(MemoryKeyStore):
    """The keys, away where the database is."""

    def __init__(
        self, table: KeyTable, away: Callable[[], bool], sections: Collection[Section] = SECTIONS
    ) -> None:
        super().__init__(table, sections)
        self._is_away = away

    def _may(self, *sections: Section) -> None:
        self.away = self._is_away()
        super()._may(*sections)


# Intake


@dataclass
class IntakeTables:
    """``intake.admissions``, ``intake.referrals``, ``intake.relayed``, and who holds the relay's lock."""

    admissions: dict[Key, Standing] = field(default_factory=dict)
    referrals: dict[str, str] = field(default_factory=dict)
    relayed: dict[str, int] = field(default_factory=dict)
    relays: Node | None = None


class MemoryAdmissions:
    """As :class:`services.intake.repeats.Admissions`."""

    def __init__(self, database: Database, tables: IntakeTables) -> None:
        self._database, self._tables = database, tables

    async def reserve(self, reservations: Sequence[Reservation]) -> dict[Key, Standing]:
        def there() -> dict[Key, Standing]:
            found: dict[Key, Standing] = {}
            for one in reservations:
                key, tables = (one.source, one.id), self._tables
                if one.subject is not None and one.referral is not None:
                    if one.referral in tables.referrals and key not in tables.admissions:
                        continue
                    tables.referrals.setdefault(one.referral, one.subject)
                new = Standing(one.digest, one.region, None, None, one.referral)
                found[key] = tables.admissions.setdefault(key, new)
            return found

        return await self._database.ask(there, _away)

    async def find(self, keys: Sequence[Key]) -> dict[Key, Standing]:
        admissions = self._tables.admissions
        return await self._database.ask(
            lambda: {key: admissions[key] for key in keys if key in admissions}, _away
        )

    async def place(self, positions: Sequence[tuple[str, str, int, int]]) -> dict[Key, tuple[int, int]]:
        def there() -> dict[Key, tuple[int, int]]:
            found: dict[Key, tuple[int, int]] = {}
            for source, id, partition, offset in positions:
                stands = self._tables.admissions[source, id]
                if stands.partition is None or stands.offset is None:
                    stands = replace(stands, partition=partition, offset=offset)
                    self._tables.admissions[source, id] = stands
                found[source, id] = stands.partition or 0, stands.offset or 0
            return found

        return await self._database.ask(there, _away)

    async def subjects_of(self, referrals: Sequence[str]) -> dict[str, str]:
        known = self._tables.referrals
        return await self._database.ask(lambda: {one: known[one] for one in referrals if one in known}, _away)

    async def remember(self, subjects: Mapping[str, str]) -> None:
        await self._database.ask(
            lambda: [self._tables.referrals.setdefault(*one) for one in subjects.items()], _away
        )


class RelayEngine:
    """The connection on which intake's relay holds its lock and writes its positions: its three statements, and no others."""

    def __init__(self, node: Node, database: Database, tables: IntakeTables) -> None:
        self._node, self._database, self._tables = node, database, tables

    def execution_options(self, **_: Any) -> RelayEngine:
        return self

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[RelayEngine]:
        yield self

    async def scalar(self, statement: Any, _: Any) -> bool:
        assert statement is reference_relay._LOCK

        def there() -> bool:
            holder = self._tables.relays
            if holder is None or holder.dead or holder is self._node:
                self._tables.relays = self._node
            return self._tables.relays is self._node

        return await self._database.ask(there, _away)

    async def execute(self, statement: Any, values: Mapping[str, Any] | None = None) -> list[tuple[str, int]]:
        def there() -> list[tuple[str, int]]:
            if self._tables.relays is not self._node:
                raise _away()  # the connection is gone, and the lock with it
            if statement is reference_relay._MOVE and values is not None:
                self._tables.relayed[values["region"]] = values["next"]
            return list(self._tables.relayed.items())

        return await self._database.ask(there, _away)

    async def invalidate(self) -> None:
        if self._tables.relays is self._node:
            self._tables.relays = None


# Matching


class MemoryDisk(Snapshots):
    """Snapshots in files that are bytes in memory; they outlive the process."""

    def __init__(self, bus: str) -> None:
        self.files: dict[int, bytes] = {}
        super().__init__(None, bus)  # type: ignore[arg-type]

    async def load(self, partition: int) -> Snapshot | None:
        if partition not in self.files:
            return None
        return self._read(_File(self.files[partition]), partition)  # type: ignore[arg-type]

    async def discard(self, partition: int) -> None:
        self.files.pop(partition, None)

    async def save(self, captured: Captured) -> None:
        header = {"version": STATE_VERSION, "schemas": self._schemas, "bus": self._bus, "partition": captured.partition,
                  "next_offset": captured.next_offset, "regions": len(captured.regions)}  # fmt: skip
        content = b"".join(_lines(header, captured.regions))
        self.files[captured.partition] = content + sha256(content).hexdigest().encode() + b"\n"


@dataclass
class _File:
    content: bytes

    def read_bytes(self) -> bytes:
        return self.content


# Notifier


@dataclass(frozen=True)
class Subscribed:
    """One subscription."""

    subscription: str
    organisation: str
    role: str


@dataclass
class Delivery:
    """A row of ``notifier.deliveries``."""

    subscription: Subscribed
    notice: Kept
    enqueued_at: int
    due_at: int
    leased_until: int = 0
    attempts: int = 0
    result: str | None = None


@dataclass
class NotifierTables:
    """The tables of the schema ``notifier``, as far as they decide who hears what."""

    subscriptions: list[Subscribed]
    regions: dict[str, tuple[int, int]] = field(default_factory=dict)
    standings: dict[str, ReferralStanding] = field(default_factory=dict)
    roles: dict[str, frozenset[Any]] = field(default_factory=dict)
    parked: dict[tuple[str, int], hearing.Sender] = field(default_factory=dict)
    notices: list[Kept] = field(default_factory=list)
    deliveries: dict[tuple[str | int, ...], Delivery] = field(default_factory=dict)
    """By their identity."""

    def take(self, located: Sequence[Located], now: int) -> list[Kept]:
        """Reflect these events, which are the next. Returns the new notices."""
        before = len(self.notices)
        for one in located:
            meta = one.entry.meta
            for heard in self._hear(one.entry):
                self._enqueue(self._kept(heard, meta.region, meta.sequence), now)
            self.regions[meta.region] = meta.sequence + 1, one.offset + 1
        return self.notices[before:]

    def _hear(self, entry: Entry) -> list[hearing.Heard]:
        event = entry.event
        before = self.standings.get(hearing.about(event) or "")
        parked: hearing.Sender | None = None
        match event:
            case ReferralOpened():
                before = self.standings[event.referral] = standing.opened(event)
            case ReferenceAdopted() if event.organisation is not None:
                self.roles[event.organisation.organisation] = frozenset(event.organisation.roles)
            case KeyDestroyed():
                erased = {
                    n: standing.erased(s) for n, s in self.standings.items() if s.subject == event.subject
                }
                self.standings.update(erased)
            case SubmissionParked():
                by = hearing.sender(entry, before, self.roles)
                if by is not None:
                    self.parked[entry.meta.region, entry.meta.sequence] = by
            case SubmissionRefused() if event.parked is not None:
                parked = self.parked.pop((entry.meta.region, event.parked), None)
            case _ if before is not None:
                self.standings[before.referral] = standing.after(before, event)
        return hearing.hearers(entry, before, parked, self._roles(entry))

    def _roles(self, entry: Entry) -> hearing.Roles:
        if isinstance(entry.event, Escalated) and entry.event.to is not None:
            return {entry.event.to: self.roles.get(entry.event.to, frozenset())}
        return self.roles

    def _kept(self, heard: hearing.Heard, region: str, sequence: int) -> Kept:
        number = 1 + sum(one.organisation == heard.organisation for one in self.notices)
        values = {name: getattr(heard, name) for name in hearing.Heard.__dataclass_fields__}
        return Kept(**values, number=number, region=region, sequence=sequence)

    def _enqueue(self, kept: Kept, now: int) -> None:
        self.notices.append(kept)
        for one in self.subscriptions:
            if (one.organisation, one.role) == (kept.organisation, kept.role):
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

    def __init__(
        self, database: Database, tables: NotifierTables, ring: Callable[[Iterable[str]], None]
    ) -> None:
        self._database, self._tables, self._ring = database, tables, ring

    async def apply(self, batch: Sequence[Located], now: int) -> list[Gap]:
        told: list[Kept] = []

        def there() -> list[Gap]:
            positions = {one.entry.meta.region: (1, 0) for one in batch} | self._tables.regions
            fresh, gaps = _fresh(batch, positions)
            told.extend(self._tables.take(fresh, now))
            return gaps

        gaps = await self._database.ask(there, _away)
        self._ring({one.organisation for one in told})
        return gaps


class MemoryDeliveries:
    """As :class:`services.notifier.deliveries.Deliveries`, for webhooks."""

    def __init__(self, database: Database, tables: NotifierTables) -> None:
        self._database, self._tables = database, tables

    async def claim(self, now: int, until: int, each: int) -> list[Claimed]:
        def there() -> list[Claimed]:
            claimed: list[Claimed] = []
            room: dict[str, int] = {}
            waiting = [one for one in self._tables.deliveries.values() if one.result is None]
            for one in waiting:
                name = one.subscription.subscription
                room[name] = room.get(name, each) - (one.leased_until > now)
            for one in sorted(waiting, key=lambda d: (d.subscription.subscription, d.notice.number)):
                name = one.subscription.subscription
                if one.due_at <= now and one.leased_until <= now and room[name] > 0:
                    room[name] -= 1
                    one.leased_until, one.attempts = until, one.attempts + 1
                    url = f"https://{one.subscription.organisation}.example/"
                    claimed.append(
                        Claimed(name, "webhook", url, b"", one.attempts, one.enqueued_at, one.notice)
                    )
            return claimed

        return await self._database.ask(there, _away)

    async def finish(self, claimed: list[Claimed], result: str, at: int, reason: str | None = None) -> None:
        await self._write(claimed, result=result, leased_until=0)

    async def postpone(self, claimed: list[Claimed], due_at: int, reason: str) -> None:
        await self._write(claimed, due_at=due_at, leased_until=0)

    async def _write(self, claimed: list[Claimed], **values: Any) -> None:
        def there() -> None:
            for one in claimed:
                row = self._tables.deliveries[self._tables.key(one.subscription, one.notice)]
                if row.attempts == one.attempts and row.result is None:
                    for name, value in values.items():
                        setattr(row, name, value)

        await self._database.ask(there, _away)

    async def waiting(self, now: int) -> tuple[int, int]:
        left = [one.enqueued_at for one in self._tables.deliveries.values() if one.result is None]
        return len(left), max((now - at for at in left), default=0)


class ShowsNothing:
    """As :class:`services.notifier.disclosing.Disclosing` would where no agreement lets anybody see anything of the person."""

    async def prepare(self, notices: Sequence[Kept], channel: str) -> list[Notice | None]:
        return [_notice(kept, kept.reason, None) for kept in notices]


class NoSecret:
    """As :class:`services.notifier.secrets.WebhookSecrets`."""

    def open(self, subscription: str, sealed: bytes) -> str:
        return "whsec_"


class Webhooks:
    """The recipients' doors, as :class:`services.notifier.webhook.WebhookSender` sees them. They break down, and an answer may be lost."""

    def __init__(self, node: Node, weather: Weather, receive: Callable[[str, dict[str, Any]], None]) -> None:
        self._node, self._weather, self._receive = node, weather, receive
        self._draw: random.Random = weather.draw

    async def send(self, url: str, secret: str, identity: str, body: bytes, at: int) -> Answer:
        async def there() -> Answer:
            if self._draw.random() < self._weather.lost:
                return Answer(False, "http_503")
            self._receive(identity, json.loads(body))
            return Answer(True)

        try:
            return await self._weather.ask(self._node, there, TimeoutError)
        except TimeoutError:
            return Answer(False, "timeout")
