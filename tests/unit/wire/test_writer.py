"""What is written straight from the models is what fastavro writes, byte for byte: the hash chain is made of it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.wire.catalogue import BY_NAME
from referral_bus.wire.errors import WireError
from referral_bus.wire.schemas import registered
from referral_bus.wire.writer import writer_of, writer_of_event

SCHEMAS = [
    fastavro.parse_schema(one.parsed(), named_schemas={}) for one in registered() if one.name in BY_NAME
]
LONG = st.integers(-(2**63), 2**63 - 1) | st.integers(-130, 130)
PRIMITIVE = {"string": st.text(max_size=80), "bytes": st.binary(max_size=80), "long": LONG}
PRIMITIVE |= {"boolean": st.booleans(), "null": st.none()}


def data(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any datum of the schema, as fastavro takes it; ``named`` are the records it may name."""
    if isinstance(schema, list):
        return st.one_of([data(branch, named) for branch in schema])
    if isinstance(schema, str):
        return PRIMITIVE[schema] if schema in PRIMITIVE else data(named[schema], named)
    if schema["type"] == "record":
        return st.fixed_dictionaries(
            {field["name"]: data(field["type"], named) for field in schema["fields"]}
        )
    if schema["type"] == "array":
        return st.lists(data(schema["items"], named), max_size=3)
    if schema["type"] == "map":
        return st.dictionaries(st.text(max_size=5), data(schema["values"], named), max_size=3)
    return data(schema["type"], named)


def model(schema: Any, datum: Any, named: dict[str, Any]) -> Any:
    """The datum with objects for its records, as a model has them."""
    if isinstance(schema, list):
        [stated] = [branch for branch in schema if branch != "null"]
        return None if datum is None else model(stated, datum, named)
    if isinstance(schema, str):
        return model(named[schema], datum, named) if schema in named else datum
    if schema["type"] == "record":
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        return SimpleNamespace(**{name: model(kind, datum[name], named) for name, kind in fields.items()})
    if schema["type"] == "array":
        return [model(schema["items"], item, named) for item in datum]
    return datum


def written_whole(schema: Any) -> Callable[[bytearray, Any], None]:
    if schema["fields"][0]["name"] != "meta":
        return writer_of(schema)
    write_meta, write_event = writer_of_event(schema)

    def write(out: bytearray, value: Any) -> None:
        write_meta(out, value.meta)
        write_event(out, value)

    return write


def by_fastavro(schema: Any, datum: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema["name"].rpartition(".")[2])
def test_every_message_is_written_as_fastavro_writes_it(schema: Any) -> None:
    named = schema["__named_schemas"]
    write = written_whole(schema)

    @settings(max_examples=30)
    @given(datum=data(schema, named))
    def it_is(datum: Any) -> None:
        out = bytearray()
        write(out, model(schema, datum, named))
        assert bytes(out) == by_fastavro(schema, datum)

    it_is()


@pytest.mark.parametrize("number", [0, -1, 1, -64, 63, 64, -65, 8191, 8192, 2**31, 2**63 - 1, -(2**63)])
def test_a_whole_number_is_written_in_as_many_bytes_as_it_needs(number: int) -> None:
    out = bytearray()
    writer_of("long")(out, number)
    assert bytes(out) == by_fastavro("long", number)


@pytest.mark.parametrize("schema", ["double", ["null", "string", "long"], ["string", "null"]])
def test_a_kind_the_contracts_do_not_use_is_refused_when_the_schema_is_read(schema: Any) -> None:
    with pytest.raises(WireError):
        writer_of(schema)


def test_an_event_whose_meta_does_not_come_first_is_refused_when_the_schema_is_read() -> None:
    schema = {"type": "record", "name": "Odd", "fields": [{"name": "referral", "type": "string"}]}
    with pytest.raises(WireError, match="meta"):
        writer_of_event(schema)
