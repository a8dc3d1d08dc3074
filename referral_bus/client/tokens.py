"""Bearer tokens that are renewed before they run out."""

from __future__ import annotations

import time
from collections.abc import Callable

TokenSource = Callable[[], str]
"""Gives the token to use now. It is called for each try of each request, so keep it quick."""


class RenewedToken:
    """Asks ``issue`` for a token and uses it for ``seconds``; choose them shorter than the token lives."""

    def __init__(self, issue: TokenSource, seconds: float) -> None:
        self._issue = issue
        self._seconds = seconds
        self._token = ""
        self._until = float("-inf")

    def __call__(self) -> str:
        now = time.monotonic()
        if now >= self._until:
            self._token = self._issue()
            self._until = now + self._seconds
        return self._token

    def __repr__(self) -> str:
        return "RenewedToken(...)"
