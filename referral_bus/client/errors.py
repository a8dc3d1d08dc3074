"""Errors as the bus states them: RFC 9457 problem details, each with what to do next."""

from __future__ import annotations

import json
from typing import Any, Final

_LONGEST = 500


class BusError(Exception):
    """The bus did not do what was asked. ``status`` is the HTTP status (0 where there was no answer),
    ``code`` the reason, ``field`` the part of the request that is wrong, dotted; ``retry_after`` the seconds
    after which trying again makes sense."""

    def __init__(
        self,
        detail: str,
        *,
        status: int = 0,
        code: str = "error",
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.field = field
        self.retry_after = retry_after


class Refused(BusError):
    """The request is wrong as it stands (400, 413, 415, 422 and other 4xx): correct it; the same again gets
    the same answer."""


class NotRecognised(Refused):
    """The token is missing, expired or not from an issuer the bus trusts (401)."""


class Forbidden(Refused):
    """This organisation or role may not do this (403)."""


class NotFound(Refused):
    """There is no such thing, or it is not this organisation's to see (404)."""


class Conflict(Refused):
    """It contradicts what was said before (409), such as an id used again with another body."""


class NotYetVisible(BusError):
    """The views do not reflect the token within the time waited (504): ask again."""


class Unavailable(BusError):
    """The bus could not be reached, or not take it, as long as there was patience. The submission may have
    arrived: send it again with the same id and nothing is done twice."""


_BY_STATUS: Final[dict[int, type[BusError]]] = {
    401: NotRecognised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: NotYetVisible,
}


def from_problem(status: int, body: bytes, retry_after: float | None = None) -> BusError:
    """The error a response stands for. A body that is no problem document is not repeated: it may come from
    anything in between."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    return from_fields(status, problem if isinstance(problem, dict) else {}, retry_after)


def from_fields(status: int, problem: dict[str, Any], retry_after: float | None = None) -> BusError:
    """The error of a problem document that was read already."""
    kind = _BY_STATUS.get(status) or (Refused if 400 <= status < 500 else BusError)
    detail = (
        _text(problem.get("detail"))
        or _text(problem.get("title"))
        or f"The bus answered with HTTP status {status} and no reason."
    )
    return kind(
        detail,
        status=status,
        code=_text(problem.get("code")) or f"http_{status}",
        field=_text(problem.get("field")),
        retry_after=retry_after,
    )


def _text(value: Any) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and value else None
