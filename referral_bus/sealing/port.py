"""The port to the data keys, and what a caller gets: a key, or the certainty that it was destroyed.

Two implementations stand behind it, :class:`~referral_bus.sealing.keys.KeyStore` on PostgreSQL and
:class:`~referral_bus.sealing.memory.MemoryKeyStore` for tests; one contract suite holds both to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

Section = Literal["facts", "identity"]
SECTIONS: Final[tuple[Section, ...]] = ("facts", "identity")


class Destroyed(Enum):
    """The type of :data:`DESTROYED`."""

    DESTROYED = "destroyed"


DESTROYED: Final = Destroyed.DESTROYED
"""Stands where a key was: it is destroyed, for ever."""


class SubjectKeys(NamedTuple):
    """The two data keys of a subject."""

    facts: bytes
    identity: bytes

    def __repr__(self) -> str:
        return "SubjectKeys(...)"


class KeyStoreError(Exception):
    """The key store can't do what was asked. The message says why and what to do; it holds no key and no pseudonym."""


class KeyStoreUnavailable(KeyStoreError):
    """The key store does not answer now; trying again later may help."""


class KeyStoreBusy(KeyStoreUnavailable):
    """It answers that it did not do this now: somebody has locked what was asked for, or it took too long."""


class Keys(Protocol):
    """Data keys by subject. A destroyed subject stays destroyed: no call brings its keys back or makes new ones.

    Every call that waits raises KeyStoreUnavailable where trying again may help, and KeyStoreError where it does not: for a
    section whose wrapping key this process was not given, or a key that was wrapped under another one.
    """

    async def ensure(self, subjects: Iterable[str]) -> dict[str, SubjectKeys | Destroyed]:
        """The keys of all subjects, made for those that have none. Needs both wrapping keys."""

    async def fetch(self, subjects: Iterable[str], section: Section) -> dict[str, bytes | Destroyed]:
        """The keys of one section. A subject the store never heard of is left out."""

    async def destroy(self, subjects: Iterable[str]) -> None:
        """Destroy both keys of each subject, known or not, and remember that."""

    def forget(self, subject: str) -> None:
        """Drop what this process remembers of a subject: called on each :class:`KeyDestroyed` a service reads."""


WrappingKeys = Mapping[Section, bytes]
"""The wrapping keys a process was given: one section's or both."""

__all__ = [
    "DESTROYED",
    "SECTIONS",
    "Destroyed",
    "KeyStoreBusy",
    "KeyStoreError",
    "KeyStoreUnavailable",
    "Keys",
    "Section",
    "SubjectKeys",
    "WrappingKeys",
]
