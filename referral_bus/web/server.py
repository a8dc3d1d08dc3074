"""uvicorn as a part of a service: it leaves signals and logs to the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 5
"""How long requests under way may take when the service stops."""


class CannotListen(OSError):
    """The address can't be listened on. The message says which and what to do."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until cancelled; then let requests under way finish. Raises CannotListen where the port is taken."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    running = asyncio.create_task(_started(server, host, port))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        server.should_exit = True
        await running
        raise


async def _started(server: uvicorn.Server, host: str, port: int) -> None:
    try:
        await server.serve()
    except SystemExit:
        raise CannotListen(
            f"can't listen on {host}:{port}: is another program there? Set another port"
        ) from None
