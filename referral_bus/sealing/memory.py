"""Data keys in memory, under the same contract as PostgreSQL; several stores can share one :class:`KeyTable`, as processes do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from referral_bus.sealing.port import (
    DESTROYED,
    SECTIONS,
    Destroyed,
    KeyStoreError,
    KeyStoreUnavailable,
    Section,
    SubjectKeys,
)
from referral_bus.sealing.secrets import new_key


@dataclass(slots=True)
class KeyTable:
    """What the stores of one bus share: the keys of each subject, or that they are destroyed."""

    rows: dict[str, SubjectKeys | Destroyed] = field(default_factory=dict)


class MemoryKeyStore:
    """A :class:`~referral_bus.sealing.port.Keys`. ``sections`` are those whose wrapping key it acts as if given."""

    def __init__(self, table: KeyTable | None = None, sections: Collection[Section] = SECTIONS) -> None:
        self.away = False
        """While true, nothing is done and every call raises KeyStoreUnavailable."""
        self._rows = (KeyTable() if table is None else table).rows
        self._sections = frozenset(sections)

    async def ensure(self, subjects: Iterable[str]) -> dict[str, SubjectKeys | Destroyed]:
        self._may(*SECTIONS)
        return {
            subject: self._rows.setdefault(subject, SubjectKeys(new_key(), new_key())) for subject in subjects
        }

    async def fetch(self, subjects: Iterable[str], section: Section) -> dict[str, bytes | Destroyed]:
        self._may(section)
        known = {subject: self._rows[subject] for subject in subjects if subject in self._rows}
        return {
            subject: DESTROYED if isinstance(keys, Destroyed) else getattr(keys, section)
            for subject, keys in known.items()
        }

    async def destroy(self, subjects: Iterable[str]) -> None:
        self._may()
        self._rows.update((subject, DESTROYED) for subject in subjects)

    def forget(self, subject: str) -> None:
        """There is nothing to drop: every call looks into the table."""

    def _may(self, *sections: Section) -> None:
        if self.away:
            raise KeyStoreUnavailable("the key store is away: try again later")
        for section in sections:
            if section not in self._sections:
                raise KeyStoreError(
                    f"this process was not given the wrapping key of section {section!r}: leave that to one with the master secret"
                )
