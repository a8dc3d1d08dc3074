"""When what a service is given ends to be valid, when it was last read, and whether it serves to let anybody in, for the metrics: looked at
whenever they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.x509 import load_pem_x509_certificates

from referral_bus.access.tokens import TokenVerifier
from referral_bus.runtime.metrics import EXPIRES, KEY_SET_READ, TOKENS_REFUSED_SECONDS

_KEY_SET: Final = "token_keys"
_OVER: Final = 0.0
"""A certificate that can't be read is told as one that is over: somebody has to look."""


def tell_certificates(certificates: Mapping[str, Path]) -> None:
    """Tell of each file when the first of its certificates ends."""
    for name, path in certificates.items():
        EXPIRES.labels(what=name).set_function(partial(_end, path))


def tell_keys(verifier: TokenVerifier) -> None:
    """Tell when the last key of the key set ends, never where some key has no end; when the set was last read; and for how long no token
    has been taken by it."""

    def end() -> float:
        return math.inf if verifier.expires_at is None else verifier.expires_at

    EXPIRES.labels(what=_KEY_SET).set_function(end)
    KEY_SET_READ.labels(what=_KEY_SET).set_function(lambda: verifier.read_at)
    TOKENS_REFUSED_SECONDS.labels(what=_KEY_SET).set_function(lambda: verifier.refused_for)


def _end(path: Path) -> float:
    try:
        chain = load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return _OVER
    return min(one.not_valid_after_utc.timestamp() for one in chain)
