"""Sealing to somebody else's public key."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey

from referral_bus.sealing.jwe import (
    MAXIMUM_CLEAR,
    MAXIMUM_SEALED,
    JweError,
    key_id,
    new_encryption_keys,
    open_with,
    public_part,
    seal_to,
)

KEYS, OTHERS = new_encryption_keys(), new_encryption_keys()
WORDS = b"Quentin Featherstonehaugh"
SEALED = seal_to(KEYS.public, WORDS)


def test_only_the_holder_of_the_private_key_opens_it() -> None:
    sealed = seal_to(KEYS.public, WORDS)
    assert WORDS not in sealed
    assert open_with(KEYS.private, sealed) == WORDS
    with pytest.raises(JweError):
        open_with(OTHERS.private, sealed)
    with pytest.raises(JweError, match="public key"):
        open_with(KEYS.public, sealed)


def test_an_organisation_may_have_a_p256_key() -> None:
    key = ECKey.generate_key("P-256")
    sealed = seal_to(json.dumps(key.as_dict(private=False)), WORDS)
    assert open_with(json.dumps(key.as_dict(private=True)), sealed) == WORDS


def test_the_longest_message_goes_through_and_a_longer_one_does_not() -> None:
    longest = bytes(MAXIMUM_CLEAR)
    assert open_with(KEYS.private, seal_to(KEYS.public, longest)) == longest
    with pytest.raises(JweError, match="at most"):
        seal_to(KEYS.public, longest + b"\0")
    with pytest.raises(JweError, match="at most"):
        open_with(KEYS.private, bytes(MAXIMUM_SEALED + 1))


def test_both_halves_have_the_same_id_and_the_public_one_holds_nothing_private() -> None:
    assert key_id(KEYS.private) == key_id(KEYS.public)
    assert "d" in json.loads(KEYS.private)
    assert "d" not in json.loads(public_part(KEYS.private))
    assert "d" not in json.loads(KEYS.public)
    assert json.loads(KEYS.private)["d"] not in repr(KEYS)


@given(st.data())
@settings(max_examples=50)
def test_a_changed_message_is_refused_and_not_repeated(data: st.DataObject) -> None:
    sealed = bytearray(SEALED)
    # The last character of each part carries bits that mean nothing, so the change is made before it.
    place = data.draw(st.sampled_from([i for i in range(len(sealed) - 1) if 46 not in sealed[i : i + 2]]))
    sealed[place] = data.draw(st.sampled_from([c for c in b"AZaz09-_" if c != sealed[place]]))
    with pytest.raises(JweError) as refusal:
        open_with(KEYS.private, bytes(sealed))
    assert WORDS.decode() not in str(refusal.value)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_what_was_never_sealed_is_refused(garbage: bytes) -> None:
    with pytest.raises(JweError):
        open_with(KEYS.private, garbage)


def test_other_algorithms_are_refused() -> None:
    key = OKPKey.import_key(json.loads(KEYS.public))
    for algorithm, encryption in (("ECDH-ES", "A256GCM"), ("ECDH-ES+A256KW", "A128CBC-HS256")):
        registry = jwe.JWERegistry(algorithms=[algorithm, encryption])
        sealed = jwe.encrypt_compact({"alg": algorithm, "enc": encryption}, WORDS, key, registry=registry)
        with pytest.raises(JweError):
            open_with(KEYS.private, sealed.encode())
    shared = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, WORDS, OctKey.generate_key(256))
    with pytest.raises(JweError):
        open_with(KEYS.private, shared.encode())


def test_what_is_compressed_is_refused_before_it_is_unpacked() -> None:
    key = OKPKey.import_key(json.loads(KEYS.public))
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "zip": "DEF"}
    registry = jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "A256GCM", "DEF"])
    with pytest.raises(JweError):
        open_with(KEYS.private, jwe.encrypt_compact(header, bytes(500_000), key, registry=registry).encode())


@pytest.mark.parametrize(
    "jwk",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"kty": "oct", "k": "AAAA"}',
        '{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}',
        '{"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA"}',
        '{"kty": "OKP", "crv": "X25519", "x": "' + base64.urlsafe_b64encode(bytes(5)).decode() + '"}',
        '{"kty": ["OKP"], "crv": "X25519"}',
    ],
)
def test_a_key_that_is_none_is_refused(jwk: str) -> None:
    for use in (
        lambda: seal_to(jwk, WORDS),
        lambda: open_with(jwk, b"x"),
        lambda: public_part(jwk),
        lambda: key_id(jwk),
    ):
        with pytest.raises(JweError):
            use()
