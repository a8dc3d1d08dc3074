"""A bus on one machine, before anything of it is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from referral_bus.embedded.bus import Plan, local_bus
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.ports import free_ports, is_free


async def test_a_taken_port_is_named_with_what_to_do_before_anything_is_started(tmp_path: Path) -> None:
    first = next(port for port in free_ports(50) if all(is_free(port + more) for more in range(8)))
    said: list[str] = []
    with (
        socket.create_server(("127.0.0.1", first + 3)),
        pytest.raises(EmbeddedError, match=rf"^Port {first + 3} is taken.*--first-port"),
    ):
        async with local_bus(Plan(tmp_path / "home", first_port=first), said.append):
            pass
    assert said == []
