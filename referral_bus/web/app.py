"""The FastAPI app each public door starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline

from referral_bus.access.tokens import TokenVerifier
from referral_bus.runtime import tracing
from referral_bus.web import problems
from referral_bus.web.limits import NONE_LARGER, Border

MAXIMUM_BODY = 1_048_576
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own would tell of paths, queries and the texts of errors, which may concern a person."""


def new_app(
    title: str,
    description: str,
    verifier: TokenVerifier,
    maximum_body: int = MAXIMUM_BODY,
    told: problems.Told = problems.nobody,
    larger: Mapping[str, int] = NONE_LARGER,
) -> FastAPI:
    """An app with problem details, a body limit (bytes), correlation ids, and callers known by their tokens. ``told`` hears of every
    problem that is answered. ``larger`` is the limit of paths that begin so, where it is another."""
    # The page at /docs is where tokens are pasted: all of it comes from here.
    app = FastAPIOffline(
        title=title, description=description, version="1", redoc_url=None, telemetry=_NO_TELEMETRY
    )
    app.state.verifier = verifier
    problems.install(app, told)
    app.add_middleware(Border, maximum_body=maximum_body, told=told, larger=larger)
    tracing.tracer().watch(app)
    return app
