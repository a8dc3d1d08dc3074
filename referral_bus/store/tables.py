"""The table every view schema has: how far its rows reflect each partition, and who may write them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

POSITIONS = "positions"


def position_columns() -> list[Column[Any]]:
    """The columns of the positions table, for its definition and its migration alike."""
    return [
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("next", BigInteger, nullable=False),
    ]


def positions(metadata: MetaData) -> Table:
    """Position and owner's epoch of each partition, in the metadata's schema."""
    return Table(POSITIONS, metadata, *position_columns())
