"""Sealed sections: opened with the right key for the right person as the right thing, and with nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.contracts.facts import Facts, Identity, Need, Note, NumberFact
from referral_bus.sealing.port import DESTROYED
from referral_bus.sealing.sections import Erased, KeyMissing, OpenError, Sealer
from referral_bus.wire.codec import Codec

CODEC = Codec.load()
SEALER = Sealer(CODEC)
KEY, OTHER_KEY = bytes(32), bytes([1]) * 32
ADA, BEN = "sj-" + "a" * 26, "sj-" + "b" * 26
NAME = "Quentin Featherstonehaugh"
FACTS = Facts(age=NumberFact(status="stated", value=71), needs=[Need(code="food")])
IDENTITY = Identity(name=NAME, note="sleeps in a blue van")
NOTE = Note(text="came with a sister")


def test_what_was_sealed_comes_out_again() -> None:
    assert SEALER.open_facts(KEY, ADA, SEALER.seal(KEY, ADA, FACTS)) == FACTS
    assert SEALER.open_identity(KEY, ADA, SEALER.seal(KEY, ADA, IDENTITY)) == IDENTITY
    assert SEALER.open_note(KEY, ADA, SEALER.seal(KEY, ADA, NOTE)) == NOTE


def test_nothing_of_it_shows_and_the_same_is_sealed_differently_each_time() -> None:
    one, other = SEALER.seal(KEY, ADA, IDENTITY), SEALER.seal(KEY, ADA, IDENTITY)
    assert one != other
    assert NAME.encode() not in one
    assert b"van" not in one


def test_another_persons_name_on_it_or_another_key_opens_nothing() -> None:
    sealed = SEALER.seal(KEY, ADA, FACTS)
    with pytest.raises(OpenError, match="another subject"):
        SEALER.open_facts(KEY, BEN, sealed)
    with pytest.raises(OpenError):
        SEALER.open_facts(OTHER_KEY, ADA, sealed)


def test_one_section_is_not_opened_as_the_other_even_with_the_same_key() -> None:
    with pytest.raises(OpenError):
        SEALER.open_facts(KEY, ADA, SEALER.seal(KEY, ADA, IDENTITY))
    with pytest.raises(OpenError):
        SEALER.open_identity(KEY, ADA, SEALER.seal(KEY, ADA, FACTS))


def test_a_note_is_not_taken_for_an_identity() -> None:
    with pytest.raises(OpenError, match="something else"):
        SEALER.open_identity(KEY, ADA, SEALER.seal(KEY, ADA, NOTE))


def test_a_destroyed_key_and_a_missing_one_are_told_apart() -> None:
    sealed = SEALER.seal(KEY, ADA, FACTS)
    with pytest.raises(Erased):
        SEALER.open_facts(DESTROYED, ADA, sealed)
    with pytest.raises(KeyMissing):
        SEALER.open_facts(None, ADA, sealed)


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(KEY, ADA, FACTS))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OpenError):
        SEALER.open_facts(KEY, ADA, bytes(sealed))


@given(st.binary(max_size=80))
def test_bytes_that_were_never_sealed_are_refused(garbage: bytes) -> None:
    for sealed in (garbage, b"\x01" + garbage):
        with pytest.raises(OpenError):
            SEALER.open_facts(KEY, ADA, sealed)


def test_garbage_under_a_good_seal_is_refused_and_not_repeated() -> None:
    nonce = bytes(12)
    for clear in (b"", NAME.encode(), b"\x00\xff\xff\xff\xff" + NAME.encode()):
        sealed = b"\x01" + nonce + AESGCM(KEY).encrypt(nonce, clear, f"{ADA}|facts".encode())
        with pytest.raises(OpenError, match="not valid inside") as refusal:
            SEALER.open_facts(KEY, ADA, sealed)
        assert NAME not in str(refusal.value)
