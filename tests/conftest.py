"""What tests share: a real broker and a real database, started once a session and only when a test asks, and the outside reference."""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy import URL, make_url
from xdist.scheduler import LoadFileScheduling

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import EmbeddedPostgres
from referral_bus.runtime.service import COLLECTING
from referral_bus.wire.codec import Codec

_ROOT = Path(__file__).resolve().parents[1]
_ONE_BUS: Final = "tests/e2e/one_bus/"

# No broker of a test lives long enough to win back what Java's second compiler takes of the two cores meanwhile.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# Whether a property holds is not a question of how fast the machine is, nor of what else runs on it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# As in a service; and what all tests have imported is not looked through for garbage again and again.
gc.set_threshold(*COLLECTING)


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("referral bus")
    group.addoption(
        "--kafka",
        default="embedded",
        metavar="embedded|container|HOST:PORT",
        help="the broker to test with (default: embedded)",
    )
    group.addoption(
        "--postgres",
        default="embedded",
        metavar="embedded|URL",
        help="the PostgreSQL to test with (default: embedded)",
    )


class _Sharing(LoadFileScheduling):  # type: ignore[misc]
    """A file at a time to each process; the files that share a bus all to the same one, since each other would start a bus more."""

    def _split_scope(self, nodeid: str) -> str:
        return _ONE_BUS if nodeid.startswith(_ONE_BUS) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Sharing | None:
    return _Sharing(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real broker, the same for all tests: give topics and groups names of their own."""
    chosen: str = request.config.getoption("--kafka")
    if chosen == "container":
        yield from _kafka_in_a_container()
    elif chosen != "embedded":
        yield chosen
    else:
        broker = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), free_ports(1)[0])
        yield broker.start()
        broker.stop()


def _kafka_in_a_container() -> Iterator[str]:
    # Only who asks for a container pays for importing its client.
    from testcontainers.community.kafka import KafkaContainer

    settings = {
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    }
    with KafkaContainer().with_kraft().with_envs(**settings) as container:
        yield container.get_bootstrap_server()


@pytest.fixture(scope="session")
def postgres_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[URL]:
    """A PostgreSQL server where databases may be made; its URL names one that is there already."""
    chosen: str = request.config.getoption("--postgres")
    if chosen != "embedded":
        yield make_url(chosen).set(drivername="postgresql+psycopg")
        return
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False)
    server.start()
    yield make_url(server.url("postgres"))
    server.stop()


@pytest.fixture(scope="module")
def postgres(postgres_server: URL) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, new for each test module and dropped after it."""
    name = f"test_{secrets.token_hex(6)}"
    administration = postgres_server.set(drivername="postgresql").render_as_string(hide_password=False)
    database = sql.Identifier(name)
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(database))
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(database))


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of outside schemas, suites and directories. Without it the test is skipped, and in CI fails."""
    folder = Path(os.environ.get("REFBUS_REFERENCE") or _ROOT.parent / "shared" / "reference")
    if not folder.is_dir():
        reason = f"the outside reference is not at {folder}: set REFBUS_REFERENCE to its folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The codec of all messages."""
    return Codec.load()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without any setting of a bus, for a test to change."""
    for name in os.environ:
        if name.startswith("REFBUS_"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """A role that may connect and nothing more. Yields the address of the database as seen by it."""
    url, name, password = make_url(postgres), f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as owner:
        owner.execute(
            sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(password))
        )
        yield url.set(username=name, password=password).render_as_string(hide_password=False)
        owner.execute(sql.SQL("drop owned by {} cascade").format(sql.Identifier(name)))
        owner.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
