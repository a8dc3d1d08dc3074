"""The port to SQL state that follows the ledger: rows and position change in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from referral_bus.log.port import Partition

Change = TypeVar("Change", contravariant=True)


class StoreError(Exception):
    """The store did not do what was asked. The message says what, where and what to do next."""


class StoreUnavailable(StoreError):
    """The database did not answer in time; trying again later may help."""


class Superseded(StoreError):
    """Another owner has claimed the partition since: this one must stop writing and forget its position."""


class Claim(NamedTuple):
    """The right to write a partition's rows. Each claim has a higher ``epoch`` than the one before; ``position`` is the offset
    of the first ledger record that the rows do not reflect yet."""

    epoch: int
    position: int


class ViewStore(Protocol[Change]):
    """Rows made from ledger partitions. What a change is lies between the projection and its store."""

    async def claim(self, partition: Partition) -> Claim:
        """Become the only writer of the partition's rows. Raises :class:`StoreUnavailable`."""

    async def apply(
        self, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Change]
    ) -> None:
        """Make the changes and move the position from ``start`` to ``end``, in one transaction.

        Raises :class:`Superseded`, having changed nothing, unless ``epoch`` is the latest claim's and ``start`` the stored
        position. Any other :class:`StoreError` leaves the outcome unknown: the caller claims anew and goes on from there.
        """

    async def close(self) -> None: ...


__all__ = ["Change", "Claim", "StoreError", "StoreUnavailable", "Superseded", "ViewStore"]
