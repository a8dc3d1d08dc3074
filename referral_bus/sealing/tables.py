"""The tables of the schema ``sealing``. The migrations beside them create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
)

SCHEMA = "sealing"
metadata = MetaData(schema=SCHEMA)

subject_keys = Table(
    "subject_keys",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("section", Text, primary_key=True),
    Column("wrapped_key", LargeBinary, nullable=True),
    Column("key_version", SmallInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("destroyed_at", DateTime(timezone=True), nullable=True),
    CheckConstraint("section in ('facts', 'identity')", name="subject_keys_section"),
    CheckConstraint(
        "(wrapped_key is null) = (destroyed_at is not null)", name="subject_keys_key_or_tombstone"
    ),
)

replayed = Table(
    "replayed",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
