"""``refbus`` against a bus that is up: each command a process, as in a second terminal.

One home has all tests. Its bus begins without the made-up county, and comes up with it once it has ended and is started again.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from referral_bus.cli.party import connected
from referral_bus.contracts.facts import Need
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import ANY, AgeRange, ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import OrganisationKind, Role
from referral_bus.demo.county import REGIONS
from tests.support.commands import Running, Terminal, first_of_free_ports, processes_of, refbus, waited_for
from tests.support.whole_bus import now_ms, request

pytestmark = pytest.mark.timeout(240)

NAME = "Wilhelmina Ashgrove-Tester"
AGENCY = "crisis-line"
"""None of the county's."""
NEED = "1128"
"""That no service of the county meets, though some meet others of the term above it."""
FURTHER_REGION = "west"
"""Besides those that a bus has unless it is told."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(tmp_path_factory.mktemp("up") / "home", first_of_free_ports())


@pytest.fixture(scope="module")
def bus(home: Terminal) -> Iterator[Running]:
    with home.up("--empty", "--regions", ",".join((*REGIONS, FURTHER_REGION))) as running:
        yield running


@pytest.fixture(scope="module")
def terminal(home: Terminal, bus: Running) -> Terminal:
    """A bus that is up, with an agency and a provider that has two services."""
    _publish(home, AGENCY, "helpline", ["agency"])
    _publish(home, "harbor", "provider", ["provider"])
    for number in (1, 2):
        _offer(home, number)
    return home


@pytest.fixture(scope="module")
def held(terminal: Terminal) -> tuple[str, dict[str, Any]]:
    """What the bus holds before its end, and where it is: a referral that went well, and the addresses."""
    return _served(terminal, "kept"), terminal.addresses


@pytest.fixture(scope="module")
def again(terminal: Terminal, bus: Running, held: object) -> Iterator[Running]:
    """The bus of the same home, ended by Ctrl-C and brought up again."""
    assert bus.stop(signal.SIGINT) == 0
    assert processes_of(terminal.home) == []
    with terminal.up() as running:
        yield running


def _publish(terminal: Terminal, name: str, kind: OrganisationKind, roles: list[Role]) -> None:
    organisation = Organisation(organisation=name, name=name, kind=kind, roles=roles, home_region="north")
    terminal.publish("organisation", organisation)


def _offer(terminal: Terminal, number: int) -> None:
    service = ServiceDefinition(
        service=f"sv-north-pantry-{number}",
        organisation="harbor",
        name=f"Pantry {number}",
        terms=[Need(code=NEED)],
        ages=AgeRange(),
        areas=[ANY],
        languages=[ANY],
        units=[Unit(unit=f"un-north-boxes-{number}", name="box", total=50, available=50)],
    )
    with terminal.http("intake", "harbor", "provider") as intake:
        answer = intake.put(f"/v1/services/{service.service}", json=service.model_dump(mode="json"))
        token = answer.raise_for_status().json()["token"]
    with terminal.http("queries", "harbor", "provider") as queries:

        def there() -> bool:
            page = (
                queries.get("/v1/capacity", params={"after": token, "limit": 200}).raise_for_status().json()
            )
            return f"un-north-boxes-{number}" in [row["unit"] for row in page["items"]]

        waited_for(there)


def _timeline(terminal: Terminal, referral: str, token: str | None = None) -> dict[str, Any]:
    with terminal.http("queries", AGENCY, "agency") as queries:
        params = {"after": token, "wait": "20"} if token else {}
        found: dict[str, Any] = (
            queries.get(f"/v1/referrals/{referral}", params=params).raise_for_status().json()
        )
        return found


def _served(terminal: Terminal, subject: str) -> str:
    """A referral that went well from submission to outcome; its id. By the SDK, which is quicker than a command for each step."""
    with (
        connected(terminal.home, AGENCY, ("agency",), None) as agency,
        connected(terminal.home, "harbor", ("provider",), None) as provider,
    ):
        answer = agency.submit(request(NEED, subject=subject))
        referral = answer.referral
        assert referral is not None
        offered = agency.timeline(referral, after=answer.token, wait=20.0)
        provider.accept(offered["task"])
        provider.start(referral, now_ms())
        closed = provider.outcome(referral, "need_met", "Well.")
        assert agency.timeline(referral, after=closed.token, wait=20.0)["outcome"] == "need_met"
        return referral


def test_a_referral_lives_by_commands_and_its_agency_follows_it(terminal: Terminal, tmp_path: Path) -> None:
    following = terminal.start(tmp_path / "follow", "follow", "--as", AGENCY, "--after", "0")
    said = ("--as", AGENCY, "--need", NEED, "--area", "00011", "--name", NAME)
    answer = terminal.json("submit", *said, "--subject", "followed", "--id", "cli-followed")
    referral = answer["referral"]
    offered = _timeline(terminal, referral, answer["token"])
    assert offered["standing"] == "offered"
    inbox = terminal.run("show", "inbox", "--as", "harbor", "--after", answer["token"])
    assert offered["task"] in inbox
    waits = [
        json.loads(line) for line in terminal.run("show", "queue", "--as", "harbor", "--json").splitlines()
    ]
    assert {one["waits_for"] for one in waits if one["referral"] == referral} == {"answer", "acknowledge"}
    terminal.json("respond", "accept", offered["task"], "--as", "harbor")
    terminal.json("respond", "start", referral, "--as", "harbor")
    closed = terminal.json("respond", "outcome", referral, "--as", "harbor", "--note", "Well.")
    assert _timeline(terminal, referral, closed["token"])["outcome"] == "need_met"
    following.until_said("referral closed")
    assert following.stop(signal.SIGINT) == 0
    lines = [line for line in following.said.splitlines() if referral in line or referral[3:] in line]
    heard = ["referral opened", "offer made", "offer accepted", "service started", "outcome reported"]
    assert [word for word in heard if not any(word in line for line in lines)] == []
    assert NAME not in following.said
    assert referral in terminal.run("show", "caseload", "--as", AGENCY, "--most", "200")
    assert "un-north-boxes-1" in terminal.run("show", "capacity", "--as", "harbor")
    assert "standard" in terminal.run("show", "reference", "policy", "--as", AGENCY)


def test_a_token_of_the_command_line_is_good_for_its_organisation_and_roles(terminal: Terminal) -> None:
    token = terminal.run("token", AGENCY, "--roles", "agency").strip()
    authorised = {"authorization": f"Bearer {token}"}
    address = terminal.addresses["queries"]
    assert httpx.get(f"{address}/v1/caseload", headers=authorised, trust_env=False).status_code == 200
    assert httpx.get(f"{address}/v1/inbox", headers=authorised, trust_env=False).status_code == 403
    assert httpx.get(f"{address}/v1/caseload", trust_env=False).status_code == 401


def test_the_same_id_is_answered_alike_and_another_body_is_refused_in_a_sentence(terminal: Terminal) -> None:
    said = ("--as", AGENCY, "--need", NEED, "--subject", "twice", "--id", "cli-twice")
    assert terminal.json("submit", *said) == terminal.json("submit", *said)
    refused = terminal.run("submit", *said, "--urgency", "crisis", code=1)
    assert "(id_reused)" in refused and "Traceback" not in refused


def test_explain_says_how_a_referral_was_matched_and_makes_the_table_anew(terminal: Terminal) -> None:
    referral = _served(terminal, "explained")
    said = terminal.run("explain", referral, "--as", AGENCY, "--full")
    for words in (
        f"Opened for {AGENCY}",
        "Match 1: of 2 services",
        "Accepted by harbor",
        "Outcome: need met",
    ):
        assert words in said
    assert "the table of 2 services is the one that was decided by" in said
    refused = terminal.run("explain", referral, "--as", "maple", code=1)
    assert "no referral" in refused and "Traceback" not in refused


def test_a_need_coded_by_the_gravity_project_is_offered_to_a_service_of_open_eligibility_and_explained(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "referral.json"
    facts = {"needs": [{"vocabulary": "gravity", "code": "food-insecurity"}]}
    file.write_text(json.dumps({"subject": "from-hospital", "urgency": "urgent", "facts": facts}))
    answer = terminal.json("submit", file, "--as", AGENCY)
    offered = _timeline(terminal, answer["referral"], answer["token"])
    assert offered["standing"] == "offered" and offered["service"].startswith("sv-north-pantry")
    said = terminal.run("explain", answer["referral"], "--as", AGENCY)
    assert "gravity-openeligibility@1" in said and "95 % sure" in said


def test_a_policy_and_places_are_put_on_the_bus_by_commands(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    policy = {"policy": "county", "rank_by": ["certainty", "load", "lottery"], "seed": "county, first seed"}
    file.write_text(json.dumps(policy))
    assert terminal.run("publish", file).strip() == "published policy county 1"
    again = terminal.run("publish", file, code=1)
    assert "policy county 1 was not published" in again and "'content.version'" in again

    def decides() -> bool:
        return "(policy county 1)" in terminal.run("explain", _served(terminal, "by-county"), "--as", AGENCY)

    waited_for(decides)

    words = ("respond", "capacity", "un-north-boxes-2", "--total", "60", "--available", "7", "--as", "harbor")
    token = terminal.json(*words)["token"]
    with terminal.http("queries", "harbor", "provider") as queries:
        page = queries.get("/v1/capacity", params={"after": token, "wait": "20", "limit": 200}).json()
    [unit] = [row for row in page["items"] if row["unit"] == "un-north-boxes-2"]
    assert unit["total"] == 60


def test_verify_finds_everything_as_it_was(terminal: Terminal) -> None:
    _served(terminal, "verified")
    report = terminal.json("verify", "--json")
    assert (report["good"], report["different"], report["broken"], report["erased"]) == (True, 0, [], 0)
    assert report["same"] == report["decisions"] > 10


def test_check_views_finds_a_row_that_somebody_changed_and_rebuild_mends_it(terminal: Terminal) -> None:
    referral = _served(terminal, "tampered")
    _sql(terminal, f"update projections.referrals set outcome = 'not_met' where referral = '{referral}'")
    told = terminal.home / "views.prom"
    # How far it is stands behind it, from the other stream.
    said = terminal.run("check-views", "--json", "--metrics", told, code=3)
    found, _ = json.JSONDecoder().raw_decode(said)
    assert [one["columns"] for one in found["differences"]] == [["outcome"]]
    assert "refbus_views_different_rows 1.0" in told.read_text()
    assert "serve now" in terminal.run("rebuild")
    found = terminal.json("check-views", "--json", "--metrics", told)
    assert (found["equal"], found["different"]) == (True, 0)
    assert found["rows"]["referrals"] >= 1
    assert "refbus_views_different_rows 0.0" in told.read_text()


def test_doctor_finds_nothing_wrong_with_a_bus_that_is_up(terminal: Terminal) -> None:
    said = terminal.run("doctor")
    assert "Nothing is wrong." in said
    assert all(f"{name}-1: ready" in said for name in ("intake", "matching", "notifier", "projections"))


def test_a_directory_is_published_and_its_services_are_there(terminal: Terminal, reference: Path) -> None:
    examples = reference / "hsds-3.1" / "examples"
    said = refbus(
        *("directory", "import", examples, "--region", FURTHER_REGION, "--publish"),
        *("--intake", terminal.addresses["intake"], "--signing-key", terminal.home / "secrets" / "token_key"),
    )
    assert "Published" in said and "were refused" not in said
    count = int(said.split("Published ")[1].split(" of ")[0])
    assert count >= 1
    with terminal.http("queries", "harbor", "provider") as queries:

        def units() -> bool:
            page = queries.get("/v1/capacity", params={"limit": 200}).raise_for_status().json()
            services = {row["service"] for row in page["items"] if row["region"] == FURTHER_REGION}
            return len(services) == count

        waited_for(units)


def test_a_person_who_is_forgotten_is_gone_from_the_views_and_verify_says_erased(terminal: Terminal) -> None:
    referral = _served(terminal, "forgotten")
    forgotten = terminal.json("forget", "forgotten", "--organisation", AGENCY, "--yes")
    gone = _timeline(terminal, referral, forgotten["tokens"]["north"])
    assert (gone["erased"], gone["subject"]) == (True, None)
    report = terminal.json("verify", "--json")
    assert (report["good"], report["different"]) == (True, 0)
    assert report["erased"] >= 1
    assert terminal.json("check-views", "--json")["equal"]


def test_a_second_bus_in_the_same_home_is_refused_in_a_sentence(terminal: Terminal) -> None:
    refused = refbus("up", "--home", terminal.home, "--first-port", str(terminal.first_port), code=1)
    assert "up in" in refused and "refbus down" in refused and "Traceback" not in refused


def test_what_a_bus_holds_survives_its_end(
    terminal: Terminal, held: tuple[str, dict[str, Any]], again: Running
) -> None:
    referral, addresses = held
    assert terminal.addresses == addresses
    kept = _timeline(terminal, referral)
    assert (kept["standing"], kept["outcome"]) == ("closed", "need_met")
    assert terminal.json("verify", "--json")["good"]
    _served(terminal, "next")


def test_a_bus_that_is_not_brought_up_empty_has_a_county_to_try_it_with(
    terminal: Terminal, again: Running, tmp_path: Path
) -> None:
    words = ("--as", "line-211", "--subject", "one", "--need", "1135", "--age", "34", "--area", "00019")
    answer = terminal.json("submit", *words, "--language", "en", "--name", NAME)
    with terminal.http("queries", "line-211", "agency") as queries:
        found = queries.get(f"{answer['follow']}&wait=20").raise_for_status()
    assert found.json()["referral"] == answer["referral"]
    explained = terminal.run("explain", answer["referral"], "--as", "line-211")
    [provider] = re.findall(r"Offered to .* \(([a-z0-9-]+)\)", explained)
    heard = terminal.start(
        tmp_path / "heard", "follow", "--as", provider, "--role", "provider", "--after", "0"
    )
    heard.until_said("offer made")
    offer = heard.said
    task = answer["referral"].replace("rf-", "tk-") + "-1"
    terminal.run("respond", "accept", task, "--as", provider)
    heard.until_said("offer accepted")
    accepted = heard.said
    heard.stop(signal.SIGINT)
    assert NAME not in offer and '"facts"' in offer
    assert NAME in accepted


def test_a_bus_ends_by_a_command_and_what_it_held_is_removed_only_by_wipe(
    terminal: Terminal, again: Running
) -> None:
    assert "The bus is down." in terminal.run("down")
    assert again.process.wait(5) == 0
    assert processes_of(terminal.home) == []
    assert terminal.home.exists()

    assert "is removed" in terminal.run("down", "--wipe")
    assert not terminal.home.exists()


def _sql(terminal: Terminal, statement: str) -> None:
    address = terminal.addresses["database"].replace("+psycopg", "", 1)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(statement)
