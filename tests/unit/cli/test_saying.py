"""What is said by ``refbus respond`` and ``refbus referral``, and how a mistake is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import call, create_autospec

import pytest
import typer
from typer.testing import CliRunner, Result

from referral_bus.cli import saying
from referral_bus.cli.errors import Rejected
from referral_bus.client.answers import Answer
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.facts import Facts, Identity, Need
from referral_bus.contracts.requests import REQUESTS, PartRequest

REFERRAL = "rf-north-aaaaaaaaaaaaaaaaaaaa"
TASK = "tk-north-aaaaaaaaaaaaaaaaaaaa-1"
UNIT = "un-north-beds"
NOW = 1_700_000_000_000
NAME = "Wilhelmina Ashgrove-Tester"
FACTS = Facts(needs=[Need(code="food")])
ANSWER = Answer(submission="s-1", region="north", token="north.0.7", referral=REFERRAL)


class Said:
    """The commands on a bus that only notes what it is told."""

    def __init__(self) -> None:
        self.bus = create_autospec(SyncBus, instance=True)
        self.connections: list[tuple[str, tuple[str, ...]]] = []
        for name in dir(SyncBus):
            if not name.startswith("_"):
                getattr(self.bus, name).return_value = ANSWER
        self.app = typer.Typer()
        self.app.add_typer(saying.respond, name="respond")
        self.app.add_typer(saying.referral, name="referral")

    @contextmanager
    def connected(
        self, home: Path, organisation: str, roles: tuple[str, ...], *_: Any, **__: Any
    ) -> Iterator[Any]:
        self.connections.append((organisation, roles))
        yield self.bus

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(self.app, [*arguments, "--as", "harbor", "--id", "s-1"])


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    said = Said()
    monkeypatch.setattr(saying, "connected", said.connected)
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 1_000_000)
    return said


def local(*parts: int) -> int:
    return int(datetime(*parts).astimezone().timestamp() * 1000)  # type: ignore[arg-type]


PROVIDERS: list[tuple[str, Any]] = [
    (f"acknowledge {TASK}", call.acknowledge(TASK, id="s-1")),
    (f"ask {TASK} Pets?", call.ask(TASK, "Pets?", id="s-1")),
    (f"accept {TASK}", call.accept(TASK, None, id="s-1")),
    (f"accept {TASK} --starts 2030-01-02T09:30", call.accept(TASK, local(2030, 1, 2, 9, 30), id="s-1")),
    (
        f"decline {TASK} --reason no_capacity",
        call.decline(TASK, "no_capacity", None, gives_back=False, id="s-1"),
    ),
    (
        f"decline {TASK} --reason full_until --until 2030-01-02",
        call.decline(TASK, "full_until", local(2030, 1, 2), gives_back=False, id="s-1"),
    ),
    (f"propose {TASK} sv-north-b", call.propose(TASK, "sv-north-b", id="s-1")),
    (
        f"contact {REFERRAL} --by phone --not-reached",
        call.contact(REFERRAL, "phone", False, NOW, id="s-1"),
    ),
    (f"no-show {REFERRAL} --at 2030-01-02T09:30", call.no_show(REFERRAL, local(2030, 1, 2, 9, 30), id="s-1")),
    (f"start {REFERRAL}", call.start(REFERRAL, NOW, id="s-1")),
    (f"outcome {REFERRAL}", call.outcome(REFERRAL, "need_met", None, None, ended_at=None, id="s-1")),
    (
        f"outcome {REFERRAL} --result not_met --cause moved_away --note Left.",
        call.outcome(REFERRAL, "not_met", "Left.", "moved_away", ended_at=None, id="s-1"),
    ),
    (
        f"outcome {REFERRAL} --at 2030-01-02T09:30",
        call.outcome(REFERRAL, "need_met", None, None, ended_at=local(2030, 1, 2, 9, 30), id="s-1"),
    ),
    (
        f"capacity {UNIT} --total 12 --available 3",
        call.report_capacity(UNIT, 12, 3, NOW, id="s-1"),
    ),
    (
        f"capacity {UNIT} --total 12 --available 0 --at 2030-01-02T09:30",
        call.report_capacity(UNIT, 12, 0, local(2030, 1, 2, 9, 30), id="s-1"),
    ),
]
AGENCIES: list[tuple[str, Any]] = [
    (
        f"amend {REFERRAL} --urgency crisis",
        call.amend(REFERRAL, urgency="crisis", facts=None, identity=None, id="s-1"),
    ),
    (f"transfer {REFERRAL} school", call.transfer(REFERRAL, "school", id="s-1")),
    (f"withdraw {REFERRAL} --reason moved_away", call.withdraw(REFERRAL, "moved_away", id="s-1")),
    (f"answer {TASK} Two.", call.answer(TASK, "Two.", id="s-1")),
]
EITHERS: list[tuple[str, Any]] = [
    (
        f"hold {REFERRAL} --reason in_custody --until 2030-01-02",
        call.hold(REFERRAL, "in_custody", local(2030, 1, 2), id="s-1"),
    ),
    (f"resume {REFERRAL}", call.resume(REFERRAL, id="s-1")),
    (f"handoff {REFERRAL} --by phone", call.confirm_handoff(REFERRAL, "phone", NOW, id="s-1")),
    (
        f"follow-up {REFERRAL} --days 90 --result partly_met",
        call.follow_up(REFERRAL, 90, "partly_met", None, id="s-1"),
    ),
    (f"retract {REFERRAL} 17", call.retract(REFERRAL, 17, id="s-1")),
]


@pytest.mark.parametrize(
    ("command", "role", "expected"),
    [
        *((f"respond {words}", "provider", expected) for words, expected in (*PROVIDERS, *EITHERS)),
        *((f"referral {words}", "agency", expected) for words, expected in (*AGENCIES, *EITHERS)),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_command_says_one_thing_in_one_role(said: Said, command: str, role: str, expected: Any) -> None:
    result = said.run(*command.split(" "))
    assert result.exit_code == 0, result.output
    assert said.bus.mock_calls == [expected]
    assert said.connections == [("harbor", (role,))]
    assert json.loads(result.output)["token"] == "north.0.7"


def test_what_is_longer_than_a_line_is_read_from_a_file(said: Said, tmp_path: Path) -> None:
    facts, parts, changes = (tmp_path / f"{name}.json" for name in ("facts", "parts", "changes"))
    facts.write_text(FACTS.model_dump_json())
    part = PartRequest(urgency="urgent", facts=FACTS)
    parts.write_text(json.dumps({"parts": [part.model_dump(mode="json")] * 2}))
    changes.write_text(json.dumps({"identity": {"name": NAME}}))
    for words in (
        ("reopen", REFERRAL, str(facts), "--reason", "need_returned"),
        ("split", REFERRAL, str(parts)),
        ("amend", REFERRAL, str(changes)),
    ):
        result = said.run("referral", *words)
        assert result.exit_code == 0, result.output
    assert said.bus.mock_calls == [
        call.reopen(REFERRAL, "need_returned", FACTS, id="s-1"),
        call.split(REFERRAL, [part, part], id="s-1"),
        call.amend(REFERRAL, urgency=None, facts=None, identity=Identity(name=NAME), id="s-1"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("respond", "follow-up", REFERRAL, "--days", "31", "--result", "need_met"),
        ("referral", "amend", REFERRAL),
        ("referral", "split", REFERRAL, "{file}"),
        ("referral", "amend", REFERRAL, "{file}"),
        ("referral", "reopen", REFERRAL, "{file}", "--reason", "other"),
        ("referral", "split", REFERRAL, "missing.json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_wrong_is_a_sentence_that_repeats_nothing_of_the_person(
    said: Said, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"urgency": NAME, "parts": [{"facts": NAME}]}))
    result = said.run(*(word.format(file=file) for word in words))
    assert isinstance(result.exception, Rejected), result.output
    told = str(result.exception)
    assert told.endswith(".") and NAME not in told
    assert said.bus.mock_calls == []


@pytest.mark.parametrize(
    "words",
    [
        ("respond", "decline", TASK),
        ("respond", "decline", TASK, "--reason", "because"),
        ("respond", "decline", TASK, "--reason", "full_until", "--until", "soon"),
        ("respond", "contact", REFERRAL, "--by", "phone"),
        ("respond", "withdraw", REFERRAL, "--reason", "other"),
        ("referral", "withdraw", REFERRAL),
    ],
)
def test_what_is_missing_or_no_word_of_the_bus_is_said_before_anybody_is_told(
    said: Said, words: tuple[str, ...]
) -> None:
    assert said.run(*words).exit_code == 2
    assert said.bus.mock_calls == []


def test_there_is_a_command_for_everything_that_can_be_said_of_a_referral_an_offer_or_places() -> None:
    names = {
        str(command.name or "")
        for group in (saying.respond, saying.referral)
        for command in group.registered_commands
    }
    routes = {
        "amend", "hold", "resume", "transfer", "split", "reopen", "withdraw", "acknowledge", "accept", "decline", "ask",
        "answer", "propose", "start", "no-show", "contact", "handoff", "outcome", "follow-up",
            "retract",
        "capacity",
    }  # fmt: skip
    assert names == routes
    # Besides these a referral is submitted, and a service is published.
    assert len(routes) == len(REQUESTS) - 2
