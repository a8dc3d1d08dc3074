"""The schema files are what the world reads: they equal the models, their ids never change, and every version can read every other."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from referral_bus.contracts.message import Message
from referral_bus.wire.catalogue import MESSAGES
from referral_bus.wire.derive import avro_schema
from referral_bus.wire.schemas import SCHEMAS, RegisteredSchema, file_of, fingerprint, registered, write

REGISTERED = registered()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_a_model_and_its_schema_file_are_equal(message: type[Message]) -> None:
    assert json.loads((SCHEMAS / file_of(message)).read_text()) == avro_schema(message)


def test_every_schema_file_has_an_id_and_every_id_its_file() -> None:
    files = {str(path.relative_to(SCHEMAS)) for path in SCHEMAS.glob("*/*.avsc")}
    assert files == {schema.file for schema in REGISTERED}


def test_ids_are_dense_and_in_order_because_they_are_only_ever_appended() -> None:
    assert [schema.id for schema in REGISTERED] == list(range(1, len(REGISTERED) + 1))


@pytest.mark.parametrize("schema", REGISTERED, ids=lambda schema: f"{schema.id}-{schema.name}")
def test_a_schema_is_still_the_one_its_id_was_given_to(schema: RegisteredSchema) -> None:
    assert fingerprint(schema.parsed()) == schema.sha256


def test_every_version_reads_every_other_version_both_ways() -> None:
    by_name: dict[str, list[RegisteredSchema]] = {}
    for schema in REGISTERED:
        by_name.setdefault(schema.name, []).append(schema)
    for versions in by_name.values():
        for one, other in combinations(versions, 2):
            assert _compatible(one.text(), other.text()), f"{one.file} and {other.file}"


def test_the_compatibility_check_tells_a_breaking_change() -> None:
    old = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    added_without_default = {**old, "fields": [*old["fields"], {"name": "b", "type": "long"}]}
    added_with_default = {**old, "fields": [*old["fields"], {"name": "b", "type": "long", "default": 0}]}
    assert not _compatible(json.dumps(old), json.dumps(added_without_default))
    assert _compatible(json.dumps(old), json.dumps(added_with_default))


def test_writing_again_changes_nothing(tmp_path) -> None:
    for schema in REGISTERED:
        (tmp_path / schema.file).parent.mkdir(exist_ok=True)
        (tmp_path / schema.file).write_text(schema.text())
    (tmp_path / "ids.json").write_text((SCHEMAS / "ids.json").read_text())
    assert write(tmp_path) == []
    assert (tmp_path / "ids.json").read_text() == (SCHEMAS / "ids.json").read_text()


def test_a_changed_message_gets_the_next_id_and_its_former_schema_is_kept(tmp_path) -> None:
    write(tmp_path)
    ids = json.loads((tmp_path / "ids.json").read_text())
    tick = next(entry for entry in ids if entry["name"].endswith(".Tick"))
    former = json.loads((tmp_path / tick["file"]).read_text())
    former["fields"].pop()
    (tmp_path / tick["file"]).write_text(json.dumps(former))
    tick["sha256"] = fingerprint(former)
    (tmp_path / "ids.json").write_text(json.dumps(ids))

    (added,) = write(tmp_path)

    assert (added.id, added.version, added.file) == (len(ids) + 1, 2, "inbox/Tick.avsc")
    kept = registered(tmp_path)[tick["id"] - 1]
    assert kept.file == "inbox/Tick.v1.avsc"
    assert kept.parsed(tmp_path) == former


def _compatible(one: str, other: str) -> bool:
    first, second = parse(one), parse(other)
    return all(
        ReaderWriterCompatibilityChecker().get_compatibility(reader=reader, writer=writer).compatibility
        is SchemaCompatibilityType.compatible
        for reader, writer in ((first, second), (second, first))
    )
