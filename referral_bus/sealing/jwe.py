"""Sealing to somebody else's public key: JWE (RFC 7516) in compact form, ECDH-ES+A256KW with A256GCM.

Outboxes are sealed to intake's key, feeds to the organisation's, dead letters to that of operations. Keys are JWKs (RFC 7517) as JSON
text, on X25519 or P-256. Nothing is compressed, so no small message unpacks to a large one.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final, NamedTuple

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey

MAXIMUM_CLEAR: Final = 1_500_000
"""The most bytes that are sealed in one message."""
MAXIMUM_SEALED: Final = MAXIMUM_CLEAR * 4 // 3 + 4096
"""The longest message that is opened: base64, header and encrypted key included."""

_ALGORITHM: Final = "ECDH-ES+A256KW"
_ENCRYPTION: Final = "A256GCM"
_CURVES: Final = {("OKP", "X25519"), ("EC", "P-256")}


class JweError(ValueError):
    """A key or a sealed message is not usable. The message holds neither key nor content."""


class _Registry(jwe.JWERegistry):
    max_ciphertext_length = MAXIMUM_SEALED


_REGISTRY: Final = _Registry(algorithms=[_ALGORITHM, _ENCRYPTION])


class EncryptionKeys(NamedTuple):
    """A fresh key pair as JWK JSON text; both carry the same key id."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"EncryptionKeys(public={self.public!r})"


def new_encryption_keys() -> EncryptionKeys:
    """Make a key pair on X25519; the key id is its thumbprint (RFC 7638)."""
    key = OKPKey.generate_key("X25519", {"use": "enc"}, private=True, auto_kid=True)
    return EncryptionKeys(json.dumps(key.as_dict(private=True)), json.dumps(key.as_dict(private=False)))


def public_part(jwk: str) -> str:
    """The public JWK of a private one. Raises JweError where it is not an encryption key of the bus."""
    return json.dumps(_key(jwk).as_dict(private=False))


def key_id(jwk: str) -> str:
    """The key's id: its ``kid``, else its thumbprint. Raises JweError where it is not an encryption key of the bus."""
    return _kid(_key(jwk))


def seal_to(public_jwk: str, clear: bytes) -> bytes:
    """Seal to the holder of the private key. Raises JweError where the key is not usable or ``clear`` is too long."""
    if len(clear) > MAXIMUM_CLEAR:
        raise JweError(f"{len(clear)} bytes are to be sealed; at most {MAXIMUM_CLEAR} are taken")
    key = _key(public_jwk)
    header = {"alg": _ALGORITHM, "enc": _ENCRYPTION, "kid": _kid(key)}
    return jwe.encrypt_compact(header, clear, key, registry=_REGISTRY).encode()


def open_with(private_jwk: str, sealed: bytes) -> bytes:
    """Open what was sealed to this key. Raises JweError for anything else: another key, another algorithm, changed, too long."""
    if len(sealed) > MAXIMUM_SEALED:
        raise JweError(f"a sealed message has {len(sealed)} bytes; at most {MAXIMUM_SEALED} are taken")
    key = _key(private_jwk)
    if not key.is_private:
        raise JweError("a sealed message can't be opened with a public key: give the private JWK")
    try:
        opened = jwe.decrypt_compact(sealed, key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError, KeyError):
        raise JweError(
            f"this is not a JWE sealed with {_ALGORITHM} and {_ENCRYPTION} to the key {_kid(key)!r}, or it was changed"
        ) from None
    if opened.plaintext is None:
        raise JweError("a sealed message has no content")
    return opened.plaintext


@lru_cache(maxsize=1024)
def _key(jwk: str) -> Key:
    try:
        content = json.loads(jwk)
        curve = (content["kty"], content["crv"])
        if curve not in _CURVES:
            raise JweError("a key is on another curve than X25519 or P-256")
        return OKPKey.import_key(content) if curve[0] == "OKP" else ECKey.import_key(content)
    except JweError:
        raise
    except (JoseError, ValueError, TypeError, KeyError):
        raise JweError("a key is not a JWK on X25519 or P-256, as JSON text") from None


def _kid(key: Key) -> str:
    return key.kid or key.thumbprint()
