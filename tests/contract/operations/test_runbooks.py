"""Every alert has its page, every page is some alert's, and what a page tells to type can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.operations import ROOT, RUNBOOKS, alerts, commands_of, parsed, settings_of

PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.stem != "README")
TYPED = [
    (page.stem, words)
    for page in (*PAGES, RUNBOOKS / "README.md", ROOT / "docs" / "how-to" / "handle-dead-letters.md")
    for words in commands_of(page)
]


def test_pages_alerts_and_the_index_are_the_same() -> None:
    pages = {alert["annotations"]["runbook"] for alert in alerts()}
    assert pages == {str(page.relative_to(ROOT)) for page in PAGES}
    index = re.findall(r"^\| (Refbus\w+) \| \[([a-z-]+)\]\(([a-z-]+)\.md\) \|$", _index(), re.MULTILINE)
    assert all(name == link for _, name, link in index)
    assert {alert: f"docs/runbooks/{link}.md" for alert, _, link in index} == {
        alert["alert"]: alert["annotations"]["runbook"] for alert in alerts()
    }


def _index() -> str:
    return (RUNBOOKS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_shows_the_cause_and_what_mends_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What shows the cause", "What mends it"]
    assert len(text) < 3_000
    for part in text.split("\n## ")[1:]:
        assert re.search(r"^```\n.+?^```", part, re.MULTILINE | re.DOTALL), (
            f"no command: {part.splitlines()[0]}"
        )


@pytest.mark.parametrize(
    ("page", "words"), TYPED, ids=lambda one: one if isinstance(one, str) else " ".join(one)
)
def test_a_command_of_a_page_can_be_given_so(page: str, words: list[str]) -> None:
    parsed(words)


LOCAL = {"up", "token"}
"""They have no bus elsewhere."""


def _told() -> dict[str, set[str]]:
    """The settings of each command that has a bus elsewhere, as the index says."""
    rows = re.findall(r"^\| (`[a-z].*?) \| (`REFBUS_.*?) \| .+ \|$", _index(), re.MULTILINE)
    return {
        command: set(re.findall(r"`(\w+)`", settings))
        for commands, settings in rows
        for command in re.findall(r"`([a-z-]+)`", commands)
    }


def test_the_index_says_what_each_command_has_to_be_given_elsewhere() -> None:
    given: dict[str, set[str]] = {}
    for page, words in TYPED:
        if page != "README" and words[0] not in LOCAL:
            given.setdefault(words[0], set()).update(settings_of(words))
    assert _told() == given


def test_every_command_that_goes_to_kafka_has_a_row_in_the_table_of_rights() -> None:
    page = (ROOT / "docs" / "how-to" / "run-for-real.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`refbus [a-z].*?) \| .*`(?:Read|Create|Describe)`.* \|$", page, re.MULTILINE)
    named = [name.removeprefix("refbus ") for row in rows for name in re.findall(r"`([a-z -]+)`", row)]
    wanted = {command for command, settings in _told().items() if "REFBUS_KAFKA" in settings}
    assert len(named) == len(set(named)) and set(named) - {"restore"} == wanted


@pytest.mark.parametrize(
    "command",
    ["deadletter mend 0/1", "check-views --metric a", "explain rf-north-1", "vrify", "verify --jsn"],
)
def test_a_command_that_cannot_be_given_so_is_found(command: str) -> None:
    with pytest.raises(Exception) as refused:
        parsed(shlex.split(command))
    assert "UsageError" in {kind.__name__ for kind in type(refused.value).__mro__}


@pytest.mark.parametrize("page", (*PAGES, RUNBOOKS / "README.md"), ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).is_file(), link
