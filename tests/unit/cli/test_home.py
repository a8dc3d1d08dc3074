"""What a command takes from a home: where its bus is, unless something else says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import addresses, local_settings
from referral_bus.cli.main import app
from referral_bus.log.access import KafkaAccess
from referral_bus.log.kafka import KafkaLog
from referral_bus.store.port import StoreError
from services.matching import commands as of_matching
from services.matching.settings import LookSettings
from services.projections import commands as of_projections
from services.projections.settings import ViewsSettings
from tests.support.commands import write_addresses

pytestmark = pytest.mark.usefixtures("environment")

COMMANDS = ("verify", "rebuild", "check-views")
DATABASE = "postgresql+psycopg://nowhere/none"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_addresses(tmp_path, bus="county", kafka="127.0.0.1:9", database=DATABASE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "facts_key").write_text("key\n")
    return tmp_path


def test_a_home_says_where_its_bus_is_and_gives_the_secrets_it_holds(home: Path) -> None:
    found = {"bus": "county", "kafka": "127.0.0.1:9", "database_url": DATABASE, "facts_key": "key"}
    assert local_settings(home, "facts_key", "operations_key") == found


def test_a_home_in_which_no_bus_ever_ran_says_nothing(tmp_path: Path) -> None:
    assert addresses(tmp_path) is None and local_settings(tmp_path, "facts_key") == {}


@pytest.mark.parametrize("name", ["REFBUS_KAFKA", "REFBUS_KAFKA_FILE"])
def test_what_the_environment_says_counts_before_the_home(
    home: Path, environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, "elsewhere:9092")
    assert local_settings(home) == {"bus": "county", "database_url": DATABASE}


def test_where_a_file_of_settings_is_named_the_home_says_nothing(
    home: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REFBUS_CONFIG", "/etc/refbus.toml")
    assert local_settings(home, "facts_key") == {}


def test_a_command_takes_the_table_of_the_service_whose_settings_it_takes(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refbus.toml").write_text(
        """
        database_url = "postgresql+psycopg://nowhere/none"
        [matching]
        facts_key = "facts"
        operations_public_key = "public"
        snapshot_events = 1000
        [projections]
        master_key = "master"
        jwks = "/etc/jwks.json"
        """
    )
    environment.setenv("REFBUS_CONFIG", str(tmp_path / "refbus.toml"))
    assert LookSettings.load().facts_key.get_secret_value() == "facts"
    assert ViewsSettings.load().database_url.get_secret_value() == DATABASE


def asked(monkeypatch: pytest.MonkeyPatch, home: Path, command: str) -> tuple[str, str]:
    """The bus and the Kafka that a command would read."""
    found: list[tuple[str, str]] = []

    def ledger(bus: str) -> str:
        found.append((bus, kafka[0]))
        raise StoreError("far enough")

    kafka: list[str] = []

    def log(access: KafkaAccess) -> KafkaLog:
        kafka.append(access.bootstrap)
        return KafkaLog(access)

    for module in (of_matching, of_projections):
        monkeypatch.setattr(module, "KafkaLog", log)
        monkeypatch.setattr(module.topics, "ledger", ledger)
    CliRunner().invoke(app, [command, "--home", str(home)])
    return found[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_reads_the_ledger_reads_that_of_the_same_bus(
    home: Path, environment: pytest.MonkeyPatch, command: str
) -> None:
    assert asked(environment, home, command) == ("county", "127.0.0.1:9")
    environment.setenv("REFBUS_BUS", "other")
    environment.setenv("REFBUS_KAFKA", "elsewhere:9092")
    assert asked(environment, home, command) == ("other", "elsewhere:9092")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"{", b"\xff"], ids=repr)
def test_addresses_that_are_damaged_are_said_to_be_so(home: Path, content: bytes) -> None:
    (home / "addresses.json").write_bytes(content)
    (home / "secrets" / "token_key").write_text("key")
    for words in (
        *((command,) for command in COMMANDS),
        ("token", "food-bank"),
        ("topics", "--partitions", "1"),
    ):
        result = CliRunner().invoke(app, [*words, "--home", str(home)])
        assert isinstance(result.exception, Rejected), words
        assert f"{home / 'addresses.json'} is not readable as the addresses of a bus" in str(result.exception)
