"""Recognising a repeated submission from a keyed digest of its clear body, which reveals nothing of the body."""

from __future__ import annotations

import hashlib
import hmac
import json

from referral_bus.contracts.message import Part


def canonical(body: Part) -> bytes:
    """The body as JSON that is the same for the same content: sorted names, no white space, UTF-8.

    Fields that have their default are left out, so saying it and not saying it are the same body, and a field that is added to the
    contract later doesn't change the digest of a body without it.
    """
    content = body.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def body_digest(key: bytes, type: str, body: Part) -> bytes:
    """HMAC-SHA256 over the CloudEvents type and the canonical body: 32 bytes."""
    return hmac.digest(key, type.encode() + b"\0" + canonical(body), hashlib.sha256)


def same_digest(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)
