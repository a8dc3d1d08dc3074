"""The commands together: what the help says of them, and what they cost before they are run."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from referral_bus.cli.later import Later
from referral_bus.cli.main import app, commands

HEAVY = {"aiokafka", "alembic", "fastapi", "httpx", "jgo", "numpy", "psycopg", "sqlalchemy"}


def imported(*words: str) -> set[str]:
    """Which of the heavy packages a command imports, in a process of its own."""
    program = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from referral_bus.cli.main import app\n"
        f"done = CliRunner().invoke(app, {list(words)!r})\n"
        "print(json.dumps([done.exit_code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout)
    assert code == 0
    return HEAVY.intersection(modules)


def test_the_help_imports_no_client_of_broker_or_database() -> None:
    assert imported("--help") == set()


def test_a_command_imports_nothing_of_another() -> None:
    assert imported("token", "--help") <= {"httpx"}


@pytest.mark.parametrize("point", commands(), ids=lambda point: point.name)
def test_the_help_says_of_a_command_what_it_says_itself(point: EntryPoint) -> None:
    found = point.load()
    said = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert said and Later(point).help == said
    assert CliRunner().invoke(app, [point.name, "--help"]).exit_code == 0


def test_a_command_whose_module_is_gone_is_named() -> None:
    with pytest.raises(ImportError, match=r"lost.*referral_bus\.cli\.gone"):
        _ = Later(EntryPoint("lost", "referral_bus.cli.gone:lost", "refbus.commands")).help


def test_an_unknown_command_is_answered_with_one_that_is_meant() -> None:
    done = CliRunner().invoke(app, ["tokens"])
    assert done.exit_code == 2 and "'token'" in done.output


def test_a_kafka_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from referral_bus.cli import main\n"
        "from referral_bus.log import kafka\n"
        "kafka.CONNECT_SECONDS = 0.5\n"
        f"sys.argv = ['refbus', 'topics', '--partitions', '1', '--home', {str(tmp_path)!r}]\n"
        "main()"
    )
    environment = {**os.environ, "REFBUS_KAFKA": "127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    [said] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "") and said.startswith("refbus: look up topics: no answer")
