"""The wires between the parts: a network namespace for each, on a bridge in the namespace of the run, which has it to itself.

A part that is cut off still runs, and still sees its own cable plugged in: what it sends is dropped without a word. Where network
namespaces are not allowed everything shares 127.0.0.1, and nothing can be cut.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_NAMESPACES: Final = Path("/run/netns")
_BLOCKED, _FORWARDING = "0", "3"


class Network:
    """The nodes by name, each with an address. ``namespaces`` says whether each has a namespace of its own."""

    def __init__(self, nodes: Sequence[str], namespaces: bool) -> None:
        self._numbers = {node: number for number, node in enumerate(nodes, start=10)}
        self.namespaces = namespaces
        if namespaces:
            self._lay()

    def address(self, node: str) -> str:
        return f"10.77.0.{self._numbers[node]}" if self.namespaces else "127.0.0.1"

    def namespace(self, node: str) -> Path | None:
        """What a process enters to be on this node."""
        return _NAMESPACES / node if self.namespaces else None

    def cut(self, node: str) -> None:
        """Nothing reaches the node any more, and it reaches nobody."""
        _run("bridge", "link", "set", "dev", self._cable(node), "state", _BLOCKED)

    def set_apart(self, nodes: Iterable[str]) -> None:
        """These don't reach each other any more; everybody else reaches them still."""
        for node in nodes:
            _run("bridge", "link", "set", "dev", self._cable(node), "isolated", "on")

    def heal(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            _run("bridge", "link", "set", "dev", self._cable(node), "isolated", "off", "state", _FORWARDING)

    def _cable(self, node: str) -> str:
        return f"n{self._numbers[node]}"

    def _lay(self) -> None:
        _NAMESPACES.mkdir(parents=True, exist_ok=True)
        # On a file system of this run's own, so that the names are nobody else's and go with it.
        _run("mount", "-t", "tmpfs", "refbus", str(_NAMESPACES))
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "bridge", "type", "bridge")
        _run("ip", "address", "add", "10.77.0.1/24", "dev", "bridge")
        _run("ip", "link", "set", "bridge", "up")
        for node in self._numbers:
            cable = self._cable(node)
            _run("ip", "netns", "add", node)
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", node)
            _run("ip", "link", "set", cable, "master", "bridge", "up")
            _run("ip", "-n", node, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
            _run("ip", "-n", node, "link", "set", "eth0", "up")
            _run("ip", "-n", node, "link", "set", "lo", "up")


def why_no_namespaces() -> str | None:
    """None where network namespaces, and mounts beside them, may be made."""
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    tried = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "ip link add refbus type bridge && bridge -V",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else tried.stderr.strip()[:200]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[:200]}")
