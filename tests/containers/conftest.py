"""The bus in containers, as deploy/compose.yaml brings it up, for the same tests that the processes of one machine pass.

``REFBUS_IMAGES`` says which images of Kafka, PostgreSQL and Python: ``official`` (the default) or ``local``, those of
deploy/local/build.py. Without a container engine the tests are skipped; with ``REFBUS_CONTAINERS=required`` they fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from referral_bus.embedded.bus import Addresses, LocalBus, Plan
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.secrets import Secrets
from referral_bus.log.kafka import KafkaLog
from tests.support.composed import Compose, until_healthy
from tests.support.whole_bus import SECONDS, WholeBus

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("KAFKA", "POSTGRES", "INTAKE", "NOTIFIER", "QUERIES")


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine that answers. Without one the test is skipped, and where one is required fails."""
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
        wrong = asked.stderr.strip() if asked.returncode else ""
    except FileNotFoundError:
        wrong = "there is no docker program"
    if wrong:
        reason = f"no container engine answers ({wrong}): install Docker, or start it"
        if os.environ.get("REFBUS_CONTAINERS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def composed(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, LocalBus]]:
    """The bus, up, with every container of it healthy."""
    home = tmp_path_factory.mktemp("bus")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    settings = {f"REFBUS_{name}_PORT": str(port) for name, port in ports.items()}
    settings |= {"REFBUS_BUS": "e2e", "REFBUS_PARTITIONS": "3", "REFBUS_SECRETS": str(home / "secrets")}
    settings |= {"REFBUS_IMAGE_PREFIX": "refbus-test", "COMPOSE_PROJECT_NAME": f"refbus-{os.getpid()}"}
    if os.environ.get("REFBUS_IMAGES") == "local":
        subprocess.run([sys.executable, str(ROOT / "deploy" / "local" / "build.py")], check=True)
        images = (ROOT / "deploy" / "local" / "images.env").read_text(encoding="ascii").splitlines()
        settings |= dict(line.split("=", 1) for line in images if line and not line.startswith("#"))
    environment = home / "environment"
    environment.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="ascii")
    subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "prepare.py"), str(home / "secrets"), "e2e"], check=True
    )
    secrets = Secrets(home / "secrets")
    password = secrets.read("postgres_password")
    addresses = Addresses(
        kafka=f"127.0.0.1:{ports['KAFKA']}",
        database=f"postgresql+psycopg://postgres:{password}@127.0.0.1:{ports['POSTGRES']}/refbus",
        intake=f"http://127.0.0.1:{ports['INTAKE']}",
        queries=f"http://127.0.0.1:{ports['QUERIES']}",
        notifier=f"http://127.0.0.1:{ports['NOTIFIER']}",
    )
    compose = Compose(
        ROOT,
        compose_file_name=["deploy/compose.yaml", "tests/containers/compose.yaml"],
        env_file=str(environment),
        build=True,
        wait=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSE_PROJECT_NAME", settings["COMPOSE_PROJECT_NAME"])
        with compose:
            until_healthy(compose)
            yield compose, LocalBus(Plan(home, bus="e2e", partitions=3), secrets, addresses, None)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole(composed: tuple[Compose, LocalBus]) -> AsyncIterator[WholeBus]:
    _, bus = composed
    log = KafkaLog(bus.addresses.kafka)
    async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as http:
        whole = WholeBus(bus, log, http)
        try:
            await whole.publish_parties()
            yield whole
        finally:
            await log.close()
