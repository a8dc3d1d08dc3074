"""Errors over HTTP as problem details (RFC 9457), ``application/problem+json``, that name the field and never repeat a value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from referral_bus.access.caller import Caller
from referral_bus.runtime.logs import correlation

logger = logging.getLogger(__name__)

_LONGEST = 500


class Problem(Exception):
    """An error with its HTTP status. ``code`` is stable and for programs, ``detail`` says what to do; ``field`` is dotted."""

    def __init__(
        self, status: int, code: str, detail: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail[:_LONGEST]
        self.field = field
        self.retry_after = retry_after
        """Seconds for the Retry-After header."""

    def body(self) -> dict[str, Any]:
        """The problem details as a JSON object."""
        content: dict[str, Any] = {
            "type": f"urn:referral-bus:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.field is not None:
            content["field"] = self.field
        if (about := correlation()) is not None:
            content["correlation"] = about
        return content

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers, media_type="application/problem+json")


Told = Callable[[str, Problem, str | None], None]
"""Told of every problem that is answered, with the path that was asked and by whom, where its token was read by then."""


def nobody(path: str, problem: Problem, organisation: str | None) -> None:
    """Who is told where nobody wants to know."""


def organisation_of(scope: Mapping[str, Any]) -> str | None:
    """Whose token the request was found to carry."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    return None if caller is None else caller.organisation


def unexpected(method: str, path: str, error: Exception) -> Problem:
    """Log a fault of ours under the request's correlation id, and say no more of it than that. ``path`` is the route's, without
    what was asked for."""
    logger.error("%s %s failed", method, path, exc_info=error)
    return Problem(
        500, "internal", "The fault is ours; it is in the log under this correlation id. Try again later."
    )


def install(app: FastAPI, told: Told = nobody) -> None:
    """Answer what this app raises by intent as problem details; the :class:`~referral_bus.web.limits.Border` answers the rest."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        problem = _problem_of(error)
        told(request.scope["path"], problem, organisation_of(request.scope))
        response = problem.response()
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})
        return response

    for kind in (Problem, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return _http(error)
    assert isinstance(error, Problem)  # noqa: S101 - narrows what starlette types too widely
    return error


def _invalid(error: RequestValidationError) -> Problem:
    faults = error.errors()
    first = faults[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[1:]) or place[0]
    if first["type"] == "json_invalid":
        return Problem(400, "malformed", "The body is not JSON. Send a JSON object.", field="body")
    said = {"missing": "is missing", "extra_forbidden": "is not a field of this request"}.get(
        first["type"], str(first["msg"])
    )
    more = f" {len(faults) - 1} more are wrong." if len(faults) > 1 else ""
    return Problem(
        422, "invalid", f"{field[:200]}: {said}.{more} Correct it and send it again.", field=field[:200]
    )


_HTTP: Final[dict[int, tuple[str, str | None, str | None]]] = {
    400: (
        "malformed",
        "The body can't be read. Send a JSON object that is not nested deeper than the request's fields.",
        "body",
    ),
    401: ("unauthorised", None, "Authorization"),
    404: ("not_found", "There is nothing here. GET /openapi.json lists what there is.", None),
    405: ("method_not_allowed", "This path takes other methods.", None),
    413: ("too_large", None, "body"),
}
"""Code, advice and field of what the frameworks raise."""


def _http(error: HTTPException) -> Problem:
    code, advice, field = _HTTP.get(error.status_code, ("refused", None, None))
    return Problem(error.status_code, code, advice or str(error.detail), field=field)
