"""Ledger records folded into rows: decoded, held against the region's sequence and hash chain, and given to each view in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    CapacityLent,
    CapacityRequested,
    Entry,
    ReferralOpened,
)
from referral_bus.log.port import Partition, Record
from referral_bus.store.rows import Put, Rows
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from services.projections.known import Damaged, Known
from services.projections.views import VIEWS_OF
from services.projections.views.need import Need


class Fold:
    """Folds batches of one partition at a time. Holds nothing between them: what it goes on from it reads from ``rows``."""

    def __init__(self, rows: Rows, codec: Codec) -> None:
        self._rows = rows
        self._codec = codec

    async def project(self, partition: Partition, records: Sequence[Record]) -> list[Put]:
        """The rows as they are after the records. Raises Damaged where a record is unreadable, of a kind not known here, or not what
        comes next in its region; StoreError where rows can't be read."""
        entries = [self._entry(record) for record in records]
        known = await self._known(entries)
        for record, entry in zip(records, entries, strict=True):
            try:
                made = [_chained(partition, record, entry, known)]
                for view in VIEWS_OF[type(entry.event)]:
                    made.extend(view.changes(entry, known))
            except Damaged as error:
                raise Damaged(
                    f"{_where(record)} ({type(entry.event).__name__}, sequence {entry.meta.sequence} of region "
                    f"{entry.meta.region}) can't be reflected: {error}. Run 'refbus verify'"
                ) from error
            for put in made:
                known.put(put)
        return known.changes()

    def _entry(self, record: Record) -> Entry:
        try:
            entry = self._codec.decode_entry(record.value)
        except WireError as error:
            raise Damaged(
                f"{_where(record)} can't be read: {error}. The views stop here: is a newer version of matching running than of "
                "projections?"
            ) from error
        if type(entry.event) not in VIEWS_OF:
            raise Damaged(
                f"{_where(record)} is a {type(entry.event).__name__}, which no view knows: upgrade projections first"
            )
        return entry

    async def _known(self, entries: Sequence[Entry]) -> Known:
        """The rows the entries go on from: one query a table and column, and one more for what only those rows could name."""
        known = Known()
        needed = {Need("regions", "region", entry.meta.region) for entry in entries}
        for entry in entries:
            for view in VIEWS_OF[type(entry.event)]:
                needed.update(view.needs(entry))
        await self._take(known, needed - _made_within(entries))
        further = {
            need
            for entry in entries
            for view in VIEWS_OF[type(entry.event)]
            if view.further is not None
            for need in view.further(entry, known)
        }
        await self._take(known, further - needed)
        return known

    async def _take(self, known: Known, needed: Collection[Need]) -> None:
        wanted: dict[tuple[str, str], list[str]] = {}
        for need in needed:
            wanted.setdefault((need.table, need.column), []).append(need.value)
        if wanted:
            for table, row in await self._rows.rows(wanted):
                known.take(table, row)


def _made_within(entries: Iterable[Entry]) -> set[Need]:
    """What the batch itself makes need not be looked for, nor what can only follow from that."""
    made: set[Need] = set()
    for entry in entries:
        event = entry.event
        if isinstance(event, ReferralOpened):
            made.add(Need("referrals", "referral", event.referral))
            made.add(Need("waits", "referral", event.referral))
        elif isinstance(event, CapacityRequested):
            made.add(Need("tasks", "task", event.task))
        elif isinstance(event, CapacityLent):
            made.add(Need("lent", "task", event.task))
    return made


def _chained(partition: Partition, record: Record, entry: Entry, known: Known) -> Put:
    """The region's row after the event. Raises Damaged unless it is the next link of the region's chain, in the region's partition."""
    meta = entry.meta
    former = known.row("regions", meta.region)
    sequence, previous = (0, GENESIS_HASH) if former is None else (former["sequence"], former["hash"])
    if former is not None and former["partition"] != partition.number:
        raise Damaged(f"the region stands in partition {former['partition']}")
    if meta.sequence != sequence + 1:
        raise Damaged(f"the sequence before it is {sequence}, so events are missing or repeated")
    if meta.prev_hash != previous:
        raise Damaged("the hash it carries is not that of the event before it")
    return Put(
        "regions",
        {
            "region": meta.region,
            "partition": partition.number,
            "sequence": meta.sequence,
            "hash": sha256(record.value or b"").digest(),
            "decided_through": meta.decided_through,
            "at": meta.now,
        },
    )


def _where(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
