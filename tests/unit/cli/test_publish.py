"""What ``refbus publish`` sends, as whom, and how a mistake in a file is told before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args
from unittest.mock import create_autospec

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from referral_bus.cli import publish
from referral_bus.cli.errors import Rejected
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.facts import Need
from referral_bus.contracts.reference import Agreement, Organisation, Policy, RegionTable, Rules
from referral_bus.contracts.services import ServiceDefinition, Unit
from referral_bus.directory.taxonomy import crosswalks, open_eligibility
from referral_bus.embedded.reference import STANDARD_POLICY
from referral_bus.protocols import OFFICE_HOURS, shipped

SERVICE = ServiceDefinition(
    service="sv-north-pantry",
    organisation="harbor",
    name="Pantry",
    terms=[Need(code="1130")],
    units=[Unit(unit="un-north-boxes", name="box", total=5, available=5)],
)
ALL: dict[str, BaseModel] = {
    "organisation": Organisation(
        organisation="harbor",
        name="Harbor",
        kind="provider",
        roles=["provider"],
        home_region="north",
        calendar="office-hours",
    ),
    "agreement": Agreement(
        agreement="mou-1",
        recipient="harbor",
        data_classes=["facts"],
        purposes=["care_coordination"],
        legal_basis="Consent.",
        valid_from=0,
        valid_until=1,
    ),
    "protocol": shipped()[1],
    "policy": STANDARD_POLICY,
    "calendar": OFFICE_HOURS,
    "taxonomy": open_eligibility(),
    "crosswalk": crosswalks()[0],
    "rules": Rules(rules="matching", version=1),
    "regions": RegionTable(version=2, partitions={"north": 0}),
    "service": SERVICE,
}
Run = Callable[..., str]


class Sent:
    """What was published, and as whom."""

    def __init__(self) -> None:
        self.said: list[tuple[str, tuple[str, ...], BaseModel]] = []
        self.refused: str | None = None

    @contextmanager
    def connected(
        self, home: Path, organisation: str, roles: tuple[str, ...], *_: Any, **__: Any
    ) -> Iterator[Any]:
        def note(message: BaseModel) -> None:
            if self.refused is not None:
                raise Rejected(self.refused)
            self.said.append((organisation, roles, message))

        bus = create_autospec(SyncBus, instance=True)
        bus.publish.side_effect = bus.publish_service.side_effect = note
        yield bus


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()
    monkeypatch.setattr(publish, "connected", sent.connected)
    return sent


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Publish what these contents say, each a file."""

    def running(*contents: Any, options: tuple[str, ...] = ()) -> str:
        files = []
        for number, content in enumerate(contents):
            files.append(tmp_path / f"file-{number}.json")
            files[-1].write_text(content if isinstance(content, str) else json.dumps(content))
        app = typer.Typer()
        app.command()(publish.publish)
        result = CliRunner().invoke(app, [*options, *map(str, files)])
        if isinstance(result.exception, Rejected):
            return str(result.exception).replace(f"{tmp_path}/", "")
        assert result.exit_code == 0, result.output
        return result.output

    return running


def dumped(message: BaseModel) -> Any:
    return message.model_dump(mode="json")


def test_every_kind_has_its_example_here() -> None:
    assert ALL.keys() == set(get_args(publish.Kind))


@pytest.mark.parametrize("kind", ALL)
def test_each_kind_is_told_by_its_content_and_sent_as_who_may(kind: str, sent: Sent, run: Run) -> None:
    message = ALL[kind]
    said = run(dumped(message))
    assert said.startswith(f"published {kind}")
    as_whom = ("harbor", ("provider",)) if kind == "service" else ("operations", ("operations",))
    assert sent.said == [(*as_whom, message)]


@pytest.mark.parametrize("kind", ALL)
def test_it_is_the_same_in_the_form_of_the_http_route_and_with_the_kind_named(
    kind: str, sent: Sent, run: Run
) -> None:
    run({"kind": kind, "content": dumped(ALL[kind])})
    run(dumped(ALL[kind]), options=("--kind", kind))
    assert [message for _, _, message in sent.said] == [ALL[kind]] * 2


def test_lists_and_several_files_are_published_in_their_order(sent: Sent, run: Run) -> None:
    said = run([dumped(OFFICE_HOURS), dumped(ALL["protocol"])], dumped(STANDARD_POLICY))
    assert [message for _, _, message in sent.said] == [OFFICE_HOURS, ALL["protocol"], STANDARD_POLICY]
    assert said.splitlines() == [
        "published calendar office-hours 1",
        "published protocol community-referral 1",
        "published policy standard 1",
    ]


def test_what_an_import_wrote_is_published_organisations_first(sent: Sent, run: Run) -> None:
    written = {
        "services": [dumped(SERVICE)],
        "taxonomies": [dumped(open_eligibility())],
        "organisations": [dumped(ALL["organisation"])],
    }
    run(written)
    assert [message for _, _, message in sent.said] == [ALL["organisation"], open_eligibility(), SERVICE]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ([7], "neither a JSON object nor a list"),
        ({"name": "Harbor"}, "file-1.json doesn't say what it is: name it with --kind."),
        ({"kind": "king", "content": {}}, "the kind must be one of organisation, agreement"),
        (
            {**dumped(STANDARD_POLICY), "rank_by": ["beauty"]},
            "file-1.json is no policy: rank_by.0: Input should be",
        ),
        ({**dumped(STANDARD_POLICY), "opens_in": 5}, "file-1.json is no policy: opens_in: Extra inputs"),
        (
            {**dumped(STANDARD_POLICY), "trust": [{"hours": 9, "thousandths": 1}] * 2},
            "file-1.json is no policy: trust: steps go from young to old",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_field_and_nothing_is_sent(
    content: Any, sentence: str, sent: Sent, run: Run
) -> None:
    assert sentence in run(dumped(OFFICE_HOURS), content)
    assert sent.said == []


def test_the_first_that_is_refused_is_named_and_ends_it(sent: Sent, run: Run) -> None:
    sent.refused = "The version must rise. Look at the field 'content.version'. (version_not_risen)"
    said = run(dumped(STANDARD_POLICY), dumped(OFFICE_HOURS))
    assert said == f"policy standard 1 was not published: {sent.refused}"


def test_a_policy_as_it_is_printed_is_one_that_can_be_published() -> None:
    assert Policy.model_validate(dumped(STANDARD_POLICY)) == STANDARD_POLICY
