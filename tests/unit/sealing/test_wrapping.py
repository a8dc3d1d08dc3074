"""Wrapped data keys: bound to their person and section, and to the bus's own wrapping key."""

from __future__ import annotations

import pytest

from referral_bus.sealing.port import KeyStoreError, KeyStoreUnavailable, SubjectKeys
from referral_bus.sealing.wrapping import Wrapper

ADA, BEN = "sj-" + "a" * 26, "sj-" + "b" * 26
WRAPPER = Wrapper({"facts": bytes(32), "identity": bytes([1]) * 32})


def test_a_wrapped_key_comes_out_again_and_does_not_show() -> None:
    key, wrapped = WRAPPER.new_key(ADA, "facts")
    assert len(key) == 32
    assert key not in wrapped
    assert WRAPPER.unwrap(ADA, "facts", wrapped) == key


def test_no_two_keys_are_the_same() -> None:
    assert len({WRAPPER.new_key(ADA, "facts")[0] for _ in range(20)}) == 20


def test_a_row_that_was_moved_or_changed_is_not_unwrapped() -> None:
    _, wrapped = WRAPPER.new_key(ADA, "facts")
    for subject, section, content in (
        (BEN, "facts", wrapped),
        (ADA, "identity", wrapped),
        (ADA, "facts", wrapped[:-1] + bytes([wrapped[-1] ^ 1])),
        (ADA, "facts", wrapped[:5]),
        (ADA, "facts", b""),
    ):
        with pytest.raises(KeyStoreError, match="can't be unwrapped") as refusal:
            WRAPPER.unwrap(subject, section, content)  # type: ignore[arg-type]
        assert subject not in str(refusal.value)


def test_another_buss_wrapping_key_is_named_as_the_cause_and_is_no_outage() -> None:
    _, wrapped = WRAPPER.new_key(ADA, "facts")
    with pytest.raises(KeyStoreError, match="master secret") as refusal:
        Wrapper({"facts": bytes([9]) * 32}).unwrap(ADA, "facts", wrapped)
    assert not isinstance(refusal.value, KeyStoreUnavailable)


def test_without_the_identity_key_no_identity_key_is_made_or_opened() -> None:
    facts_only = Wrapper({"facts": bytes(32)})
    _, wrapped = WRAPPER.new_key(ADA, "identity")
    facts_only.require("facts")
    for forbidden in (
        lambda: facts_only.require("facts", "identity"),
        lambda: facts_only.new_key(ADA, "identity"),
        lambda: facts_only.unwrap(ADA, "identity", wrapped),
    ):
        with pytest.raises(KeyStoreError, match="identity"):
            forbidden()


def test_a_subjects_keys_do_not_show() -> None:
    assert "\\x07" not in repr(SubjectKeys(bytes([7]) * 32, bytes([7]) * 32))
