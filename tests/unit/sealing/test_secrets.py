"""The keys of a bus: derived from one secret, independent of each other, and never shown."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from referral_bus.sealing.secrets import SecretError, Secrets, new_key, read_key, write_key

MASTER = bytes(range(32))


def test_the_derivation_is_pinned_since_everything_sealed_depends_on_it() -> None:
    derived = Secrets.derive(MASTER, "main")
    assert derived.facts_key.hex() == "a7867a006653baa9dd2f1872c3519e4a6e8ab95540644454ec2169d4ed5ac88e"
    assert derived.pseudonym_key.hex() == "71c2f7e33dd879c80140d926b2e8beb37fe7eec5c68b1c63033abb3e922309e6"


def test_every_use_every_bus_and_every_master_has_a_key_of_its_own() -> None:
    buses = [
        Secrets.derive(MASTER, "main"),
        Secrets.derive(MASTER, "exercise"),
        Secrets.derive(bytes(32), "main"),
    ]
    keys = [key for secrets in buses for key in dataclasses.astuple(secrets)]
    assert len(set(keys)) == 12
    assert {len(key) for key in keys} == {32}


def test_no_key_shows() -> None:
    assert repr(Secrets.derive(MASTER, "main")) == "Secrets()"


def test_a_master_secret_of_another_length_is_refused() -> None:
    with pytest.raises(SecretError, match="16 bytes"):
        Secrets.derive(bytes(16), "main")


def test_a_key_is_read_as_it_was_written() -> None:
    key = new_key()
    assert read_key(write_key(key) + "\n", "REFBUS_MASTER_KEY") == key
    assert new_key() != key


@pytest.mark.parametrize(
    "text", ["", "secret words!", base64.b64encode(bytes(31)).decode(), "AAAA\nAAAA", "ü"]
)
def test_what_is_no_key_is_refused_by_the_name_of_its_setting_and_not_repeated(text: str) -> None:
    with pytest.raises(SecretError, match="REFBUS_MASTER_KEY") as refusal:
        read_key(text, "REFBUS_MASTER_KEY")
    assert not text or text not in str(refusal.value)
