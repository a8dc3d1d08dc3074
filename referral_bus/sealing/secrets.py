"""One master secret, from which every symmetric key of a bus is derived (HKDF-SHA256, RFC 5869).

The keys are independent of each other: a service that is given one learns nothing about the rest. Matching is given
``facts_key`` alone, so no flaw in it can open an identity.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32


class SecretError(ValueError):
    """A key from the settings is not usable. The message names the setting and never the value."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of one bus, 32 bytes each; none of them shows in ``repr``."""

    facts_key: bytes = field(repr=False)
    """Wraps the data keys of the facts sections."""
    identity_key: bytes = field(repr=False)
    """Wraps the data keys of the identity sections."""
    pseudonym_key: bytes = field(repr=False)
    """Turns an agency's own reference into a subject's pseudonym."""
    digest_key: bytes = field(repr=False)
    """Recognises a repeated body."""

    @classmethod
    def derive(cls, master: bytes, bus: str) -> Self:
        """The keys of ``bus``. Another bus under the same master secret has unrelated keys and pseudonyms."""
        if len(master) != KEY_BYTES:
            raise SecretError(f"the master secret has {len(master)} bytes instead of {KEY_BYTES}")
        return cls(*(_subkey(master, bus, use) for use in ("facts", "identity", "pseudonym", "digest")))


def _subkey(master: bytes, bus: str, use: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"refbus/{bus}/{use}/1".encode()).derive(master)


def read_key(text: str, setting: str) -> bytes:
    """A key as the settings give it: 32 bytes in base64. Raises SecretError naming ``setting``."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError(f"{setting} is not base64: it takes 32 random bytes in base64, e.g. from "
                          "'openssl rand -base64 32'") from None  # fmt: skip
    if len(key) != KEY_BYTES:
        raise SecretError(f"{setting} holds {len(key)} bytes: it takes just {KEY_BYTES}, in base64")
    return key


def write_key(key: bytes) -> str:
    """A key as the settings take it."""
    return base64.b64encode(key).decode()


def new_key() -> bytes:
    """32 bytes from the operating system's generator."""
    return secrets.token_bytes(KEY_BYTES)
