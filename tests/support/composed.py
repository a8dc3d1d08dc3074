"""deploy/compose.yaml as tests bring it up: what testcontainers does not do by itself."""

from __future__ import annotations

import os
import subprocess
import time
from functools import cached_property
from typing import Final

import docker
import pytest
from testcontainers.compose import DockerCompose

HEALTHY: Final = {
    **dict.fromkeys(("kafka", "postgres", "intake", "matching", "notifier", "projections"), "healthy"),
    "topics": "exited 0",
}
"""Everything that deploy/compose.yaml brings up, as it is to be."""


class Compose(DockerCompose):
    """Docker's compose, or the program of its own that it was before."""

    @cached_property
    def compose_command_property(self) -> list[str]:
        words: list[str] = super().compose_command_property
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        return words if plugin.returncode == 0 else ["docker-compose", *words[2:]]


def container(service: str) -> docker.models.containers.Container:
    """The container of a service."""
    [found] = _containers(f"com.docker.compose.service={service}")
    return found


def health() -> dict[str, str]:
    """What the engine says of each container of the bus, by service: its health, or how it ended."""
    found = {}
    for one in _containers():
        state = one.attrs["State"]
        ended = f"{state['Status']} {state['ExitCode']}"
        found[one.labels["com.docker.compose.service"]] = state.get("Health", {}).get("Status", ended)
    return found


def until_healthy(compose: Compose, within: float = 180.0) -> None:
    """Wait for all of them; fail with what they said last."""
    late = time.monotonic() + within
    while (found := health()) != HEALTHY:
        if time.monotonic() > late:
            out, _ = compose.get_logs()
            pytest.fail(f"the bus is not healthy: {found}\n{out[-4_000:]}")
        time.sleep(0.5)


def _containers(*labels: str) -> list[docker.models.containers.Container]:
    project = f"com.docker.compose.project={os.environ['COMPOSE_PROJECT_NAME']}"
    found: list[docker.models.containers.Container] = docker.from_env().containers.list(
        all=True, filters={"label": [project, *labels]}
    )
    return found
