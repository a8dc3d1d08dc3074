"""Known faults, to be put back one at a time: what the simulator is worth shows in how soon it finds each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest.mock import patch

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import LogError, Outgoing, Partition, Position, Record
from referral_bus.runtime import worker
from referral_bus.runtime.worker import CROWDED_POLL_SECONDS, Worker, _Owner, _Turn
from referral_bus.store.memory import MemoryViews
from referral_bus.store.port import Claim
from referral_bus.store.rows import Put
from services.intake import api
from services.intake.admission import Admission
from services.intake.checks import Presented
from services.intake.outboxes import Outboxes
from services.intake.refusals import Refused
from services.matching import snapshots
from services.matching.core.decide import clock
from services.matching.core.state import Region, Unit
from services.matching.partition import PartitionWork
from services.matching.relay import Relay
from services.matching.snapshots import Snapshots
from services.notifier.deliveries import Claimed
from services.notifier.feed import Feeds
from tests.support import memory_notifier
from tests.support.memory_notifier import NotifierTables


@dataclass(frozen=True)
class Fault:
    """A rule, and what undoes it. ``shows`` are kinds of findings of which at least one is to be among those found."""

    name: str
    rule: str
    shows: frozenset[str]
    undone: Callable[[], AbstractContextManager[Any]]


FAULTS: Final[dict[str, Fault]] = {}


def _fault(
    name: str, rule: str, *shows: str
) -> Callable[[Callable[[], AbstractContextManager[Any]]], Callable[[], AbstractContextManager[Any]]]:
    def known(undone: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[Any]]:
        FAULTS[name] = Fault(name, rule, frozenset(shows), undone)
        return undone

    return known


def put_back(name: str | None) -> AbstractContextManager[Any]:
    """The fault of this name, while the context lasts; None is no fault."""
    return nullcontext() if name is None else FAULTS[name].undone()


# Matching, exactly once


@_fault(
    "read-before-fencing",
    "The former owner is fenced before the ledger is read.",
    "broken",
    "duplicated",
)
def _read_before_fencing() -> AbstractContextManager[Any]:
    take_turn = _Owner._take_turn

    async def early(self: Any) -> None:
        make = self._make
        work = make(self._partition)
        proven = await self._load(work)
        await asyncio.sleep(0.3)  # as the rest of a long ledger takes

        async def loaded(_: Any) -> Any:
            return proven

        work.load, self._make = loaded, lambda _: work
        try:
            await take_turn(self)
        finally:
            self._make = make

    return patch.object(_Owner, "_take_turn", early)


@_fault("await-after-seek", "Position and generation change with no await in between.", "unanswered")
def _await_after_seek() -> AbstractContextManager[Any]:
    loaded = _Owner._loaded

    async def late(self: Any, work: Any, writer: Any) -> Any:
        turn = await loaded(self, work, writer)
        await asyncio.sleep(0.05)
        return turn

    return patch.object(_Owner, "_loaded", late)


def _step(stale: Callable[[Any, Any, Partition, Sequence[Record]], None]) -> AbstractContextManager[Any]:
    """Worker._step, with another way to deal with what was fetched under a former assignment."""

    async def step(self: Any, member: Any) -> None:
        before = {partition: owner.turn for partition, owner in self._owners.items()}
        polled = await member.poll(self._batch, CROWDED_POLL_SECONDS if self._owners else 0.25)
        for partition, records in polled.items():
            turn: Any = self._owners[partition].turn if partition in self._owners else None
            if turn is None:
                continue
            former: Any = before.get(partition)
            if turn is former:
                turn.accept(records)
            else:
                stale(member, turn, partition, records)
        for owner in list(self._owners.values()):
            if owner.task.done():
                owner.task.result()

    return patch.object(Worker, "_step", step)


@_fault("stale-batch-taken", "What was fetched under a former assignment is dropped.", "unanswered")
def _stale_taken() -> AbstractContextManager[Any]:
    return _step(lambda _, turn, __, records: turn.accept(records))


@_fault("stale-batch-not-rewound", "What is dropped is fetched again.", "unanswered")
def _stale_not_rewound() -> AbstractContextManager[Any]:
    return _step(lambda *_: None)


@_fault("state-kept", "After an error in a transaction the state is loaded anew.", "broken")
def _state_kept() -> AbstractContextManager[Any]:
    take_turn = _Owner._take_turn

    async def kept(self: Any) -> None:
        make = self._make
        if not hasattr(self, "kept"):
            self.kept = make(self._partition)
            first = self.kept.load

            async def once(progress: Any) -> Any:
                proven = await first(progress)

                async def never(_: Any) -> Any:
                    return proven

                self.kept.load = never
                return proven

            self.kept.load = once
        self._make = lambda _: self.kept
        await take_turn(self)

    return patch.object(_Owner, "_take_turn", kept)


@_fault("offsets-believed", "What the ledger proves counts, whatever the group committed.", "unanswered")
def _offsets_believed() -> AbstractContextManager[Any]:
    load = _Owner._load

    async def proves_nothing(self: Any, work: Any) -> None:
        await load(self, work)

    return patch.object(_Owner, "_load", proves_nothing)


@_fault("gaps-refused", "Offsets have gaps by right.", "unanswered")
def _gaps_refused() -> AbstractContextManager[Any]:
    accept = _Turn.accept

    def strict(self: Any, records: Sequence[Record]) -> None:
        following = self.fetched
        taken = []
        for record in records:
            if record.offset == following:
                taken.append(record)
                following += 1
        accept(self, taken)

    return patch.object(_Turn, "accept", strict)


@_fault(
    "batch-not-awaited",
    "A batch that is under way ends before its partition is given up.",
    "given up",
)
def _batch_not_awaited() -> AbstractContextManager[Any]:
    async def at_once(self: Any) -> None:
        self._is_released = True
        self.task.cancel()
        await asyncio.wait([self.task], timeout=self._limits.close_seconds)

    return patch.object(_Owner, "release", at_once)


@_fault("close-awaited", "Nothing waits for a client to close without a limit.", "unanswered")
def _close_awaited() -> AbstractContextManager[Any]:
    async def without_limit(_: str, close: Awaitable[None], __: float) -> None:
        await close

    return patch.object(worker, "_closed", without_limit)


# Snapshots


@_fault(
    "damage-overlooked",
    "A snapshot that a disk lost or changed something of is not used.",
    "broken",
    "decided differently",
    "duplicated",
    "failed",
    "forgotten",
    "oversold",
    "unanswered",
)
def _damage_overlooked() -> AbstractContextManager[Any]:
    def as_far_as_it_goes(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"]\n") or line.endswith(b"}\n")]
        return b"".join(whole) + b"[]\n" * 1_000

    return patch.object(snapshots, "_unsealed", as_far_as_it_goes)


@_fault("disk-believed", "A disk that fails costs a snapshot, and nothing else.", "failed")
def _disk_believed() -> AbstractContextManager[Any]:
    save = Snapshots.save

    async def or_nothing(self: Any, captured: Any) -> None:
        try:
            await save(self, captured)
        except OSError as error:
            raise RuntimeError("no snapshot can be kept") from error

    return patch.object(Snapshots, "save", or_nothing)


# Deciding


@_fault("double-hold", "A place that is held for one is not offered to another.", "oversold")
def _double_hold() -> AbstractContextManager[Any]:
    return patch.object(Unit, "free", property(lambda self: self.total + self.overbook - self.taken))


@_fault("repeat-decided", "A repeat is recognised by source, id and digest.", "duplicated")
def _repeat_decided() -> AbstractContextManager[Any]:
    return patch.object(Region, "first_answer", lambda *_: None)


@_fault(
    "own-clock",
    "What time it is says the record's append time, not the worker's clock.",
    "decided differently",
)
def _own_clock() -> AbstractContextManager[Any]:
    answer = PartitionWork._answer

    async def by_own_clock(self: Any, record: Record, region: str, submission: Any) -> Any:
        return await answer(self, replace(record, timestamp=self._clock.now()), region, submission)

    return patch.object(PartitionWork, "_answer", by_own_clock)


@_fault("expired-early", "An offer stands until its time is over.", "expired early")
def _expired_early() -> AbstractContextManager[Any]:
    tick = clock.tick
    return patch.object(clock, "tick", lambda state, now, facts: tick(state, now + 1_000, facts))


@_fault(
    "position-before-message",
    "The relay stores how far it came once what it put is acknowledged.",
    "not relayed",
)
def _position_before_message() -> AbstractContextManager[Any]:
    relay = Relay._relay

    async def early(
        self: Any, member: Any, partition: Partition, claim: Any, records: Sequence[Record]
    ) -> None:
        await member.commit({partition: records[-1].offset + 1})
        await relay(self, member, partition, claim, records)

    return patch.object(Relay, "_relay", early)


# Intake, projections, notifier


@_fault("acknowledged-unwritten", "Answered is only what the log has acknowledged.", "lost")
def _acknowledged_unwritten() -> AbstractContextManager[Any]:
    init = Admission.__init__

    class Hasty:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def append(self, records: Sequence[Outgoing]) -> Any:
            try:
                return await self._inner.append(records)
            except LogError:
                return [Position(one.topic, one.partition, 1_000_000, 0) for one in records]

    def hasty(self: Any, *, appender: Any, **more: Any) -> None:
        hasty_one: Any = Hasty(appender)
        init(self, appender=hasty_one, **more)

    return patch.object(Admission, "__init__", hasty)


@_fault(
    "unfenced-projector",
    "A view is written by the latest owner of its partition alone.",
    "views differ",
    "views behind",
)
def _unfenced() -> AbstractContextManager[Any]:
    async def apply(
        self: Any, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Put]
    ) -> None:
        self._claims[partition] = Claim(epoch, start)
        await fenced(self, partition, epoch, start, end, changes)

    fenced = MemoryViews.apply
    return patch.object(MemoryViews, "apply", apply)


@_fault(
    "delivery-without-identity",
    "A delivery's identity is subscription and event, so a repeat is sent once.",
    "told twice",
)
@contextmanager
def _without_identity() -> Iterator[None]:
    def key(subscription: str, notice: Any) -> tuple[str | int, ...]:
        return subscription, notice.region, notice.sequence, notice.number

    def identity(self: Claimed) -> str:
        return f"{self.subscription}.{self.notice.region}.{self.notice.sequence}.{self.notice.number}"

    with (
        patch.object(memory_notifier, "_fresh", lambda batch, _: (list(batch), [])),
        patch.object(NotifierTables, "key", staticmethod(key)),
        patch.object(Claimed, "identity", property(identity)),
    ):
        yield


@_fault(
    "reads-uncommitted",
    "The notifier hears of nothing that is not committed.",
    "told of nothing",
    "told wrongly",
    "not told",
)
def _reads_uncommitted() -> AbstractContextManager[Any]:
    take = MemoryLog.take

    def everything(self: Any, partition: Partition, start: int, limit: int) -> tuple[list[Record], int]:
        slots = self._slots[partition]
        return [slot.record for slot in slots[start:] if slot.record is not None], len(slots)

    fetched = MemoryMember._fetched

    def fetch(self: Any, limit: int) -> Mapping[Partition, list[Record]]:
        reading = everything if self.group.name.endswith("-notifier") else take
        with patch.object(MemoryLog, "take", reading):
            return fetched(self, limit)

    return patch.object(MemoryMember, "_fetched", fetch)


# The doors and the feeds


@_fault(
    "outbox-position-early",
    "An outbox is handled up to where all is on the inbox, or refused.",
    "lost",
)
def _outbox_position_early() -> AbstractContextManager[Any]:
    handle = Outboxes._handle

    async def early(self: Any, member: Any, partition: Partition, claim: Any, records: Any) -> None:
        await member.commit({partition: claim.read})
        await handle(self, member, partition, claim, records)

    return patch.object(Outboxes, "_handle", early)


@_fault("bad-record-waited-for", "A record that can't be admitted holds up no other.", "unanswered")
def _bad_record_waited_for() -> AbstractContextManager[Any]:
    settled = Outboxes._settled

    async def until_it_is_good(self: Any, organisation: str, read: Sequence[Any]) -> list[Record]:
        good = next((n for n, one in enumerate(read) if isinstance(one.content, Refused)), len(read))
        return [*await settled(self, organisation, read[:good]), *(one.record for one in read[good:])]

    return patch.object(Outboxes, "_settled", until_it_is_good)


@_fault("refusal-believed", "A refusal is told once its feed has acknowledged it.", "lost")
def _refusal_believed() -> AbstractContextManager[Any]:
    async def once(self: Any, _: str, records: Sequence[Outgoing], tries: Any = None) -> bool:
        with suppress(LogError):
            await self._appender.append(records)
        return True

    return patch.object(Outboxes, "_put", once)


@_fault("outage-refused", "Nothing on an outbox is refused as something is away.", "contradicted")
def _outage_refused() -> AbstractContextManager[Any]:
    admitted = Outboxes._admitted

    async def at_once(self: Any, organisation: str, read: Sequence[Any]) -> Any:
        results = await admitted(self, organisation, read)
        return [Refused("invalid") if getattr(one, "reason", "") == "unavailable" else one for one in results]

    return patch.object(Outboxes, "_admitted", at_once)


@_fault("id-made-up", "A request over HTTP has the id its sender gave it.", "contradicted")
def _id_made_up() -> AbstractContextManager[Any]:
    return patch.object(api, "Presented", lambda _, *more: Presented(api.new_id(), *more))


@_fault("feed-believed", "Delivered by feed is what the feed has acknowledged.", "not told", "reordered")
def _feed_believed() -> AbstractContextManager[Any]:
    write = Feeds.write

    async def or_not(self: Any, notices: Any) -> None:
        with suppress(LogError):
            await write(self, notices)

    return patch.object(Feeds, "write", or_not)


@_fault(
    "feed-overtaken", "Of a feed nothing is written while what comes before it is under way.", "reordered"
)
def _feed_overtaken() -> AbstractContextManager[Any]:
    batch = memory_notifier._batch

    def of_what_is_due(waiting: Any, now: int, each: int) -> Any:
        due = [one for one in waiting if one.due_at <= now and one.leased_until <= now]
        return batch(due, now, each) if due else []

    return patch.object(memory_notifier, "_batch", of_what_is_due)
