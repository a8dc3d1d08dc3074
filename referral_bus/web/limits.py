"""The border of every request: how large it may be, the correlation id it is followed by, and that nobody keeps the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from referral_bus.runtime.logs import correlated
from referral_bus.web.problems import Problem, Told, nobody, organisation_of, unexpected

CORRELATION_HEADER = "x-correlation-id"
_LONGEST_LENGTH = 18
"""Digits of a Content-Length that are worth reading."""
NONE_LARGER: Final[Mapping[str, int]] = MappingProxyType({})
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _TooLarge(HTTPException):
    """As an HTTPException it passes FastAPI's reading of the body, which makes a 400 of anything else."""

    def __init__(self, maximum: int) -> None:
        super().__init__(413, f"The body has more than {maximum} bytes. Send less at once.")


class Border:
    """Refuses a body above ``maximum_body`` bytes with 413, declared or not, gives every request a correlation id, has no cache
    keep an answer unless its route says so, and answers what nobody expected with a 500 that names it. Paths that begin like one in
    ``larger`` may have a body of so many bytes instead. ``told`` hears of what is answered here."""

    def __init__(
        self, app: ASGIApp, maximum_body: int, told: Told = nobody, larger: Mapping[str, int] = NONE_LARGER
    ) -> None:
        self._app = app
        self._maximum = maximum_body
        self._larger = larger
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(CORRELATION_HEADER, "")
        about = given if _CORRELATION.fullmatch(given) else uuid4().hex
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                answered = MutableHeaders(scope=message)
                answered[CORRELATION_HEADER] = about
                # An answer may say who a person is, or have a secret.
                answered.setdefault("cache-control", "no-store")
            await send(message)

        with correlated(about):
            declared = headers.get("content-length", "0")
            maximum = self._maximum_of(scope["path"])
            if _exceeds(declared, maximum):
                await self._refuse(maximum, scope, receive, answer)
                return
            try:
                await self._app(scope, _counted(receive, maximum), answer)
            except _TooLarge:
                if started:
                    raise
                await self._refuse(maximum, scope, receive, answer)
            except Exception as error:
                # Here and not in the app's own handler, which is outside of this and knows no correlation id.
                path = scope["route"].path if "route" in scope else "?"
                problem = unexpected(scope["method"], path, error)
                if started:
                    raise
                await self._answer(problem, scope, receive, answer)

    def _maximum_of(self, path: str) -> int:
        return next((most for start, most in self._larger.items() if path.startswith(start)), self._maximum)

    async def _refuse(self, maximum: int, scope: Scope, receive: Receive, send: Send) -> None:
        problem = Problem(413, "too_large", _TooLarge(maximum).detail, field="body")
        await self._answer(problem, scope, receive, send)

    async def _answer(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        self._told(scope["path"], problem, organisation_of(scope))
        await problem.response()(scope, receive, send)


def _counted(receive: Receive, maximum: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > maximum:
                raise _TooLarge(maximum)
        return message

    return counted


def _exceeds(declared: str, maximum: int) -> bool:
    if not (declared.isascii() and declared.isdigit()):
        return False
    return len(declared) > _LONGEST_LENGTH or int(declared) > maximum
