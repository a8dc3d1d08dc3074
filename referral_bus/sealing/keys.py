"""Data keys in PostgreSQL, schema ``sealing``: one row for each subject and section, with the wrapped key or its tombstone."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import LargeBinary, Text

CACHED_KEYS: Final = 50_000
CACHED_SECONDS: Final = 30.0
"""How long after its destruction by another process a key may still be used by one that doesn't read the ledger."""

_ENSURE = text(
    """
    with wanted as (
        select * from unnest(:subjects, :sections, :wrapped) as w(subject, section, wrapped_key)
    ), made as (
        insert into sealing.subject_keys (subject, section, wrapped_key, key_version)
        select w.subject, w.section,
               case when exists (
                   select from sealing.subject_keys t where t.subject = w.subject and t.destroyed_at is not null
               ) then null else w.wrapped_key end, :version
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
    bindparam("subjects", type_=ARRAY(Text)),
    bindparam("sections", type_=ARRAY(Text)),
    bindparam("wrapped", type_=ARRAY(LargeBinary)),
)
