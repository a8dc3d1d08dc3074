"""A person's name on the bus: a pseudonym that only the holder of the pseudonym key can compute."""

from __future__ import annotations

import base64
import hashlib
import hmac


def subject_id(key: bytes, organisation: str, reference: str) -> str:
    """The pseudonym of the person whom ``organisation`` knows as ``reference``: ``sj-`` and 130 bits of HMAC-SHA256 in base32.

    The same person is the same subject each time the same organisation refers to it, and another for every other organisation.
    An organisation's id holds no NUL, so no two pairs collide by joining.
    """
    digest = hmac.digest(key, f"{organisation}\0{reference}".encode(), hashlib.sha256)
    return "sj-" + base64.b32encode(digest).decode().lower()[:26]
