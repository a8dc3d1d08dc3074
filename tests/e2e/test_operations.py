"""Operations on a bus that is up: the runbooks are walked, and a real Prometheus answers what rules and dashboards ask of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import yaml

from referral_bus.contracts.facts import Need
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import ANY, AgeRange, ServiceDefinition, Unit
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from tests.support.commands import Terminal, first_of_free_ports, processes_of, waited_for
from tests.support.operations import PROMETHEUS, RUNBOOKS, blocks, commands_of, panels, program, rules
from tests.support.putting import put

pytestmark = pytest.mark.timeout(300)

AGENCY, PROVIDER, NEED = "line-211", "harbor", "1130"
ASKED = ("--as", AGENCY, "--need", NEED, "--area", "00011")
SERVICES = ("intake", "matching", "notifier", "projections")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A bus that is up, with a referral that went all its way and a crisis referral that waits."""
    terminal = Terminal(tmp_path_factory.mktemp("operations") / "home", first_of_free_ports())
    with terminal.up("--empty", "--regions", "north"):
        for name, kind, role in ((AGENCY, "helpline", "agency"), (PROVIDER, "provider", "provider")):
            terminal.publish(
                "organisation",
                Organisation.model_validate(
                    {
                        "organisation": name,
                        "name": name,
                        "kind": kind,
                        "roles": [role],
                        "home_region": "north",
                    }
                ),
            )
        service = ServiceDefinition(
            service="sv-north-pantry",
            organisation=PROVIDER,
            name="Pantry",
            terms=[Need(code=NEED)],
            ages=AgeRange(),
            areas=[ANY],
            languages=[ANY],
            units=[Unit(unit="un-north-boxes", name="box", total=50, available=50)],
        )
        with terminal.http("intake", PROVIDER, "provider") as intake:
            answer = intake.put(f"/v1/services/{service.service}", json=service.model_dump(mode="json"))
            token = answer.raise_for_status().json()["token"]
        with terminal.http("queries", PROVIDER, "provider") as queries:
            waited_for(lambda: "un-north" in queries.get("/v1/capacity", params={"after": token}).text)
        served = submitted(terminal, "urgent")
        task = served.replace("rf-", "tk-") + "-1"
        for words in (("acknowledge", task), ("accept", task), ("start", served), ("outcome", served)):
            more = ("--result", "need_met") if words[0] == "outcome" else ()
            terminal.json("respond", *words, *more, "--as", PROVIDER)
        submitted(terminal, "crisis")
        yield terminal


def submitted(terminal: Terminal, urgency: str) -> str:
    """A referral, once it is decided."""
    answer = terminal.json("submit", *ASKED, "--subject", uuid4().hex, "--urgency", urgency)
    return decided(terminal, answer)


def decided(terminal: Terminal, answer: dict[str, Any]) -> str:
    """The referral, once the views reflect what was decided of it."""
    referral: str = answer["referral"]
    with terminal.http("queries", AGENCY, "agency") as queries:

        def there() -> bool:
            parameters = {"after": answer["token"], "wait": "20"}
            return queries.get(f"/v1/referrals/{referral}", params=parameters).status_code == 200

        waited_for(there)
    return referral


class Page:
    """A runbook: its commands are given as they stand there, with what is in front of operations instead of the examples."""

    def __init__(self, terminal: Terminal, name: str, **examples: str) -> None:
        self._terminal = terminal
        self._commands = commands_of(RUNBOOKS / f"{name}.md")
        self._examples = examples

    def __call__(self, command: str, code: int = 0) -> str:
        """Give the page's command that begins so. Fails where it has none."""
        found = [one for one in self._commands if " ".join(one).startswith(command)]
        assert found, f"the page has no 'refbus {command}'"
        words = [self._examples.get(word, word) for word in found[0]]
        return self._terminal.run(words[0], *words[1:], code=code)


def test_the_page_of_dead_letters_leads_from_the_alert_to_an_empty_list(terminal: Terminal) -> None:
    secret = b"Wilhelmina Ashgrove-Tester is in need"
    put(terminal.addresses["kafka"], topics.outbox(AGENCY), secret)
    put(terminal.addresses["kafka"], topics.inbox("main"), b"no submission")
    letters = waited_for(lambda: _when(2, terminal.json("deadletter", "list", "--json")))
    by_reason = {one["reason"]: one["letter"] for one in letters}
    assert by_reason.keys() == {"not_sealed", "unreadable"}

    page = Page(terminal, "dead-letters", **{"0/12": by_reason["not_sealed"]})
    assert by_reason["not_sealed"] in page("deadletter list")
    shown = page("deadletter show 0/12")
    assert "never" not in shown and "Wilhelmina" not in shown and "its organisation seals it" in shown
    assert "Wilhelmina" in page("deadletter show 0/12 --open")
    assert "never sealed" in page("deadletter resend 0/12", code=1)
    assert "1 were discarded" in page("deadletter discard")
    assert "0 of 0" in page("deadletter resend --reason")

    unreadable = Page(terminal, "dead-letters", **{"0/12": by_reason["unreadable"]})
    unreadable("deadletter resend 0/12")
    again = waited_for(lambda: _when(1, terminal.json("deadletter", "list", "--json")))
    assert again[0]["letter"] != by_reason["unreadable"]
    Page(terminal, "dead-letters", **{"0/12": again[0]["letter"]})("deadletter discard")
    assert "No dead letters." in page("deadletter list")


def _when(count: int, letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return letters if len(letters) == count else []


def test_the_page_of_a_stuck_partition_shows_the_service_and_that_it_goes_on(terminal: Terminal) -> None:
    page, matching = Page(terminal, "partition-stuck"), process_of(terminal, "matching-1")
    os.kill(matching, signal.SIGSTOP)
    try:
        answer = terminal.json("submit", *ASKED, "--subject", uuid4().hex)
        assert re.search(r"matching-1: does not answer", page("doctor", code=1))
    finally:
        os.kill(matching, signal.SIGCONT)
    decided(terminal, answer)
    waited_for(lambda: "matching-1: ready" in terminal.run("doctor"))
    assert "Nothing is wrong." in page("doctor")
    assert "Every hash chain holds." in page("verify")


def process_of(terminal: Terminal, name: str) -> int:
    """The process of a service, by the folder of its state."""
    wanted = f"REFBUS_DATA_DIR={terminal.home / 'state' / name}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError(processes_of(terminal.home))


def test_the_page_of_views_that_differ_finds_the_row_and_makes_the_views_anew(
    terminal: Terminal, tmp_path: Path
) -> None:
    told = tmp_path / "refbus.prom"
    page = Page(terminal, "views-differ", **{"/var/lib/node-exporter/refbus.prom": str(told)})
    with psycopg.connect(_database(terminal), autocommit=True) as connection:
        connection.execute("update projections.referrals set outcome = 'not_met' where outcome = 'need_met'")
    found = json.loads(page("check-views --json", code=1))
    assert [one["columns"] for one in found["differences"]] == [["outcome"]]
    assert "Every hash chain holds." in page("verify")
    page("rebuild")
    assert "0 differ" in page("check-views --metrics")
    assert "refbus_views_different_rows 0.0" in told.read_text()
    Page(terminal, "views-unchecked", **{"/var/lib/node-exporter/refbus.prom": str(told)})(
        "check-views --metrics"
    )


def _database(terminal: Terminal) -> str:
    address: str = terminal.addresses["database"]
    return address.replace("+psycopg", "", 1)


def test_what_the_pages_ask_of_the_database_and_the_query_api_is_answered(terminal: Terminal) -> None:
    asked, fetched = [], []
    for page in sorted(RUNBOOKS.glob("*.md")):
        for line in blocks(page):
            words = shlex.split(line, comments=True)
            if words[:1] == ["psql"]:
                asked.append(words[words.index("-c") + 1])
            fetched += [word.removeprefix("$QUERIES") for word in words if word.startswith("$QUERIES/")]
    assert len(asked) >= 5 and len(fetched) >= 2
    with psycopg.connect(_database(terminal), autocommit=True) as connection:
        for statement in asked:
            connection.execute("set default_transaction_read_only = on")
            connection.execute(statement)  # type: ignore[arg-type]
    with terminal.http("queries", "operations", "operations") as queries:
        for path in fetched:
            assert queries.get(path).status_code == 200, path


def test_the_page_of_an_overdue_crisis_referral_says_who_was_asked(terminal: Terminal) -> None:
    referral = submitted(terminal, "crisis")
    task = referral.replace("rf-", "tk-") + "-1"
    page = Page(terminal, "crisis-overdue", **{"rf-north-example": referral, "tk-north-example-1": task})
    assert f"Offered to Pantry ({PROVIDER})" in page("explain")
    page("respond decline")
    page("referral withdraw")


@contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """A Prometheus that scrapes as it is told; gives a function that asks its API."""
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_ports(1)[0]
    address = f"127.0.0.1:{port}"
    words = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, httpx.Client(trust_env=False, timeout=20) as http:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:

            def ask(path: str, **parameters: str) -> Any:
                answer = http.get(f"http://{address}/api/v1/{path}", params=parameters)
                content = answer.json()
                assert content["status"] == "success", content
                return content["data"]

            def up() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return http.get(f"http://{address}/-/ready").status_code == 200
                except httpx.HTTPError:
                    return False

            waited_for(up)
            yield ask
        finally:
            process.terminate()
            process.wait(20)


def test_a_real_prometheus_answers_every_rule_and_every_panel(terminal: Terminal, tmp_path: Path) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "refbus.rules.yml")]
    [bus, _] = config["scrape_configs"]
    addresses = {
        name.rpartition("-")[0]: address.removeprefix("http://")
        for name, address in terminal.addresses["operations"].items()
    }
    assert [one["labels"]["service"] for one in bus["static_configs"]] == list(SERVICES)
    for one in bus["static_configs"]:
        one["targets"] = [addresses[one["labels"]["service"]]]
    config["scrape_configs"] = [bus]
    with prometheus(tmp_path / "prometheus", config) as ask:
        waited_for(lambda: _value(ask, 'sum(refbus_ready{job="refbus"})') == len(SERVICES))
        referral = submitted(terminal, "urgent")
        waited_for(lambda: _value(ask, 'sum(refbus_matching_unaccepted{urgency="urgent"})') == 1)
        terminal.json("respond", "accept", referral.replace("rf-", "tk-") + "-1", "--as", PROVIDER)
        terminal.json("referral", "withdraw", referral, "--reason", "other", "--as", AGENCY)
        waited_for(lambda: _value(ask, 'sum(refbus_matching_unaccepted{urgency="urgent"})') == 0)
        time.sleep(3)

        groups = ask("rules")["groups"]
        judged = [rule for group in groups for rule in group["rules"]]
        assert len(judged) == len(rules())
        assert [(rule["name"], rule.get("lastError")) for rule in judged if rule["health"] != "ok"] == []
        assert [
            one["labels"]["alertname"] for one in ask("alerts")["alerts"] if one["state"] == "firing"
        ] == []

        silent = set()
        for panel in panels():
            for expression in panel.expressions:
                asked = expression.replace("$__rate_interval", "1m")
                if not ask("query", query=asked)["result"]:
                    silent.add(f"{panel.dashboard}: {panel.title}")
        # What only speaks when something is wrong, or was not there in this minute.
        assert silent <= {
            "operations: Alerts",
            "operations: Records behind",
            "operations: Rebuilds",
            "operations: Refused at the border",
            "operations: Refused on the ledger",
            "operations: Failed transactions",
            "operations: Deliveries",
            "operations: Attempts that fail",
            "operations: Rows that are not as the ledger says",
            "operations: Reference data relayed",
            "programme: Referrals in vain, of all that ended in a week",
        }


def _value(ask: Callable[..., Any], expression: str) -> float | None:
    result = ask("query", query=expression)["result"]
    return float(result[0]["value"][1]) if result else None
