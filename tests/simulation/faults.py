"""Known faults, to be put back one at a time: what the simulator is worth shows in how soon it finds each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from referral_bus.contracts.inbox import AcceptOffer
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityRequested,
    OfferAccepted,
    OfferExpired,
    OfferMade,
    SubmissionRefused,
)
from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import LogError, Outgoing, Partition, Position, Record
from referral_bus.sealing.memory import MemoryKeyStore
from referral_bus.sealing.port import DESTROYED
from referral_bus.store.memory import MemoryViews
from referral_bus.store.port import Claim
from referral_bus.store.rows import Put
from services.intake import api
from services.intake.admission import Admission
from services.intake.checks import Presented
from services.intake.outboxes import Outboxes
from services.intake.refusals import Refused
from services.matching import snapshots
from services.matching.core import decide
from services.matching.core.decide import borrowing, clock, offering, offers
from services.matching.core.state import Region, Unit
from services.matching.partition import PartitionWork
from services.matching.relay import Relay
from services.matching.snapshots import Snapshots
from services.notifier import hearing
from services.notifier.deliveries import Claimed
from services.notifier.feed import Feeds
from services.projections.views import capacity
from tests.simulation import worker_faults  # noqa: F401 - which are the first in the list
from tests.simulation.known import FAULTS, Fault, fault, put_back
from tests.support import memory_notifier
from tests.support.memory_notifier import NotifierTables

__all__ = ["FAULTS", "Fault", "put_back"]

# Snapshots


@fault(
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


@fault("disk-believed", "A disk that fails costs a snapshot, and nothing else.", "failed")
def _disk_believed() -> AbstractContextManager[Any]:
    save = Snapshots.save

    async def or_nothing(self: Any, captured: Any) -> None:
        try:
            await save(self, captured)
        except OSError as error:
            raise RuntimeError("no snapshot can be kept") from error

    return patch.object(Snapshots, "save", or_nothing)


# Deciding


@fault("refused-in-silence", "A refusal is an event too.", "unanswered")
def _refused_in_silence() -> AbstractContextManager[Any]:
    decided = PartitionWork._decided

    def or_nothing(self: Any, *about: Any) -> Any:
        written = decided(self, *about)
        return [one for one in written if not isinstance(one.entry.event, SubmissionRefused)]

    return patch.object(PartitionWork, "_decided", or_nothing)


@fault("parked-for-ever", "What comes before what it refers to waits for a time, and no longer.", "forgotten")
def _parked_for_ever() -> AbstractContextManager[Any]:
    still_due = Region._still_due
    return patch.object(Region, "_still_due", lambda self, due: due.kind != "parked" and still_due(self, due))


@fault("double-hold", "A place that is held for one is not offered to another.", "oversold")
def _double_hold() -> AbstractContextManager[Any]:
    return patch.object(Unit, "free", property(lambda self: self.total + self.overbook - self.taken))


@fault("repeat-decided", "A repeat is recognised by source, id and digest.", "duplicated")
def _repeat_decided() -> AbstractContextManager[Any]:
    return patch.object(Region, "first_answer", lambda *_: None)


@fault(
    "own-clock",
    "What time it is says the record's append time, not the worker's clock.",
    "decided differently",
)
def _own_clock() -> AbstractContextManager[Any]:
    answer = PartitionWork._answer

    async def by_own_clock(self: Any, record: Record, region: str, submission: Any) -> Any:
        return await answer(self, replace(record, timestamp=self._clock.now()), region, submission)

    return patch.object(PartitionWork, "_answer", by_own_clock)


@fault("expired-early", "An offer stands until its time is over.", "expired early")
def _expired_early() -> AbstractContextManager[Any]:
    tick = clock.tick
    return patch.object(clock, "tick", lambda state, now, facts: tick(state, now + 1_000, facts))


@fault(
    "accepted-by-two",
    "The first acceptance wins, and every other offer of the referral ends.",
    "accepted twice",
)
@contextmanager
def _accepted_by_two() -> Iterator[None]:
    won = offering.won

    def and_so_do_others(*about: Any) -> list[Any]:
        return [event for event in won(*about) if isinstance(event, OfferAccepted)]

    with patch.object(offers, "won", and_so_do_others), patch.object(borrowing, "won", and_so_do_others):
        yield


# What another region says of a place of its own


@fault(
    "offered-unasked",
    "A place of another region is offered once that region holds it.",
    "oversold",
)
def _offered_unasked() -> AbstractContextManager[Any]:
    made = offering.offers

    def at_once(*about: Any, **more: Any) -> list[Any]:
        events = made(*about, **more)
        return [_as_own(one) if isinstance(one, CapacityRequested) else one for one in events]

    def _as_own(asked: CapacityRequested) -> OfferMade:
        return OfferMade(**asked.model_dump(exclude={"until"}), expires_at=asked.until)

    return patch.object(offering, "offers", at_once)


@fault(
    "given-unasked",
    "A place of another region is given once that region has let it be taken.",
    "oversold",
)
def _given_unasked() -> AbstractContextManager[Any]:
    def at_once(asked: Any, body: AcceptOffer) -> list[Any]:
        events = offers.accept(asked, body)
        if not isinstance(events[0], AcceptanceClaimed):
            return events
        name, known, number = asked.state.task(body.task)
        return offering.won(name, known, number, body.starts_at)

    return patch.dict(decide._HANDLERS, {AcceptOffer: at_once})


@fault(
    "relayed-backwards", "What a region says to another comes in the order in which it was said.", "reordered"
)
def _relayed_backwards() -> AbstractContextManager[Any]:
    put = Relay._put

    async def backwards(self: Any, records: Sequence[Record]) -> int:
        return await put(self, records[::-1])

    return patch.object(Relay, "_put", backwards)


@fault(
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


@fault("acknowledged-unwritten", "Answered is only what the log has acknowledged.", "lost")
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


@fault(
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


@fault(
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


@fault(
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


# What the services' own code would agree with: only what is counted without it can tell


@fault("place-never-free", "The views say of places what the events say.", "views differ")
def _place_never_free() -> AbstractContextManager[Any]:
    moved = capacity._moved

    def expired_or_not(event: Any, *about: Any) -> Iterator[Put]:
        return iter(()) if isinstance(event, OfferExpired) else moved(event, *about)

    return patch.object(capacity, "_moved", expired_or_not)


@fault("provider-unheard", "Whom an event names hears of it.", "not told")
def _provider_unheard() -> AbstractContextManager[Any]:
    providers = hearing._providers

    def or_nobody(event: Any, standing: Any) -> list[str | None]:
        return [] if isinstance(event, OfferExpired) else providers(event, standing)

    return patch.object(hearing, "_providers", or_nobody)


# The doors and the feeds


@fault(
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


@fault("bad-record-waited-for", "A record that can't be admitted holds up no other.", "unanswered")
def _bad_record_waited_for() -> AbstractContextManager[Any]:
    settled = Outboxes._settled

    async def until_it_is_good(self: Any, organisation: str, read: Sequence[Any]) -> list[Record]:
        good = next((n for n, one in enumerate(read) if isinstance(one.content, Refused)), len(read))
        return [*await settled(self, organisation, read[:good]), *(one.record for one in read[good:])]

    return patch.object(Outboxes, "_settled", until_it_is_good)


@fault("refusal-believed", "A refusal is told once its feed has acknowledged it.", "lost")
def _refusal_believed() -> AbstractContextManager[Any]:
    async def once(self: Any, _: str, records: Sequence[Outgoing], tries: Any = None) -> bool:
        with suppress(LogError):
            await self._appender.append(records)
        return True

    return patch.object(Outboxes, "_put", once)


@fault("outage-refused", "Nothing on an outbox is refused as something is away.", "contradicted")
def _outage_refused() -> AbstractContextManager[Any]:
    admitted = Outboxes._admitted

    async def at_once(self: Any, organisation: str, read: Sequence[Any]) -> Any:
        results = await admitted(self, organisation, read)
        return [Refused("invalid") if getattr(one, "reason", "") == "unavailable" else one for one in results]

    return patch.object(Outboxes, "_admitted", at_once)


@fault("id-made-up", "A request over HTTP has the id its sender gave it.", "contradicted")
def _id_made_up() -> AbstractContextManager[Any]:
    return patch.object(api, "Presented", lambda _, *more: Presented(api.new_id(), *more))


@fault("erased-for-others", "Refused as erased is what is of somebody forgotten alone.", "contradicted")
def _erased_for_others() -> AbstractContextManager[Any]:
    ensure = MemoryKeyStore.ensure

    async def nobody_once_one_is(self: Any, subjects: Any) -> Any:
        found = await ensure(self, subjects)
        return dict.fromkeys(found, DESTROYED) if DESTROYED in self._rows.values() else found

    return patch.object(MemoryKeyStore, "ensure", nobody_once_one_is)


@fault("feed-believed", "Delivered by feed is what the feed has acknowledged.", "not told", "reordered")
def _feed_believed() -> AbstractContextManager[Any]:
    write = Feeds.write

    async def or_not(self: Any, notices: Any) -> None:
        with suppress(LogError):
            await write(self, notices)

    return patch.object(Feeds, "write", or_not)


@fault("feed-overtaken", "Of a feed nothing is written while what comes before it is under way.", "reordered")
def _feed_overtaken() -> AbstractContextManager[Any]:
    batch = memory_notifier._batch

    def of_what_is_due(waiting: Any, now: int, each: int) -> Any:
        due = [one for one in waiting if one.due_at <= now and one.leased_until <= now]
        return batch(due, now, each) if due else []

    return patch.object(memory_notifier, "_batch", of_what_is_due)
