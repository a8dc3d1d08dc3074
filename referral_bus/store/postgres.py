"""Rows and positions in PostgreSQL: one transaction a batch, one statement a table.

A batch's rows go as one JSON document that PostgreSQL unfolds by the table's own row type: one parameter whatever the number
of rows and columns, parsed in C on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import ARRAY, Table, Text, any_, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.elements import TextClause

from referral_bus.contracts.message import ESCAPED_NUL
from referral_bus.log.port import Partition
from referral_bus.store.port import Claim, StoreError, StoreUnavailable, Superseded
from referral_bus.store.rows import Put, Row, Wanted, last_of_each, storable


class PostgresViews:
    """A :class:`~referral_bus.store.port.ViewStore` and :class:`~referral_bus.store.rows.Rows` of these tables; the engine is
    the caller's to dispose of. ``positions`` is as :func:`referral_bus.store.tables.positions` makes it."""

    def __init__(self, engine: AsyncEngine, positions: Table, tables: Iterable[Table]) -> None:
        self._engine = engine
        self._positions = positions
        self._tables = {table.name: table for table in tables}
        self._keys = {
            name: tuple(column.name for column in table.primary_key) for name, table in self._tables.items()
        }
        self._upserts = {name: _upsert(table) for name, table in self._tables.items()}

    async def claim(self, partition: Partition) -> Claim:
        at = self._positions.c
        statement = insert(self._positions).values(
            topic=partition.topic, partition=partition.number, epoch=1, next=0
        )
        claimed = statement.on_conflict_do_update(
            index_elements=["topic", "partition"], set_={"epoch": at.epoch + 1}
        ).returning(at.epoch, at.next)
        with _told(f"claiming {partition.topic}/{partition.number}"):
            async with self._engine.begin() as connection:
                return Claim(*(await connection.execute(claimed)).one())

    async def apply(
        self, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Put]
    ) -> None:
        at = self._positions.c
        move = (
            update(self._positions)
            .where(
                at.topic == partition.topic,
                at.partition == partition.number,
                at.epoch == epoch,
                at.next == start,
            )
            .values(next=end)
        )
        documents = [
            (self._upserts[table], {"rows": _document(rows)})
            for table, rows in last_of_each(changes, self._keys).items()
        ]
        with _told(f"writing {partition.topic}/{partition.number} from offset {start}"):
            async with self._engine.begin() as connection:
                if (await connection.execute(move)).rowcount != 1:
                    raise Superseded(
                        f"{partition.topic}/{partition.number} has another owner or position: claim it anew"
                    )
                for statement, parameters in documents:
                    await connection.execute(statement, parameters)

    async def rows(self, wanted: Wanted) -> list[tuple[str, Row]]:
        found: list[tuple[str, Row]] = []
        with _told(f"reading {', '.join(sorted({table for table, _ in wanted}))}"):
            async with self._engine.connect() as connection:
                for (name, column), values in wanted.items():
                    table = self._tables[name]
                    any_of = any_(bindparam("values", sorted(values), type_=ARRAY(Text)))
                    result = await connection.execute(select(table).where(table.c[column] == any_of))
                    names = tuple(result.keys())
                    found.extend((name, dict(zip(names, row, strict=True))) for row in result)
        return found

    async def close(self) -> None:
        """The engine stays open: whoever made it disposes of it."""


def _upsert(table: Table) -> TextClause:
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    values = [column.name for column in table.columns if not column.primary_key]
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in values)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    # The names are the schema's own; what comes from outside is in the parameter.
    return text(
        f"insert into {table.fullname} ({names}) select {names} "  # noqa: S608
        f"from json_populate_recordset(null::{table.fullname}, cast(:rows as json)) "
        f"on conflict ({key}) do update set {changes}"
    )


def _document(rows: list[Row]) -> str:
    document = json.dumps(rows, default=_bytea)
    # Found in C: hardly any batch has one, and none is to be walked through for it.
    return document if ESCAPED_NUL not in document else json.dumps(storable(rows), default=_bytea)


def _bytea(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"a row holds a {type(value).__name__}, which has no column type")


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """The driver's errors as the port's. Their text stays out: it can quote a row."""
    try:
        yield
    except PoolTimeout:
        raise StoreUnavailable(f"{doing}: no database connection came free in time") from None
    except DBAPIError as error:
        kind = type(error.orig).__name__
        state = getattr(error.orig, "sqlstate", None)
        if state is None or state[:2] in ("08", "40", "53", "55", "57"):
            raise StoreUnavailable(f"{doing}: the database did not do it now ({kind} {state})") from None
        raise StoreError(
            f"{doing}: the database refused it ({kind} {state}); has its schema been changed?"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(f"{doing}: the database can't be reached ({type(error).__name__})") from None
