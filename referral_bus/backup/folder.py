"""The folder of a backup.

manifest.json                   what is in it, with checksums; written last, so that half a backup is none
topics/<topic>/<number>.avro    the records of a partition, in the order of their offsets
<schema>.sql                    a schema of the database
forgotten.txt                   the pseudonyms of everybody whose keys were destroyed, one a line
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import fastavro
from fastavro.write import Writer
from pydantic import BaseModel, ConfigDict, ValidationError

from referral_bus.backup.errors import BackupError
from referral_bus.log.port import Partition, Record

_MANIFEST: Final = "manifest.json"
_FORGOTTEN: Final = "forgotten.txt"
_SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Record",
        "namespace": "org.refbus.backup",
        "fields": [
            {"name": "offset", "type": "long"},
            {"name": "timestamp", "type": "long"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [
                            {"name": "name", "type": "string"},
                            {"name": "value", "type": ["null", "bytes"]},
                        ],
                    },
                },
            },
        ],
    }
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Copied(_Model):
    """A partition: the offsets it had, of the first record that was kept and behind the last that was committed."""

    start: int
    end: int
    records: int = 0


class Manifest(_Model):
    """What a backup says of itself. ``topics``: partitions in order. ``replicas``: copies that the brokers had of each topic, which backups
    of before don't say. ``groups``: next offsets by group, topic and partition. ``rights``: statements that give what was given on the
    database, which is in no schema. ``files``: SHA-256 of each file."""

    format: Literal[1] = 1
    bus: str
    taken_at: int
    topics: dict[str, list[Copied]]
    replicas: dict[str, int] = {}
    groups: dict[str, dict[str, dict[int, int]]]
    rights: list[str] = []
    files: dict[str, str]


class Folder:
    """A folder that holds a backup or is to hold one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        """Raises BackupError where there is anything in it."""
        if self.path.exists() and any(self.path.iterdir()):
            raise BackupError(f"{self.path} is not empty: name a new folder for each backup")
        # Wrapped keys of persons are in it, and who was shown what.
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sql(self, schema: str) -> Path:
        return self.path / f"{schema}.sql"

    def writer(self, partition: Partition) -> RecordFile:
        path = self._records(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        return RecordFile(path)

    def records(self, partition: Partition) -> Iterator[Record]:
        """The records of a partition."""
        with self._records(partition).open("rb") as file:
            for row in fastavro.reader(file):
                found: Any = row
                headers = tuple((header["name"], header["value"]) for header in found["headers"])
                yield Record(
                    partition.topic,
                    partition.number,
                    found["offset"],
                    found["timestamp"],
                    found["key"],
                    found["value"],
                    headers,
                )

    def forget(self, subjects: list[str]) -> None:
        """Write down who is forgotten."""
        (self.path / _FORGOTTEN).write_text("".join(f"{one}\n" for one in subjects), encoding="ascii")

    def finish(self, manifest: Manifest) -> Manifest:
        """The backup counts from now on: all of it is on the disk."""
        sums = {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                sums[str(path.relative_to(self.path))] = _sha256(path)
        whole = manifest.model_copy(update={"files": sums})
        part = self.path / f"{_MANIFEST}.part"
        with part.open("w", encoding="utf-8") as out:
            out.write(whole.model_dump_json(indent=1))
            out.flush()
            os.fsync(out.fileno())
        part.replace(self.path / _MANIFEST)
        return whole

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def checked(self) -> Manifest:
        """What is in the backup, once every file is as it was written. Raises BackupError."""
        path = self.path / _MANIFEST
        if not path.exists():
            raise BackupError(f"{self.path} holds no backup, or one that was not finished")
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError:
            raise BackupError(f"{path} can't be read: it is damaged, or of another version") from None
        for name, sha256 in manifest.files.items():
            file = self.path / name
            if not file.exists() or _sha256(file) != sha256:
                raise BackupError(f"{file} is not what was written: restore from another copy of the backup")
        return manifest

    def _records(self, partition: Partition) -> Path:
        return self.path / "topics" / partition.topic / f"{partition.number}.avro"


class RecordFile:
    """A file of records that is being written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = Writer(self._file, _SCHEMA, codec="deflate")
        self.count = 0

    def add(self, record: Record) -> None:
        self.count += 1
        self._writer.write(
            {
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": record.key,
                "value": record.value,
                "headers": [{"name": name, "value": value} for name, value in record.headers],
            }
        )

    def close(self) -> None:
        self._writer.flush()
        self._file.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
