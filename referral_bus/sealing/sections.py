"""Sealing and opening one section of what concerns a person: AES-256-GCM over the framed Avro message.

Layout: one byte version (1), twelve bytes random nonce, ciphertext with its 16-byte tag. Subject and section are authenticated
with it, so a sealed section can't be moved to another person or be taken for the other section.
"""

from __future__ import annotations

import os
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from referral_bus.contracts.facts import Facts, Identity, Note
from referral_bus.contracts.message import Message
from referral_bus.sealing.port import DESTROYED, Destroyed, Section
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

Content = TypeVar("Content", bound=Message)

_VERSION: Final = b"\x01"
_NONCE: Final = 12
_SECTION: Final[dict[type[Message], Section]] = {Facts: "facts", Identity: "identity", Note: "identity"}


class OpenError(Exception):
    """A sealed section can't be opened. The message says why and holds nothing of the content."""


class Erased(OpenError):
    """The person's key was destroyed: nobody can open this any more, and that is as it should be."""


class KeyMissing(OpenError):
    """The key store never held a key for this subject: it was restored from before the referral, or it is another bus's."""


class Sealer:
    """Seals and opens sections. Holds no key; share one per process."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def seal(self, key: bytes, subject: str, content: Facts | Identity | Note) -> bytes:
        """Seal the content with the subject's key of the section it belongs to (a note belongs to identity)."""
        nonce = os.urandom(_NONCE)
        clear = self._codec.encode(content)
        return _VERSION + nonce + AESGCM(key).encrypt(nonce, clear, _bound(subject, _SECTION[type(content)]))

    def open_facts(self, key: bytes | Destroyed | None, subject: str, sealed: bytes) -> Facts:
        """Open the facts. ``key`` is what :meth:`Keys.fetch` gave for the subject, None where it gave nothing.

        Raises Erased, KeyMissing or OpenError.
        """
        return self._open(Facts, key, subject, sealed)

    def open_identity(self, key: bytes | Destroyed | None, subject: str, sealed: bytes) -> Identity:
        """Open the identity; as :meth:`open_facts`, with the identity key."""
        return self._open(Identity, key, subject, sealed)

    def open_note(self, key: bytes | Destroyed | None, subject: str, sealed: bytes) -> Note:
        """Open the note that came with an outcome; as :meth:`open_facts`, with the identity key."""
        return self._open(Note, key, subject, sealed)

    def _open(
        self, content: type[Content], key: bytes | Destroyed | None, subject: str, sealed: bytes
    ) -> Content:
        section = _SECTION[content]
        if key is DESTROYED:
            raise Erased(f"the {section} can't be opened: the person's key was destroyed")
        if key is None:
            raise KeyMissing(f"the {section} can't be opened: the key store holds no key for this subject")
        if sealed[:1] != _VERSION:
            raise OpenError(f"the {section} can't be opened: sealed in a way this version doesn't know")
        nonce, ciphertext = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            clear = AESGCM(key).decrypt(nonce, ciphertext, _bound(subject, section))
            message = self._codec.decode(clear)
        except (InvalidTag, ValueError) as error:
            kind = (
                "changed, or sealed for another subject"
                if not isinstance(error, WireError)
                else "not valid inside"
            )
            raise OpenError(f"the {section} can't be opened: {kind}") from None
        if not isinstance(message, content):
            raise OpenError(f"the {section} can't be opened: something else is sealed in it")
        return message


def _bound(subject: str, section: Section) -> bytes:
    return f"{subject}|{section}".encode()
