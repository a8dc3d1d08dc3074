"""Wrapping a data key under a wrapping key (AES-256-GCM), bound to its subject and section."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from referral_bus.sealing.port import KeyStoreError, Section, WrappingKeys
from referral_bus.sealing.secrets import KEY_BYTES

WRAPPING_VERSION: Final = 1
"""The way keys are wrapped; stored beside each key, so that another way can come later."""
_NONCE: Final = 12


class Wrapper:
    """Makes, wraps and unwraps data keys with the wrapping keys it was given."""

    def __init__(self, wrapping_keys: WrappingKeys) -> None:
        self._ciphers: dict[Section, AESGCM] = {
            section: AESGCM(key) for section, key in wrapping_keys.items()
        }

    def require(self, *sections: Section) -> None:
        """Raises KeyStoreError where the wrapping key of one of these sections was not given."""
        for section in sections:
            self._cipher(section)

    def new_key(self, subject: str, section: Section) -> tuple[bytes, bytes]:
        """A fresh data key, clear and wrapped."""
        key = os.urandom(KEY_BYTES)
        nonce = os.urandom(_NONCE)
        return key, nonce + self._cipher(section).encrypt(nonce, key, _bound(subject, section))

    def unwrap(self, subject: str, section: Section, wrapped: bytes) -> bytes:
        """The data key. Raises KeyStoreError where the wrapping key is another one, or the row was moved or changed."""
        try:
            return self._cipher(section).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _bound(subject, section))
        except (InvalidTag, ValueError):
            raise KeyStoreError(
                f"a data key of section {section!r} can't be unwrapped: it was wrapped under another master secret or for "
                "another bus, or its row was changed. Start with the master secret this database was filled with"
            ) from None

    def _cipher(self, section: Section) -> AESGCM:
        cipher = self._ciphers.get(section)
        if cipher is None:
            raise KeyStoreError(
                f"this process was not given the wrapping key of section {section!r}: leave that to one with the master secret"
            )
        return cipher


def _bound(subject: str, section: Section) -> bytes:
    return f"{subject}|{section}|{WRAPPING_VERSION}".encode()
