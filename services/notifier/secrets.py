"""Webhook secrets: made here, shown once to whoever subscribes, kept sealed (AES-256-GCM, the subscription authenticated with it)."""

from __future__ import annotations

import base64
import os
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32
_NONCE = 12
_PREFIX = "whsec_"


class WebhookSecrets:
    """Seals and opens webhook secrets under a key derived from the bus's master secret."""

    def __init__(self, master: bytes, bus: str) -> None:
        key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"refbus/{bus}/webhook/1".encode()).derive(master)
        self._cipher = AESGCM(key)

    def new(self) -> str:
        """A fresh secret as Standard Webhooks writes it: ``whsec_`` and 32 random bytes in base64."""
        return _PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()

    def seal(self, subscription: str, secret: str) -> bytes:
        """The secret as it is kept."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), subscription.encode())

    def open(self, subscription: str, sealed: bytes) -> str:
        """The secret again. Raises InvalidTag where it was sealed under another master secret, or for another subscription."""
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], subscription.encode()).decode()
