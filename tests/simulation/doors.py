"""Intake's HTTP API without a network: the app as it is, asked in the loop itself, by whoever has a token.

Making an app takes as long as a tenth of a run, so there is one for all processes and all runs: what a request reaches behind it are the
parts of the process that is asked.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from joserfc.jwk import KeySet

from referral_bus.access.tokens import TokenVerifier, _public_key, issue_token, jwks_of
from referral_bus.runtime.clock import Clock
from referral_bus.web.app import new_app
from services.intake.admission import Admission
from services.intake.api import Doors
from services.intake.counting import turned_away
from services.intake.forgetting import Forgetting
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from tests.simulation.loop import Node, SeededLoop
from tests.support.deciding import BUS

_TOKEN_SECONDS: Final = 3_600
_MOST_SKEW_SECONDS: Final = 1_200
"""Clocks here jump and are never set right, so a token is valid from so long ago on."""


@dataclass(frozen=True)
class Door:
    """What stands behind the HTTP door of one process."""

    node: Node
    admission: Admission
    forgetting: Forgetting
    quotas: Quotas
    reach: Reach
    clock: Clock
    verifier: TokenVerifier


class KnownKeys(TokenVerifier):
    """Knows who may sign, and asks nobody for it: there is no file here, nor a thread to read it in."""

    def __init__(self, signing_key: str, clock: Clock, loop: SeededLoop) -> None:
        super().__init__("", BUS, wall=lambda: clock.now() / 1000, monotonic=loop.time)
        self._known = json.loads(jwks_of(signing_key))["keys"]

    async def _read(self) -> None:
        self._keys = KeySet([_public_key(key) for key in self._known])
        self._tried_at = self._read_at = self._monotonic()


_ASKED: Final[ContextVar[Door]] = ContextVar("asked")


class _OfTheAsked:
    """A part of the process that is asked."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(_ASKED.get(), self._part), name)


@cache
def app() -> FastAPI:
    """Intake's app, as its own ``service.py`` makes it."""
    behind: dict[str, Any] = {
        part: _OfTheAsked(part)
        for part in ("admission", "forgetting", "quotas", "reach", "clock", "verifier")
    }
    made = new_app("Referral bus: intake", "", behind.pop("verifier"), told=turned_away)
    # Operations publish on the topic itself here.
    nobody: Any = None
    Doors(publishing=nobody, public_key="{}", maximum_batch=100, **behind).install(made)
    return made


def token(signing_key: str, organisation: str, roles: Any, now: int) -> str:
    """A token that all processes take, whatever their clocks say."""
    begins = now / 1000 - _MOST_SKEW_SECONDS
    return issue_token(signing_key, BUS, organisation, roles, _TOKEN_SECONDS + 2 * _MOST_SKEW_SECONDS, begins)


async def asked(door: Door, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
    """Status and content of the answer to a request."""
    _ASKED.set(door)
    content = json.dumps(body).encode()
    named = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": None, "server": None,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }  # fmt: skip
    answer: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        answer.append(message)

    await app()(scope, receive, send)
    said = b"".join(message.get("body", b"") for message in answer[1:])
    return answer[0]["status"], json.loads(said)
