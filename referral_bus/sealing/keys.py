"""Data keys in PostgreSQL, schema ``sealing``: one row for each subject and section, with the wrapped key or its tombstone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import LargeBinary, Text

from referral_bus.sealing.cache import KeyCache
from referral_bus.sealing.port import (
    DESTROYED,
    SECTIONS,
    Destroyed,
    KeyStoreBusy,
    KeyStoreError,
    KeyStoreUnavailable,
    Section,
    SubjectKeys,
    WrappingKeys,
)
from referral_bus.sealing.wrapping import WRAPPING_VERSION, Wrapper

CACHED_KEYS: Final = 50_000
CACHED_SECONDS: Final = 30.0
"""How long after its destruction by another process a key may still be used by one that doesn't read the ledger."""

_MOST_ROUNDS: Final = 5
"""Of :meth:`KeyStore.ensure`: what another process inserts meanwhile is seen in the next round."""
_CANCELLED: Final = "57014"
"""PostgreSQL's code of a statement that took too long."""

_SUBJECTS = bindparam("subjects", type_=ARRAY(Text))

# A row that is new beside its sibling's tombstone is a tombstone too: nobody makes a key for half a person.
_ENSURE = text(
    """
    with wanted as (
        select w.*, exists (
            select from sealing.subject_keys t where t.subject = w.subject and t.destroyed_at is not null
        ) as destroyed
        from unnest(:subjects, :sections, :wrapped) as w(subject, section, wrapped_key)
    ), made as (
        insert into sealing.subject_keys (subject, section, wrapped_key, key_version, destroyed_at)
        select w.subject, w.section,
               case when w.destroyed then null else w.wrapped_key end,
               :version,
               case when w.destroyed then now() end
        from wanted w
        where not exists (
            select from sealing.subject_keys k where k.subject = w.subject and k.section = w.section
        )
        order by w.subject, w.section
        on conflict (subject, section) do nothing
        returning subject, section, wrapped_key
    )
    select subject, section, wrapped_key from made
    union all
    select k.subject, k.section, k.wrapped_key
    from sealing.subject_keys k join wanted w on w.subject = k.subject and w.section = k.section
    """
).bindparams(
    _SUBJECTS, bindparam("sections", type_=ARRAY(Text)), bindparam("wrapped", type_=ARRAY(LargeBinary))
)

_FETCH = text(
    "select subject, wrapped_key from sealing.subject_keys where section = :section and subject = any(:subjects)"
).bindparams(_SUBJECTS)

# Ordered, so that two destructions of the same people wait for each other instead of locking each other out.
DESTROY = text(
    """
    insert into sealing.subject_keys (subject, section, wrapped_key, key_version, destroyed_at)
    select s.subject, w.section, null, :version, now()
    from unnest(:subjects) as s(subject) cross join (values ('facts'), ('identity')) as w(section)
    order by s.subject, w.section
    on conflict (subject, section) do update
    set wrapped_key = null, destroyed_at = coalesce(sealing.subject_keys.destroyed_at, excluded.destroyed_at)
    """
).bindparams(_SUBJECTS, version=WRAPPING_VERSION)
"""Destroys both keys of each of ``subjects``, known or not."""


class KeyStore:
    """The keys of one bus. ``wrapping_keys`` are those the process was given: matching has that of the facts alone."""

    def __init__(
        self,
        engine: AsyncEngine,
        wrapping_keys: WrappingKeys,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._wrapper = Wrapper(wrapping_keys)
        self._cache = KeyCache(CACHED_KEYS, CACHED_SECONDS, monotonic)

    async def ensure(self, subjects: Iterable[str]) -> dict[str, SubjectKeys | Destroyed]:
        """The keys of all subjects, made for those that have none. Raises KeyStoreError where the process lacks a wrapping key."""
        self._wrapper.require(*SECTIONS)
        found: dict[str, SubjectKeys | Destroyed] = {}
        missing: list[str] = []
        for subject in dict.fromkeys(subjects):
            facts, identity = self._cache.get(subject, "facts"), self._cache.get(subject, "identity")
            if facts is None or identity is None:
                missing.append(subject)
            else:
                found[subject] = _pair(facts, identity)
        for _ in range(_MOST_ROUNDS):
            if missing:
                found |= await self._make(missing)
                missing = [subject for subject in missing if subject not in found]
        if not missing:
            return found
        raise KeyStoreUnavailable("the key store did not settle on a key in several rounds; try again")

    async def fetch(self, subjects: Iterable[str], section: Section) -> dict[str, bytes | Destroyed]:
        """The keys of one section. A subject the store never heard of is left out."""
        self._wrapper.require(section)
        found: dict[str, bytes | Destroyed] = {}
        missing: list[str] = []
        for subject in subjects:
            key = self._cache.get(subject, section)
            if key is None:
                missing.append(subject)
            else:
                found[subject] = key
        if missing:
            forgotten = self._cache.forgotten
            rows = await self._rows(_FETCH, {"section": section, "subjects": missing}, "fetch keys")
            for subject, wrapped in rows:
                found[subject] = self._taken(subject, section, wrapped, forgotten)
        return found

    async def destroy(self, subjects: Iterable[str]) -> None:
        """Destroy both keys of each subject, known or not, and remember that."""
        gone = sorted(set(subjects))
        if not gone:
            return
        try:
            with told("destroy keys"):
                async with self._engine.connect() as connection:
                    await connection.execute(DESTROY, {"subjects": gone})
        finally:
            # Also where the answer was lost: the keys may be destroyed, so the database is to be asked again.
            for subject in gone:
                self.forget(subject)

    def forget(self, subject: str) -> None:
        """Drop what this process remembers of a subject: called on each KeyDestroyed a service reads."""
        self._cache.forget(subject)

    async def _make(self, subjects: list[str]) -> dict[str, SubjectKeys | Destroyed]:
        """One round: those that have both rows now, made by us or found."""
        forgotten = self._cache.forgotten
        wanted = [(subject, section) for subject in subjects for section in SECTIONS]
        rows = await self._rows(
            _ENSURE,
            {
                "subjects": [subject for subject, _ in wanted],
                "sections": [section for _, section in wanted],
                "wrapped": [self._wrapper.new_key(subject, section)[1] for subject, section in wanted],
                "version": WRAPPING_VERSION,
            },
            "make keys",
        )
        keys: dict[str, dict[Section, bytes | Destroyed]] = {}
        for subject, section, wrapped in rows:
            keys.setdefault(subject, {})[section] = self._taken(subject, section, wrapped, forgotten)
        return {
            subject: _pair(pair["facts"], pair["identity"])
            for subject, pair in keys.items()
            if len(pair) == 2
        }

    def _taken(
        self, subject: str, section: Section, wrapped: bytes | None, forgotten: int
    ) -> bytes | Destroyed:
        key = DESTROYED if wrapped is None else self._wrapper.unwrap(subject, section, bytes(wrapped))
        # While somebody was forgotten an answer was under way that may be older than that.
        if key is DESTROYED or forgotten == self._cache.forgotten:
            self._cache.put(subject, section, key)
        return key

    async def _rows(self, statement: Any, parameters: dict[str, Any], doing: str) -> list[Any]:
        with told(doing):
            async with self._engine.connect() as connection:
                return list((await connection.execute(statement, parameters)).all())


def _pair(facts: bytes | Destroyed, identity: bytes | Destroyed) -> SubjectKeys | Destroyed:
    if isinstance(facts, Destroyed) or isinstance(identity, Destroyed):
        return DESTROYED
    return SubjectKeys(facts, identity)


@contextmanager
def told(doing: str) -> Iterator[None]:
    """The driver's errors as the port's; their text stays out, for it can quote a row."""
    try:
        yield
    except PoolTimeout:
        raise KeyStoreUnavailable(f"{doing}: no database connection came free in time; try again") from None
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        kind = type(error.orig).__name__
        if state is None or state[:2] in ("08", "40", "53", "55", "57"):
            busy = state is not None and (state[:2] in ("40", "55") or state == _CANCELLED)
            raise (KeyStoreBusy if busy else KeyStoreUnavailable)(
                f"{doing}: the database did not do it now ({kind} {state}); try again"
            ) from None
        raise KeyStoreError(
            f"{doing}: the database refused it ({kind} {state}); was the schema sealing brought up to date?"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        raise KeyStoreUnavailable(
            f"{doing}: the database can't be reached ({type(error).__name__}); try again"
        ) from None
