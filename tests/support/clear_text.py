"""Looks for clear text wherever a bus leaves anything: topics, tables, files on disk, metrics."""

from __future__ import annotations

import base64
import binascii
import json
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import BaseModel
from sqlalchemy import text

from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from tests.support.whole_bus import WholeBus

_WAIT_MS: Final = 2_000
_ANSWER_MS: Final = 20
_BLOCK: Final = 16_777_216
_SHORTEST: Final = 8
"""Bytes of a needle below which it would be found by chance."""


def needles(clear: str) -> dict[str, bytes]:
    """What the text looks like in each encoding it may rest in. Base64 in all three positions it can have in a longer text."""
    data = clear.encode()
    found = {
        "UTF-8": data,
        "UTF-16 little-endian": clear.encode("utf-16-le"),
        "UTF-16 big-endian": clear.encode("utf-16-be"),
        "JSON escapes": json.dumps(clear)[1:-1].encode(),
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "lower case": clear.lower().encode(),
        "upper case": clear.upper().encode(),
    }
    for before in range(3):
        start, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            found[f"{name} at {before}"] = encode(b"\0" * before + data)[start:end]
    return {name: needle for name, needle in found.items() if len(needle) >= _SHORTEST}


class Search:
    """Searches for marks (clear text by what it is of). ``found`` says where; ``searched`` counts bytes by kind of place."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        self._needles: dict[bytes, str] = {}
        for field, clear in marks.items():
            for name, needle in needles(clear).items():
                self._needles.setdefault(needle, f"{field} as {name}")
        self.found: list[str] = []
        self.searched: Counter[str] = Counter()

    def look(self, kind: str, place: str, data: bytes | mmap.mmap) -> None:
        self.searched[kind] += len(data)
        for needle, what in self._needles.items():
            if data.find(needle) >= 0:
                self.found.append(f"{kind} {place}: {what}")


async def everywhere(whole: WholeBus, marks: Mapping[str, str]) -> Search:
    """Search all that a bus has left so far."""
    search = Search(marks)
    await look_at_topics(search, whole)
    await look_at_tables(search, whole)
    look_at_files(search, whole.home)
    await look_at_metrics(search, whole)
    return search


async def look_at_topics(search: Search, whole: WholeBus) -> None:
    """Every record of every topic, also what was never committed: key, headers and value, and what stands in the value once it is
    decoded and its parts in base64 are opened."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=whole.bus.addresses.kafka,
        isolation_level="read_uncommitted",
        enable_auto_commit=False,
        # A new topic is read once the broker has answered for the one before, of which all is read and nothing comes any more.
        fetch_max_wait_ms=_ANSWER_MS,
    )
    administrator = AIOKafkaAdminClient(bootstrap_servers=whole.bus.addresses.kafka)
    await administrator.start()
    try:
        described = await administrator.describe_topics()
    finally:
        await administrator.close()
    await consumer.start()
    try:
        for topic in described:
            partitions = [TopicPartition(topic["topic"], one["partition"]) for one in topic["partitions"]]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            while any([await consumer.position(one) < ends[one] for one in partitions]):
                for records in (await consumer.getmany(timeout_ms=_WAIT_MS, max_records=1_000)).values():
                    for record in records:
                        place = f"{record.topic}/{record.partition}/{record.offset}"
                        for part in _parts(record, whole.codec):
                            search.look("topic", place, part)
    finally:
        await consumer.stop()


def _parts(record: Any, codec: Codec) -> Iterator[bytes]:
    if record.key is not None:
        yield record.key
    for name, header in record.headers:
        yield name.encode()
        yield header
    if record.value is not None:
        yield record.value
        yield from _inside(record.value, codec)


def _inside(value: bytes, codec: Codec) -> Iterator[bytes]:
    """The byte fields of a framed Avro message, on and on, and the parts of what looks like a JWE, decoded."""
    for part in value.split(b".") if value.count(b".") == 4 else ():
        try:
            yield base64.urlsafe_b64decode(part + b"==")
        except binascii.Error:
            continue
    for decode in (codec.decode, codec.decode_entry):
        try:
            decoded: Any = decode(value)
        except WireError:
            continue
        for message in (decoded,) if isinstance(decoded, BaseModel) else (decoded.meta, decoded.event):
            yield message.model_dump_json().encode()
            for field in _bytes_of(message):
                yield field
                yield from _inside(field, codec)


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _bytes_of(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from _bytes_of(one)


async def look_at_tables(search: Search, whole: WholeBus) -> None:
    """Every row of every table of every schema: as text, and columns of bytes as they are. What is in memory is written to disk."""
    engine = new_engine(whole.bus.addresses.database, pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            tables = await connection.execute(
                text(
                    "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
                    " and table_schema <> 'information_schema' order by 1, 2"
                )
            )
            for schema, table in tables.all():
                name = f'"{schema}"."{table}"'
                for row in (await connection.execute(text(f"select t::text from {name} t"))).scalars():
                    search.look("table", name, row.encode())
                columns = await connection.execute(
                    text(
                        "select column_name from information_schema.columns"
                        " where (table_schema, table_name, data_type) = (:schema, :table, 'bytea')"
                    ),
                    {"schema": schema, "table": table},
                )
                for column in columns.scalars().all():
                    query = text(f'select "{column}" from {name} where "{column}" is not null')
                    for value in (await connection.execute(query)).scalars():
                        search.look("table", f"{name}.{column}", bytes(value))
            await connection.execute(text("checkpoint"))
    finally:
        await engine.dispose()


def look_at_files(search: Search, home: Path) -> None:
    """Every file below a home, whatever it is of: the broker's and the database's data, logs, snapshots, keys."""
    for folder, _, names in os.walk(home):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                _look_at_file(search, home, path)


def _look_at_file(search: Search, home: Path, path: Path) -> None:
    kind = f"file of {path.relative_to(home).parts[0]}"
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            for start, end in _written(file.fileno(), size):
                # Blocks overlap by what a needle may be long.
                for block in range(start, end, _BLOCK):
                    search.look(
                        kind, str(path.relative_to(home)), content[block : min(end, block + _BLOCK + 4_096)]
                    )


def _written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a file that were written: the broker's index files are mostly holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
        at = end


async def look_at_metrics(search: Search, whole: WholeBus) -> None:
    """What each process says about itself."""
    for name, address in whole.bus.addresses.operations.items():
        for page in ("metrics", "readyz", "livez"):
            response = await whole.http.get(f"{address}/{page}")
            search.look("metrics", f"{name}/{page}", response.content)
