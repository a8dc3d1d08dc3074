"""What parties send is read strictly, and a refusal names the attribute without repeating a value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.wire.cloudevents import BatchTooLong, batch, from_http, from_structured
from referral_bus.wire.envelope import attributes
from referral_bus.wire.errors import WireError

EVENT = {"specversion": "1.0", "id": "1", "source": "/organisations/a", "type": "t", "data": {"x": 1}}


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_required_attribute_is_named(name: str) -> None:
    with pytest.raises(WireError, match=f"^{name}: missing"):
        from_structured({key: value for key, value in EVENT.items() if key != name})


def test_another_version_of_the_standard_is_refused() -> None:
    with pytest.raises(WireError, match=r"expected 1\.0"):
        from_structured({**EVENT, "specversion": "0.3"})


def test_an_attribute_that_is_an_object_is_refused() -> None:
    with pytest.raises(WireError, match=r"^myext: expected text"):
        from_structured({**EVENT, "myext": {"a": "Jane Roe"}})


@pytest.mark.parametrize("name", ["", ":", ":x", "x:y", "\n", "caf\u00e9", "\ud800"])
def test_a_name_that_can_not_be_shown_is_an_attribute_all_the_same(name: str) -> None:
    with pytest.raises(WireError, match=r"^an attribute: attribute names are"):
        from_structured({**EVENT, name: "Jane Roe"})


def test_binary_data_is_refused() -> None:
    with pytest.raises(WireError, match="only JSON"):
        from_structured({**EVENT, "data_base64": "AA=="})


def test_percent_encoding_in_http_headers_is_undone() -> None:
    headers = [("ce-" + key, value) for key, value in EVENT.items() if key != "data"]
    event = from_http([*headers, ("ce-where", "caf%C3%A9"), ("content-type", "application/json")], b"{}")
    assert event.attributes["where"] == "café"


def test_a_batch_longer_than_allowed_is_refused_whole() -> None:
    with pytest.raises(BatchTooLong, match="3 events; at most 2"):
        batch(json.dumps([EVENT] * 3).encode(), most=2)


def test_a_batch_is_split_so_that_one_bad_event_does_not_take_the_others_with_it() -> None:
    events = batch(json.dumps([EVENT, 7]).encode(), most=2)
    assert from_structured(events[0]).data == {"x": 1}
    with pytest.raises(WireError):
        from_structured(events[1])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_any_json_is_an_event_or_a_refusal(value) -> None:
    try:
        from_structured(value)
    except WireError:
        return
    assert value["specversion"] == "1.0"


@given(
    st.dictionaries(
        st.text(max_size=10).map("ce_{}".format) | st.text(max_size=10),
        st.binary(max_size=20) | st.none(),
        max_size=5,
    )
)
def test_any_headers_of_a_record_are_attributes_or_a_refusal(headers) -> None:
    try:
        found = attributes(tuple(headers.items()))
    except WireError:
        return
    assert found == {name[3:]: value.decode() for name, value in headers.items() if name.startswith("ce_")}
