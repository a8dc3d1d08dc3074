"""The tables of the schema ``intake``. The migrations beside them create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

SCHEMA = "intake"
metadata = MetaData(schema=SCHEMA)

admissions = Table(
    "admissions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("region", Text, nullable=False),
    Column("referral", Text, nullable=True),
    Column("partition", Integer, nullable=True),
    Column("offset", BigInteger, nullable=True),
    Column("admitted_at", DateTime(timezone=True), nullable=False),
    Column("times", Integer, nullable=False, server_default="1"),
    CheckConstraint('("partition" is null) = ("offset" is null)', name="admissions_position"),
    Index("admissions_admitted_at", "admitted_at"),
)
"""What was admitted from whom under which id. Without a position: reserved, and not yet known to be on the inbox."""

referrals = Table(
    "referrals",
    metadata,
    Column("referral", Text, primary_key=True),
    Column("subject", Text, nullable=False),
)
"""Whose referral is whose, by pseudonym: a note that comes later is sealed with that person's key."""

relayed = Table(
    "relayed",
    metadata,
    Column("region", Text, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
"""Up to which offset of the reference topic each region was put what is in force."""
