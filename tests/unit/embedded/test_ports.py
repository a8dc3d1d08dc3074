"""Ports for servers that are about to start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from referral_bus.embedded.ports import free_ports, is_free

ROOT = Path(__file__).resolve().parents[3]


def test_free_ports_can_all_be_bound_at_once_and_are_no_ephemeral_ones() -> None:
    ports = free_ports(12)
    assert len(set(ports)) == 12
    assert all(1024 < port < 32_768 for port in ports)
    servers = [socket.create_server(("127.0.0.1", port)) for port in ports]
    for server in servers:
        server.close()


def test_a_port_is_never_given_twice_though_its_server_has_not_started() -> None:
    assert not set(free_ports(20)) & set(free_ports(20))


def test_a_port_with_a_server_is_not_free() -> None:
    port = free_ports(1)[0]
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_another_process_is_not_given_a_port_that_this_one_was() -> None:
    mine = free_ports(1)[0]
    program = (
        "from referral_bus.embedded import ports\n"
        f"ports._FIRST, ports._BEYOND = {mine}, {mine + 1}\n"
        "try:\n    print(ports.free_ports(1))\n"
        "except ports.EmbeddedError as error:\n    print(error)\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )
    assert "Only 0 of the 1 ports needed are free" in other.stdout
