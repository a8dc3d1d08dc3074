"""The operations listener of every service: ``/metrics`` (Prometheus), ``/livez`` and ``/readyz`` (200 or 503, and what waits)."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from referral_bus.runtime.health import Health
from referral_bus.runtime.metrics import HINDERED, READY, Shown


def operations_app(health: Health, service: str) -> Starlette:
    """The ASGI app for the health and the metrics of this service."""
    shown = Shown(service)

    async def metrics(_: Request) -> Response:
        READY.set(not health.problems())
        HINDERED.set(bool(health.hindrances()))
        return Response(generate_latest(shown), media_type=CONTENT_TYPE_LATEST)

    async def livez(_: Request) -> Response:
        stuck = health.stuck()
        return JSONResponse({"alive": not stuck, "stuck": stuck}, 503 if stuck else 200)

    async def readyz(_: Request) -> Response:
        problems = health.problems()
        waiting = health.hindrances() | problems
        return JSONResponse({"ready": not problems, "waiting": waiting}, 503 if problems else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])
