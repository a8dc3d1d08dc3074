"""The FastAPI app each public door starts from."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from referral_bus.access.tokens import TokenVerifier
from referral_bus.web import problems
from referral_bus.web.limits import Border

MAXIMUM_BODY = 1_048_576


def new_app(
    title: str,
    description: str,
    verifier: TokenVerifier,
    maximum_body: int = MAXIMUM_BODY,
    told: problems.Told = problems.nobody,
) -> FastAPI:
    """An app with problem details, a body limit (bytes), correlation ids, and callers known by their tokens. ``told`` hears of every
    problem that is answered."""
    # The page at /docs is where tokens are pasted: all of it comes from here.
    app = FastAPIOffline(title=title, description=description, version="1", redoc_url=None)
    app.state.verifier = verifier
    problems.install(app, told)
    app.add_middleware(Border, maximum_body=maximum_body, told=told)
    return app
