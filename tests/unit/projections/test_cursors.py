"""Cursors come back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.web.problems import Problem
from services.projections import cursors

_PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(st.integers(0, 2**63 - 1), _PRINTABLE)
def test_a_key_comes_back_as_it_was(number: int, name: str) -> None:
    cursor = cursors.write([number, name])
    assert cursors.read(cursor, (int, str)) == [number, name]
    assert len(cursor) <= cursors.LONGEST


@given(st.text(max_size=80))
def test_anything_else_is_refused_as_a_wrong_cursor(text: str) -> None:
    with pytest.raises(Problem) as raised:
        cursors.read(text, (int, str))
    assert (raised.value.status, raised.value.field) == (422, "cursor")


@pytest.mark.parametrize(
    "key", [["a", 1], [1], [1, "a", 1], [True, "a"], [2**63, "a"], [1, "\x00"], [1, "ß"]]
)
def test_a_key_of_other_kinds_is_refused(key: list[int | str]) -> None:
    with pytest.raises(Problem):
        cursors.read(cursors.write(key), (int, str))
