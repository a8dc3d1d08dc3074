"""What deploy/compose.yaml brings up and deploy/Dockerfile builds: healthy, not root, read-only, and each service with its own keys."""

from __future__ import annotations

from typing import Any

import docker
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from referral_bus.embedded.bus import SERVICES, LocalBus
from tests.support.composed import HEALTHY, Compose, container, health

pytestmark = pytest.mark.timeout(900)

KEYS = {
    "intake": {"master_key", "intake_key", "operations_public_key", "jwks"},
    "matching": {"facts_key", "operations_public_key"},
    "notifier": {"master_key", "jwks"},
    "projections": {"master_key", "jwks"},
}
"""The table in the README."""


def test_the_whole_bus_comes_up_healthy(composed: tuple[Compose, LocalBus]) -> None:
    assert health() == HEALTHY


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_given_its_own_keys_and_no_others(
    composed: tuple[Compose, LocalBus], service: str
) -> None:
    out = container(service).exec_run(["ls", "/run/secrets"]).output.decode()
    assert set(out.split()) == KEYS[service] | {f"database_url_{service}"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_not_root_and_writes_to_its_data_alone(
    composed: tuple[Compose, LocalBus], service: str
) -> None:
    one = container(service)
    assert one.exec_run(["id", "-u"]).output == b"10001\n"
    assert one.exec_run(["touch", "/opt/refbus/x"]).exit_code != 0
    host = one.attrs["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert "no-new-privileges:true" in host["SecurityOpt"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_database_role_reads_no_other_services_tables(
    composed: tuple[Compose, LocalBus], service: str
) -> None:
    ask = (
        "import os, pathlib, psycopg;"
        "url = pathlib.Path(os.environ['REFBUS_DATABASE_URL_FILE']).read_text().replace('+psycopg', '');"
        "print(*[name for name, in psycopg.connect(url).execute("
        "\"select nspname from pg_namespace where nspname in ('intake', 'notifier', 'projections')"
        " and has_schema_privilege(nspname, 'usage')\")])"
    )
    out = container(service).exec_run(["python", "-c", ask]).output.decode()
    assert out.split() == ([service] if service != "matching" else [])


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_no_secret_and_says_which_setting_is_missing(
    composed: tuple[Compose, LocalBus], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"refbus-test-{service}"
    image = docker.from_env().images.get(name)
    history: list[dict[str, Any]] = image.history()
    said = " ".join([*(layer["CreatedBy"] for layer in history), *image.attrs["Config"]["Env"]])
    for secret in composed[1].secrets.folder.iterdir():
        if secret.is_file():
            assert secret.read_text().strip() not in said
    # testcontainers' reaper is an image of its own; what is started here is removed here.
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    with DockerContainer(name, read_only=True, network_mode="none") as alone:
        ended = alone.get_wrapped_container().wait(timeout=60)
        out, err = alone.get_logs()
    text = (out + err).decode()
    assert ended["StatusCode"] not in (0, 137)
    assert "REFBUS_" in text.upper() and "Traceback" not in text
