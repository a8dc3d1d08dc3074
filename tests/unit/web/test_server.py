"""The server as a part of a service: it serves until it is cancelled, and lets what is under way finish."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from referral_bus.embedded.ports import free_ports
from referral_bus.web.server import CannotListen, serve


async def until_listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def test_a_request_under_way_is_answered_before_it_stops() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    [port] = free_ports(1)
    serving = asyncio.create_task(serve(app, "127.0.0.1", port))
    await until_listening(port)
    async with httpx.AsyncClient(trust_env=False) as http:
        asking = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/"))
        await begun.wait()
        serving.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert (await asking).text == "done"
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_taken_port_is_named_with_what_to_do() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody can ask")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*another port"):
            await serve(app, "127.0.0.1", port)
