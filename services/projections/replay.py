"""Reading the ledger from its beginning into a store nobody else writes: what a rebuild and a check are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self

from referral_bus.log.port import Log, LogError, Partition, Reader
from referral_bus.store.port import Claim, ViewStore
from referral_bus.store.rows import Put
from services.projections.fold import Fold

BATCH: Final = 2_000
_READ_SECONDS: Final = 2.0
_SILENT_READS: Final = 5
"""After so many reads that brought nothing though something is there, the broker is taken to be away."""

Told = Callable[[Partition, int], None]
"""Told how far a partition has been folded: the offset of the first record that has not."""


Progress = Callable[[int, int], None]
"""Told how many offsets of how many are folded."""


class Replay:
    """Folds partitions of one topic into a store, each as far as it is told. Close it."""

    def __init__(self, store: ViewStore[Put], fold: Fold, readers: Mapping[Partition, Reader]) -> None:
        self._store = store
        self._fold = fold
        self._readers = dict(readers)
        self._claims: dict[Partition, Claim] = {}
        self._read_through: dict[Partition, int] = {}

    @classmethod
    async def open(cls, log: Log, partitions: Iterable[Partition], store: ViewStore[Put], fold: Fold) -> Self:
        """Claim these partitions in the store. Raises LogError and StoreError."""
        replay = cls(store, fold, {})
        try:
            for partition in partitions:
                replay._readers[partition] = await log.reader(partition)
                replay._claims[partition] = await store.claim(partition)
        except BaseException:
            await replay.close()
            raise
        return replay

    async def ends(self) -> dict[Partition, int]:
        """Where each partition ends now."""
        return {partition: await reader.end() for partition, reader in self._readers.items()}

    def positions(self) -> dict[Partition, int]:
        """The offset of the first record of each partition that is not folded; 0 where none is."""
        return {partition: claim.position for partition, claim in self._claims.items()}

    async def through(self, ends: Mapping[Partition, int], told: Told | None = None) -> None:
        """Fold every record below these offsets. Raises Damaged, StoreError, and LogError where the log gives nothing."""
        for partition, end in ends.items():
            await self._partition_through(partition, end, told)

    async def _partition_through(self, partition: Partition, end: int, told: Told | None) -> None:
        reader, silent = self._readers[partition], 0
        at = max(self._claims[partition].position, self._read_through.get(partition, 0))
        while at < end:
            records = await reader.read(at, BATCH, _READ_SECONDS)
            # What lies at or behind the end is for the next time: it must not be read past.
            within = [record for record in records if record.offset < end]
            behind = len(within) < len(records)
            if within:
                epoch, start = self._claims[partition]
                following = within[-1].offset + 1
                changes = await self._fold.project(partition, within)
                await self._store.apply(partition, epoch, start, following, changes)
                self._claims[partition] = Claim(epoch, following)
            moved_to = end if behind else reader.position()
            silent = silent + 1 if moved_to <= at else 0
            if silent >= _SILENT_READS:
                raise LogError(
                    f"{partition.topic}/{partition.number} gave nothing from offset {at} on: is the broker up?"
                )
            at = max(at, moved_to)
            self._read_through[partition] = at
            if told is not None:
                told(partition, min(at, end))

    async def close(self) -> None:
        for reader in self._readers.values():
            await reader.close()
