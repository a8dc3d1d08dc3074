"""The schema files and their ids: ``schemas/avro/<folder>/<Message>.avsc`` and the append-only ``schemas/avro/ids.json``.

A Confluent-framed value names its writer schema by one of these ids, for ever; so an id, once given, never changes its schema. When a
message changes, its former file is kept as ``<Message>.v<version>.avsc`` and the new one gets the next id.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from referral_bus.contracts.message import Message
from referral_bus.wire.catalogue import MESSAGES
from referral_bus.wire.derive import avro_schema

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "avro"
"""Beside the package, in a checkout as in an installation."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One version of one message's schema. ``name`` is the Avro full name, ``file`` is relative to ``schemas/avro``."""

    id: int
    name: str
    version: int
    file: str
    sha256: str

    def text(self, folder: Path = SCHEMAS) -> str:
        return (folder / self.file).read_text(encoding="utf-8")

    def parsed(self, folder: Path = SCHEMAS) -> Any:
        return json.loads(self.text(folder))


def registered(folder: Path = SCHEMAS) -> list[RegisteredSchema]:
    """Every schema that ever had an id, in the order of the ids."""
    entries = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    return [RegisteredSchema(**entry) for entry in entries]


def fingerprint(schema: Any) -> str:
    """SHA-256 over the schema as canonical JSON. White space and ``doc`` do not count: they change no byte of a value."""
    return hashlib.sha256(
        json.dumps(_undocumented(schema), sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def _undocumented(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _undocumented(value) for key, value in schema.items() if key != "doc"}
    if isinstance(schema, list):
        return [_undocumented(branch) for branch in schema]
    return schema


def file_of(message: type[Message]) -> str:
    """Where a message's current schema stands, relative to ``schemas/avro``."""
    return f"{message.folder}/{message.__name__}.avsc"


def write(folder: Path = SCHEMAS) -> list[RegisteredSchema]:
    """Write the schema of each new or changed message and give it the next id; returns what was added."""
    ids = folder / "ids.json"
    known = registered(folder) if ids.exists() else []
    latest = {schema.name: schema for schema in known}
    added: list[RegisteredSchema] = []
    for message in MESSAGES:
        schema, name, file = avro_schema(message), message.schema_name(), file_of(message)
        former = latest.get(name)
        text = json.dumps(schema, indent=2) + "\n"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if former is not None and former.sha256 == fingerprint(schema):
            (folder / file).write_text(text, encoding="utf-8")
            continue
        if former is not None:
            kept = f"{message.folder}/{message.__name__}.v{former.version}.avsc"
            (folder / former.file).rename(folder / kept)
            known[former.id - 1] = RegisteredSchema(former.id, name, former.version, kept, former.sha256)
        version = former.version + 1 if former is not None else 1
        (folder / file).write_text(text, encoding="utf-8")
        entry = RegisteredSchema(len(known) + 1, name, version, file, fingerprint(schema))
        known.append(entry)
        added.append(entry)
    rows = ",\n".join(
        "  "
        + json.dumps({"id": s.id, "name": s.name, "version": s.version, "file": s.file, "sha256": s.sha256})
        for s in known
    )
    ids.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    return added
