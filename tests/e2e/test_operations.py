"""Operations on a bus that is up: every runbook is walked, from its alert's condition to the end of it, and a real Prometheus answers
what rules and dashboards ask of it.

A walk is a generator: up to its ``yield`` it brings about what the alert warns of, and from there on it does what the page says. What it
waits for is the alert's own expression, asked of a Prometheus that scrapes the bus. An alert that warns of two things has two walks: one of
them yields the metric by which the other thing is seen, and what is waited for is that part of the expression alone."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from referral_bus.access.tokens import issue_token, jwks_of, new_signing_key
from referral_bus.cli.home import Pid
from referral_bus.cli.party import connected, development_token, roles_of
from referral_bus.client.events import cloud_event, new_id
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.facts import Need
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import OfferLimits, Organisation, Protocol
from referral_bus.contracts.requests import CapacityRequest
from referral_bus.contracts.services import ANY, AgeRange, ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import Role, Urgency
from referral_bus.embedded.bus import LocalBus, Plan, local_bus
from referral_bus.embedded.process import ChildProcess
from referral_bus.embedded.reference import STANDARD_POLICY, publish_defaults
from referral_bus.embedded.supervising import PAUSES
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.runtime.refusals import TOLD_IN_A_ROW
from tests.chaos.cluster.skewed import set_wrong
from tests.support.commands import in_process, waited_for
from tests.support.notifying import Receiver, receiving
from tests.support.operations import ROOT, alerts, panels, program, rules
from tests.support.putting import put
from tests.support.walking import (
    Ask,
    Page,
    condition,
    prometheus,
    scraping,
    served,
    with_programs_of_the_database,
)
from tests.support.whole_bus import now_ms, request

pytestmark = pytest.mark.timeout(300)

AGENCY, PROVIDER, NEED = "line-211", "harbor", "1130"
PLACES: Final = 500
REGIONS: Final = ("north", "south")
"""Nothing happens in the second but what stands still there."""
TOLD: Final = "refbus.prom"
TOLD_OF_BACKUPS: Final = "refbus-backup.prom"
TOLD_OF_LETTERS: Final = "refbus-dead-letters.prom"
NODE_EXPORTER: Final = "/var/lib/node-exporter"
EXAMPLE_FILE: Final = f"{NODE_EXPORTER}/{TOLD}"
LONG_AGO_MS: Final = 26 * 3_600_000
PAGES: Final = {Path(alert["annotations"]["runbook"]).stem: alert["alert"] for alert in alerts()}


class Place(NamedTuple):
    """A bus that is up and supervised, a Prometheus that scrapes it, and a receiver of webhooks. ``folder`` is where commands are given."""

    folder: Path
    bus: LocalBus
    ask: Ask
    receiver: Receiver

    @property
    def home(self) -> Path:
        return self.bus.plan.home

    @property
    def database(self) -> str:
        return self.bus.addresses.database.replace("+psycopg", "", 1)

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    def log_of(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    @contextmanager
    def party(self, organisation: str, *roles: Role) -> Iterator[SyncBus]:
        with connected(self.home, organisation, roles, None) as bus:
            yield bus

    def refer(self, urgency: Urgency = "urgent", **more: Any) -> str:
        """A referral, once it is decided and the views reflect it."""
        with self.party(AGENCY, "agency") as agency:
            answer = agency.submit(request(NEED, urgency=urgency, **more))
            assert answer.referral is not None
            agency.timeline(answer.referral, after=answer.token, wait=20.0)
            return answer.referral

    def count(self, unit: str, times: int) -> None:
        """The provider counts its places so many times."""
        said = CapacityRequest(unit=unit, total=PLACES, available=PLACES, true_at=now_ms())
        with self.party(PROVIDER, "provider") as provider:
            for begin in range(0, times, 500):
                events = [
                    cloud_event(said.model_copy(update={"true_at": now_ms()}), PROVIDER, new_id(), now_ms())
                    for _ in range(begin, min(times, begin + 500))
                ]
                assert all(not isinstance(answer, Exception) for answer in provider.send(events))

    @contextmanager
    def locked(self, table: str, mode: str) -> Iterator[int]:
        """Somebody locks a table and goes on with nothing, until the session is ended; yields which it is."""
        connection = psycopg.connect(self.database)
        try:
            connection.execute(f"lock table {table} in {mode} mode")  # type: ignore[call-overload]
            yield connection.info.backend_pid
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        finally:
            connection.close()

    def holds(self, expression: str) -> bool:
        return bool(self.ask("query", query=expression)["result"])

    @contextmanager
    def elsewhere(self, speaks_as: str = AGENCY) -> Iterator[None]:
        """As on another machine: no home is there, and all a command is given are the settings that the index of the runbooks names."""
        addresses, secrets, empty = self.bus.addresses, self.home / "secrets", self.folder / "elsewhere"
        empty.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(empty)
            for name, value in {
                "REFBUS_BUS": self.bus.plan.bus,
                "REFBUS_KAFKA": addresses.kafka,
                "REFBUS_DATABASE_URL": addresses.database,
                "REFBUS_OPERATIONS": json.dumps(addresses.operations),
                "REFBUS_FACTS_KEY_FILE": str(secrets / "facts_key"),
                "REFBUS_OPERATIONS_KEY_FILE": str(secrets / "operations_key"),
                "REFBUS_INTAKE": addresses.intake,
                "REFBUS_NOTIFIER": addresses.notifier,
                "REFBUS_TOKEN": development_token(self.home, speaks_as, ("agency", "provider")),
            }.items():
                patched.setenv(name, value)
            yield


Walk = Callable[[Place, Page], Iterator[str | None]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The bus of all walks. Its provider counted its places a day ago: matching's clock was behind then, which nothing else is."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("operations")
    skew = folder / "skew"
    (folder / "told").mkdir()
    certified(folder / "tls.crt", days=90)
    plan = Plan(
        folder / ".refbus",
        partitions=2,
        durable=False,
        settings={
            "REFBUS_CERTIFICATES": json.dumps({"proxy": str(folder / "tls.crt")}),
            "REFBUS_WEBHOOK_ALLOW_HTTP_LOOPBACK": "true",
            "REFBUS_WEBHOOK_FIRST_RETRY_SECONDS": "3600",
            # One walk follows on the other sooner than a receiver would break down again.
            "REFBUS_RESEND_PAUSE_SECONDS": "1",
        },
    )
    set_wrong(skew, -LONG_AGO_MS)
    with ExitStack() as stack:
        stack.enter_context(Pid(plan.home))
        portal = stack.enter_context(start_blocking_portal())
        bus = stack.enter_context(portal.wrap_async_context_manager(local_bus(plan)))
        portal.call(_started_as, bus, "matching-1", "tests.chaos.cluster.skewed", "matching", str(skew))
        portal.call(_started_as, bus, "intake-1", "tests.support.hurried")
        portal.call(publish_defaults, bus, list(REGIONS))
        receiver = stack.enter_context(portal.wrap_async_context_manager(receiving()))
        supervised = portal.start_task_soon(bus.supervise, print)
        stack.callback(supervised.cancel)
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        for name, kind, role in ((AGENCY, "helpline", "agency"), (PROVIDER, "provider", "provider")):
            content = {
                "organisation": name,
                "name": name,
                "kind": kind,
                "roles": [role],
                "home_region": "north",
            }
            _publish(plan.home, bus, Organisation.model_validate(content))
        _publish(plan.home, bus, PROMPT)
        _offer(bus, "north")
        set_wrong(skew, 0)
        # It is read a few times a second.
        time.sleep(1)
        _offer(bus, "south")
        operations = {
            name.rpartition("-")[0]: address.removeprefix("http://")
            for name, address in bus.addresses.operations.items()
        }
        told = stack.enter_context(served(folder / "told"))
        ask = stack.enter_context(prometheus(folder / "prometheus", scraping(operations, told)))
        database = bus.addresses.database.replace("+psycopg", "", 1)
        for name, value in {
            "QUERIES": bus.addresses.queries,
            "DATABASE": database,
            "ADMIN": database.replace("/refbus?", "/postgres?"),
            "JWKS": (plan.home / "secrets" / "jwks").as_uri(),
            "TOKEN": development_token(plan.home, "operations", roles_of("operations")),
            "PATH": with_programs_of_the_database(),
            "NO_PROXY": "127.0.0.1",
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }.items():
            patched.setenv(name, value)
        patched.chdir(folder)
        yield Place(folder, bus, ask, receiver)
        assert not supervised.done(), supervised.result()


PROMPT: Final = Protocol(
    protocol="prompt",
    offer_limits=OfferLimits(crisis=1_000, urgent=60_000, routine=600_000),
    maximum_offers=5,
    parking_ms=2_000,
    usual_for=[],
    silence="escalates",
    referral_limits=OfferLimits(crisis=86_400_000, urgent=86_400_000, routine=86_400_000),
)
"""A crisis offer that nobody answers is overdue after a second, and stays open."""


async def _started_as(bus: LocalBus, name: str, module: str, *words: str) -> None:
    """The service is started anew by a module of the tests, which changes how it counts time."""
    former = bus.processes[name]
    await former.stop()
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    bus.processes[name] = ChildProcess(
        name,
        [sys.executable, "-m", module, *words],
        {**former.environment, "PYTHONPATH": path},
        former.log,
    )
    await bus.start_service(name)


def _publish(home: Path, bus: LocalBus, message: Message) -> None:
    with connected(home, "operations", ("operations",), None) as operations:
        operations.publish(message)


def _offer(bus: LocalBus, region: str) -> None:
    """A service of the provider with more places than there are referrals, once the views reflect it."""
    service = ServiceDefinition(
        service=f"sv-{region}-pantry",
        organisation=PROVIDER,
        name="Pantry",
        terms=[Need(code=NEED)],
        ages=AgeRange(),
        areas=[ANY],
        languages=[ANY],
        units=[Unit(unit=f"un-{region}-boxes", name="box", total=PLACES, available=PLACES)],
    )
    with connected(bus.plan.home, PROVIDER, ("provider",), None) as provider:
        answer = provider.publish_service(service)
        waited_for(lambda: service.units[0].unit in str(provider.capacity(after=answer.token, wait=5.0)))


def certified(file: Path, days: int) -> None:
    """A certificate that ends in so many days."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, None)
    )
    file.write_bytes(made.public_bytes(Encoding.PEM))


def task_of(referral: str, attempt: int = 1) -> str:
    return f"{referral.replace('rf-', 'tk-')}-{attempt}"


def _value(ask: Ask, expression: str) -> float | None:
    result = ask("query", query=expression)["result"]
    return float(result[0]["value"][1]) if result else None


def test_every_rule_is_evaluated_and_a_bus_that_is_well_is_said_to_be(place: Place) -> None:
    waited_for(lambda: _value(place.ask, 'sum(refbus_ready{job="refbus"})') == 4)
    waited_for(lambda: _value(place.ask, 'sum(refbus_hindered{job="refbus"})') == 0)
    _served(place, place.refer())
    referral = place.refer()
    waited_for(lambda: _value(place.ask, 'sum(refbus_matching_unaccepted{urgency="urgent"})') == 1)
    _served(place, referral)
    waited_for(lambda: _value(place.ask, 'sum(refbus_matching_unaccepted{urgency="urgent"})') == 0)
    judged = [rule for group in place.ask("rules")["groups"] for rule in group["rules"]]
    assert len(judged) == len(rules())
    assert [(rule["name"], rule.get("lastError")) for rule in judged if rule["health"] != "ok"] == []
    # The places were counted a day ago, the views never checked, and no backup was taken: that is walked below.
    assert {one["alert"] for one in alerts() if place.holds(one["expr"])} == {
        "RefbusBackupOld",
        "RefbusCapacityStale",
        "RefbusViewsUnchecked",
    }


def _served(place: Place, referral: str) -> None:
    with place.party(PROVIDER, "provider") as provider:
        provider.acknowledge(task_of(referral))
        provider.accept(task_of(referral))
        provider.start(referral, now_ms())
        provider.outcome(referral, "need_met")


def backup_old(place: Place, page: Page) -> Iterator[None]:
    """The last one is old, and what should have been the next was ended while it was taken."""
    backups, told = place.folder / "backups", place.folder / "told" / TOLD_OF_BACKUPS
    former, unfinished = backups / "2026-11-24", backups / "2026-11-25"
    in_process("backup", str(former), "--metrics", str(told))
    long_ago = time.time() - 3 * 86_400
    told.write_text(re.sub(r"(?m)^(\w+_timestamp_seconds) .*$", rf"\1 {long_ago}", told.read_text()))
    (unfinished / "topics").mkdir(parents=True)
    yield
    example, folder = {NODE_EXPORTER: str(told.parent)}, {"/backups": str(backups)}
    assert f"refbus_backup_finished_timestamp_seconds {long_ago}" in page("cat", example)
    assert unfinished.name in page("ls", folder)
    page("df", folder)
    assert "Nothing is wrong." in page("refbus doctor")
    page("rm", {"/backups/2026-11-20": str(unfinished)})
    assert f"files are in {backups}" in page("refbus backup", {**folder, **example})
    assert sorted(one.parent.name for one in backups.glob("*/manifest.json")) == [former.name, "2026-11-26"]
    [size] = re.findall(r"(?m)^refbus_backup_size_bytes (.+)$", told.read_text())
    taken = backups / "2026-11-26"
    assert float(size) == sum(one.stat().st_size for one in taken.rglob("*") if one.is_file())


def capacity_stale(place: Place, page: Page) -> Iterator[None]:
    yield
    assert PROVIDER in page("psql")
    assert "un-north-boxes" in page("curl")
    Path("policy.json").write_text(STANDARD_POLICY.model_dump_json())
    days = {
        "2026-05-01": str(datetime.now(UTC).date() - timedelta(days=3)),
        "2026-05-08": str(datetime.now(UTC).date() + timedelta(days=2)),
    }
    page("refbus whatif", days)
    page(
        "refbus respond capacity",
        {"un-north-example": "un-north-boxes", "8 --available 5 ": f"{PLACES} --available {PLACES} "},
    )


def crisis_overdue(place: Place, page: Page) -> Iterator[None]:
    first, second = (place.refer("crisis", protocol="prompt") for _ in range(2))
    yield
    assert first in page("curl") and first in page("psql")
    with place.elsewhere():
        shown = page("refbus explain", {"rf-north-example": first})
    assert f"Offered to Pantry ({PROVIDER})" in shown
    with place.elsewhere(PROVIDER):
        page("refbus respond accept", {"tk-north-example-1": task_of(first)})
    page("refbus respond decline", {"tk-north-example-1": task_of(second)})
    page("refbus referral withdraw", {"rf-north-example": second})
    # It declined because it is full, which is believed until it counts again.
    place.count("un-north-boxes", 1)


def dead_letters(place: Place, page: Page) -> Iterator[None]:
    secret = b"Wilhelmina Ashgrove-Tester is in need"
    put(place.bus.addresses.kafka, topics.outbox(AGENCY), secret)
    put(place.bus.addresses.kafka, topics.inbox("main"), b"no submission")
    letters = waited_for(lambda: _letters(2))
    by_reason = {one["reason"]: one["letter"] for one in letters}
    assert by_reason.keys() == {"not_sealed", "unreadable"}
    yield
    example, not_sealed = "0/12", by_reason["not_sealed"]
    assert not_sealed in page("refbus deadletter list")
    shown = page("refbus deadletter show 0/12 ", {example: not_sealed})
    assert "never" not in shown and "Wilhelmina" not in shown and "its organisation seals it" in shown
    with place.elsewhere():
        assert "Wilhelmina" in page("refbus deadletter show 0/12 --open", {example: not_sealed})
    assert "never sealed" in page("refbus deadletter resend 0/12", {example: not_sealed}, code=1)
    assert "1 were discarded" in page("refbus deadletter discard", {example: not_sealed})
    assert "0 of 0" in page("refbus deadletter resend --reason")

    page("refbus deadletter resend 0/12", {example: by_reason["unreadable"]})
    again = waited_for(lambda: _letters(1))
    assert again[0]["letter"] != by_reason["unreadable"]
    page("refbus deadletter discard", {example: again[0]["letter"]})
    assert "No dead letters." in page("refbus deadletter list")


def dead_letters_open(place: Place, page: Page) -> Iterator[None]:
    """One was put away long ago, of which nothing more is heard than that it is open."""
    put(place.bus.addresses.kafka, topics.inbox("main"), b"no submission")
    [letter] = waited_for(lambda: _letters(1))
    example = _told_of_letters(place)
    in_process("deadletter", "list", "--metrics", f"{example[NODE_EXPORTER]}/{TOLD_OF_LETTERS}")
    yield
    assert "refbus_dead_letters_open 1.0" in page("cat", example)
    assert letter["letter"] in page("refbus deadletter list ")
    page("refbus deadletter resend", {"0/12": letter["letter"]})
    [again] = waited_for(lambda: [one for one in _letters(1) if one != letter])
    page("refbus deadletter discard", {"0/13": again["letter"]})
    assert "No dead letters." in page("refbus deadletter list --metrics", example)


def dead_letters_nobody_looked_for(place: Place, page: Page) -> Iterator[str]:
    example, long_ago = _told_of_letters(place), time.time() - 3 * 86_400
    told = Path(example[NODE_EXPORTER]) / TOLD_OF_LETTERS
    told.write_text(f"refbus_dead_letters_open 0\nrefbus_dead_letters_looked_timestamp_seconds {long_ago}\n")
    yield "refbus_dead_letters_looked_timestamp_seconds"
    assert f"{long_ago}" in page("cat", example)
    page("refbus deadletter list --metrics", example)


def _told_of_letters(place: Place) -> dict[str, str]:
    return {NODE_EXPORTER: str(place.folder / "told")}


def _letters(count: int) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = json.loads(in_process("deadletter", "list", "--json"))
    return letters if len(letters) == count else []


def _subscribed(place: Place) -> None:
    """The provider hears of its offers by webhook."""
    address = f"{place.bus.addresses.notifier}/v1/subscriptions"
    body = {"channel": "webhook", "role": "provider", "url": place.receiver.url}
    headers = {"authorization": f"Bearer {development_token(place.home, PROVIDER, ('provider',))}"}
    with httpx.Client(trust_env=False, headers=headers) as http:
        if not http.get(address).raise_for_status().json()["subscriptions"]:
            http.post(address, json=body).raise_for_status()


def _received(place: Place) -> set[str]:
    return {one.headers["webhook-id"] for one in place.receiver.received}


def _waiting() -> str:
    """The deliveries to the provider that are not done, as it is told of them."""
    return json.dumps([one for one in _deliveries() if one["state"] == "waiting"])


def _deliveries() -> list[dict[str, Any]]:
    listed = in_process("deliveries", "list", "--as", PROVIDER, "--most", "1000", "--json")
    return [json.loads(line) for line in listed.splitlines()]


def deliveries_failing(place: Place, page: Page) -> Iterator[None]:
    _subscribed(place)
    place.receiver.otherwise = 500
    for _ in range(3):
        place.refer()
    yield
    assert "Nothing is wrong." in page("refbus doctor")
    assert re.search(rf"{PROVIDER}.*webhook.*http_500", page("psql"))
    assert len(re.findall(r" OfferMade .* waiting .* http_500 ", page("refbus deliveries list"))) == 3
    place.receiver.otherwise = 204
    with place.elsewhere(PROVIDER):
        assert "3 deliveries are attempted anew." in page("refbus deliveries resend")
    waited_for(lambda: _waiting() == "[]")
    for _ in range(4):
        place.refer()


def deliveries_given_up(place: Place, page: Page) -> Iterator[None]:
    _subscribed(place)
    place.receiver.otherwise = 410
    place.refer()
    yield
    assert re.search(rf"{PROVIDER}.*http_410", page("psql"))
    place.receiver.otherwise = 204
    assert "1 delivery is attempted anew." in page("refbus deliveries resend")
    waited_for(lambda: all(one["state"] != "given_up" for one in _deliveries()))
    # This command goes on until it is ended, so it gets a process of its own.
    page.until_said("refbus follow", "offer made", place.folder / "follow")


def deliveries_late(place: Place, page: Page) -> Iterator[None]:
    _subscribed(place)
    place.receiver.otherwise = 500
    place.refer()
    waited_for(lambda: '"reason": "http_500"' in _waiting())
    with place.locked("notifier.subscriptions", "exclusive") as session:
        with psycopg.connect(place.database) as connection:
            connection.execute(
                f"update notifier.deliveries set due_at = {now_ms() - 400_000} where done_at is null"  # type: ignore[call-overload]
            )
        yield
        place.receiver.otherwise = 204
        assert re.search(
            rf"^ {PROVIDER} +\| webhook \| +0 \| +1 \|", page('psql "$DATABASE" -c "select d'), re.MULTILINE
        )
        _ended(page, session)
    waited_for(lambda: _waiting() == "[]")


def deliveries_untaken(place: Place, page: Page) -> Iterator[None]:
    """A notice was enqueued more than an hour ago, and its receiver does not take it."""
    _subscribed(place)
    place.receiver.otherwise = 500
    place.refer()
    waited_for(lambda: '"reason": "http_500"' in _waiting())
    with psycopg.connect(place.database) as connection:
        connection.execute(
            f"update notifier.deliveries set enqueued_at = {now_ms() - 4_000_000} where done_at is null"  # type: ignore[call-overload]
        )
    yield
    assert re.search(rf"^ {PROVIDER} +\| webhook \| http_500 +\| +1 \|", page("psql"), re.MULTILINE)
    assert len(re.findall(r" waiting .* http_500 ", page("refbus deliveries list"))) == 1
    place.receiver.otherwise = 204
    assert "1 delivery is attempted anew." in page("refbus deliveries resend")
    waited_for(lambda: _waiting() == "[]")


def _ended(page: Page, session: int, behind: str = "") -> None:
    """The session that holds up others is named by doctor, and what is behind; it is ended as the page says."""
    waited_for(lambda: f"session {session} of the database: has locked" in in_process("doctor", code=None))

    def shown() -> bool:
        # A service that tries again what it can't do is not behind for a moment: it takes its partition anew.
        said = page("refbus doctor", code=1)
        assert f"select pg_terminate_backend({session})" in said
        return re.search(behind, said) is not None

    waited_for(shown)
    page('psql "$DATABASE" -c "select pg_terminate_backend', {"4711": str(session)})


def expiry(place: Place, page: Page) -> Iterator[None]:
    certified(place.certificate, days=5)
    jwks = place.home / "secrets" / "jwks"
    [key] = json.loads(jwks.read_text())["keys"]
    jwks.write_text(json.dumps({"keys": [{**key, "exp": time.time() + 5 * 86_400}]}))
    # A key that is not in the set has it read again, but not within ten seconds of the last time.
    following = new_signing_key()
    waited_for(lambda: not _let_in(place, following) and place.holds(_ends_soon("token_keys")))
    assert place.holds(_ends_soon("proxy"))
    yield
    example = {"/etc/tls/tls.crt": str(place.certificate)}
    until = datetime.now(UTC) + timedelta(days=5)
    assert f"{until:%Y} GMT" in page("openssl", example)
    assert '"exp"' in page("curl")
    certified(Path("renewed.crt"), days=90)
    page("install", example)
    waited_for(lambda: not place.holds(_ends_soon("proxy")))
    assert place.holds(_ends_soon("token_keys"))
    [published] = json.loads(jwks_of(following))["keys"]
    jwks.write_text(json.dumps({"keys": [*json.loads(jwks.read_text())["keys"], published]}))
    waited_for(lambda: _let_in(place, following))


def _ends_soon(what: str) -> str:
    """What the alert asks, of one of the things that end."""
    metric = "refbus_expires_timestamp_seconds"
    return condition("RefbusExpiry").replace(metric, f'{metric}{{what="{what}"}}')


def _let_in(place: Place, key: str) -> bool:
    """Whether a token that is signed with this key is taken."""
    token = issue_token(key, place.bus.plan.bus, AGENCY, ("agency",))
    headers = {"authorization": f"Bearer {token}"}
    status = httpx.get(
        f"{place.bus.addresses.queries}/v1/caseload", headers=headers, trust_env=False
    ).status_code
    assert status in (200, 401)
    return status == 200


def key_set_old(place: Place, page: Page) -> Iterator[None]:
    """The file is gone. For intake an hour is over in less than one minute."""
    jwks = place.home / "secrets" / "jwks"
    jwks.rename("jwks.json")
    yield
    # The keys that were read before count.
    place.refer()
    page("curl", code=37)
    assert "FileNotFoundError" in page("grep")
    page("install", {"/etc/refbus/jwks.json": str(jwks)})
    # As refbus up made it: doctor holds all secrets of a local bus to be its owner's alone.
    jwks.chmod(0o600)


def lag(place: Place, page: Page) -> Iterator[None]:
    with place.locked("projections.units", "access exclusive") as session:
        place.count("un-north-boxes", 1_200)
        yield
        _ended(page, session, r"projections-1: ready, \d{4} behind on refbus.main.ledger/0")


def not_ready(place: Place, page: Page) -> Iterator[None]:
    with psycopg.connect(os.environ["ADMIN"], autocommit=True) as connection:
        connection.execute("alter database refbus with allow_connections false")
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'refbus'")
    yield
    shown = page("refbus doctor", code=1)
    assert "database: can't be reached" in shown and "not ready" in shown
    assert "not currently accepting connections" in page('psql "$DATABASE"', code=2)
    page('psql "$ADMIN"')
    waited_for(lambda: _value(place.ask, 'sum(refbus_ready{job="refbus"})') == 4)
    assert "Every hash chain holds." in page("refbus verify")


def not_ready_in_part(place: Place, page: Page) -> Iterator[str]:
    """Somebody looks into an outbox with a program that says it is intake, just when intake is out of its group for a moment."""
    command = [
        sys.executable,
        "-m",
        "tests.support.stranger",
        place.bus.addresses.kafka,
        "refbus-main-intake",
    ]
    intake = place.bus.processes["intake-1"].pid
    with subprocess.Popen([*command, topics.outbox(AGENCY)], stdout=subprocess.PIPE, cwd=ROOT) as stranger:
        try:
            os.kill(intake, signal.SIGSTOP)
            assert stranger.stdout is not None and stranger.stdout.readline() == b"in\n"
            os.kill(intake, signal.SIGCONT)
            yield "refbus_hindered"
            assert not place.holds("refbus_ready == 0")
            shown = page("refbus doctor", code=1)
            assert "intake-1: ready, but outboxes waits for its share of the outboxes" in shown
            assert "group refbus-main-intake: in it is somebodys-script at 127.0.0.1" in shown
            assert "InconsistentGroupProtocolError" in page("grep")
            page("kill", {"4711": str(stranger.pid)})
        finally:
            os.kill(intake, signal.SIGCONT)
            stranger.terminate()


def partition_stuck(place: Place, page: Page) -> Iterator[None]:
    with place.locked("projections.units", "access exclusive") as session:
        place.count("un-south-boxes", 1)
        yield
        # The mark that ends a transaction may count as a record.
        _ended(page, session, r"projections-1: ready, [12] behind on refbus.main.ledger/1")
        # It is no outbox.
        page("grep", code=1)
    waited_for(lambda: "behind" not in in_process("doctor", code=None))
    assert "Nothing is wrong." in page("refbus doctor")
    assert "Every hash chain holds." in page("refbus verify")


def partition_stuck_of_an_outbox(place: Place, page: Page) -> Iterator[str]:
    """The topic of the dead letters is gone, and on one outbox is what belongs there."""
    kafka, gone = place.bus.addresses.kafka, topics.deadletter("main")
    asyncio.run(KafkaLog(kafka).delete(gone))
    put(kafka, topics.outbox(AGENCY), b"never sealed")
    yield "refbus_intake_outbox_still_seconds"
    assert f"{topics.outbox(AGENCY)} has stood still for 300 s" in page("grep -h 'has stood still'")
    # A client that knew the topic takes its partition for one without a leader at first.
    waited_for(lambda: f"dead letters are not put yet: there is no topic {gone}" in page("grep -hE"))
    assert f"there is no topic {gone}" in page("refbus doctor", code=1)
    page("refbus topics", {"--partitions 8 --replication 3": "--partitions 2"})
    waited_for(lambda: _letters(1))


def refused_by_one(place: Place, page: Page) -> Iterator[None]:
    token = development_token(place.home, AGENCY, ("agency",))
    address = f"{place.bus.addresses.intake}/v1/referrals"
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {token}"}) as http:
        for _ in range(60):
            assert http.post(address, json={"subject": 1}).status_code == 422
    with place.party(PROVIDER, "provider") as provider:
        provider.report_capacity("un-north-boxes", PLACES, PLACES, now_ms() - LONG_AGO_MS)
    yield
    assert f"{AGENCY} had 50 submissions refused in ten minutes (border)" in page("grep")
    waited_for(lambda: "capacity_outdated" in page("psql"))
    Path("referral.json").write_text(request(NEED).model_dump_json(exclude_none=True))
    assert "rf-north-" in page("refbus submit")
    before = place.bus.processes["intake-1"].pid
    page("kill")
    waited_for(lambda: place.bus.processes["intake-1"].pid != before)
    waited_for(lambda: "intake-1: ready" in in_process("doctor", code=None))
    for _ in range(3):
        place.refer()


def refused_in_a_row(place: Place, page: Page) -> Iterator[None]:
    said = f"{AGENCY} had {TOLD_IN_A_ROW} submissions refused one after the other (border)"
    before = place.log_of("intake-1").read_text().count(said)
    referral = place.refer()
    _served(place, referral)
    with place.party(AGENCY, "agency") as agency:
        agency.withdraw(referral, "moved_away")
    token = development_token(place.home, AGENCY, ("agency",))
    address = f"{place.bus.addresses.intake}/v1/referrals"
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {token}"}) as http:
        for _ in range(TOLD_IN_A_ROW):
            assert http.post(address, json={"subject": 1}).status_code == 422
    yield
    assert page("grep").count(said) == before + 1
    waited_for(lambda: "WithdrawReferral" in page("psql"))
    Path("referral.json").write_text(request(NEED).model_dump_json(exclude_none=True))
    assert "rf-north-" in page("refbus submit")


def tokens_refused(place: Place, page: Page) -> Iterator[None]:
    """The identity provider gives tokens of another bus. For intake ten minutes are over in six seconds."""
    signing = (place.home / "secrets" / "token_key").read_text()
    token = issue_token(signing, "another", AGENCY, ("agency",))
    address = f"{place.bus.addresses.intake}/v1/referrals"
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {token}"}) as http:

        def refused_and_told() -> bool:
            assert http.post(address, json={"subject": 1}).status_code == 401
            return place.holds(condition("RefbusTokensRefused"))

        waited_for(refused_and_told)
    yield
    assert "intake" in (said := page("grep")) and "and none was taken: The token is for another bus." in said
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOKEN", token)
        assert "The token is for another bus" in page("curl -sS -H")
        assert '"aud":"refbus:another"' in page("python3").replace(" ", "")
    kid = json.loads(signing)["kid"]
    assert kid in page('curl -sS "$JWKS"')
    Path("referral.json").write_text(request(NEED).model_dump_json(exclude_none=True))
    assert "rf-north-" in page("refbus submit")


def service_down(place: Place, page: Page) -> Iterator[None]:
    os.kill(place.bus.processes["intake-1"].pid, signal.SIGSTOP)
    yield
    assert "intake-1: does not answer" in page("refbus doctor", code=1)
    with place.elsewhere():
        shown = page("refbus doctor", code=1)
    assert "intake-1: does not answer" in shown and "matching-1: ready" in shown
    page("tail")
    page("kill -9")
    waited_for(lambda: "intake-1: ready" in in_process("doctor", code=None))
    place.refer()


def views_differ(place: Place, page: Page) -> Iterator[None]:
    told = {EXAMPLE_FILE: str(place.folder / "told" / TOLD)}
    with psycopg.connect(place.database, autocommit=True) as connection:
        connection.execute(
            "update projections.referrals set outcome = 'not_met' "
            "where referral = (select min(referral) from projections.referrals where outcome = 'need_met')"
        )
    in_process("check-views", "--metrics", told[EXAMPLE_FILE], code=3)
    yield
    # How far it is stands behind it, on the other stream of a terminal.
    shown = page("refbus check-views --json", code=3)
    found = json.loads(shown[: shown.rindex("}") + 1])
    assert [one["columns"] for one in found["differences"]] == [["outcome"]]
    with place.elsewhere():
        assert "Every hash chain holds." in page("refbus verify")
        page("refbus rebuild")
        assert "0 differ" in page("refbus check-views --metrics", told)


def views_unchecked(place: Place, page: Page) -> Iterator[None]:
    told = place.folder / "told" / TOLD
    told.write_text(f"refbus_views_checked_timestamp_seconds {time.time() - 3 * 86_400}\n")
    yield
    example = {EXAMPLE_FILE: str(told)}
    assert "refbus_views_checked_timestamp_seconds" in page("cat", example)
    page("refbus check-views --metrics", example)


WALKS: Final[dict[str, tuple[Walk, ...]]] = {
    walks[0].__name__.replace("_", "-"): walks
    for walks in (
        (backup_old,),
        (capacity_stale,),
        (crisis_overdue,),
        (dead_letters,),
        (dead_letters_open, dead_letters_nobody_looked_for),
        (deliveries_failing,),
        (deliveries_given_up,),
        (deliveries_late,),
        (deliveries_untaken,),
        (expiry,),
        (key_set_old,),
        (lag,),
        (not_ready, not_ready_in_part),
        (partition_stuck, partition_stuck_of_an_outbox),
        (refused_by_one,),
        (refused_in_a_row,),
        (service_down,),
        (tokens_refused,),
        (views_differ,),
        (views_unchecked,),
    )
}
_FOR_AN_HOUR: Final = "[1h]"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_leads_from_its_alert_to_the_end_of_it(place: Place, name: str) -> None:
    page = Page(name)
    for walk in WALKS[name]:
        _walked(place, PAGES[name], walk(place, page))
    assert page.not_given() == []
    WALKED.add(name)


def _walked(place: Place, alert: str, walk: Iterator[str | None]) -> None:
    metric, expression = next(walk), condition(alert)
    if metric is not None:
        [expression] = [part for part in re.split(r"\bor\b", expression) if metric in part]
    waited_for(lambda: place.holds(expression))
    assert list(walk) == []
    if _FOR_AN_HOUR in expression:
        # That something happened is told for an hour. What is mended does not happen again.
        mended = time.monotonic()
        time.sleep(3)
        since = f"[{time.monotonic() - mended:.0f}s]"
        assert place.holds(expression.replace(_FOR_AN_HOUR, since).replace("> 0", "== 0"))
        assert not place.holds(expression.replace(_FOR_AN_HOUR, since))
    else:
        waited_for(lambda: not place.holds(expression))


WALKED: Final[set[str]] = set()


def test_every_panel_has_shown_something(place: Place) -> None:
    """Asked as Grafana asks, for all the time since the bus came up, once everything has gone wrong that the runbooks are for."""
    if PAGES.keys() - WALKED:
        pytest.skip("the panels are asked once all runbooks were walked: run the whole file")
    end = time.time()
    since = {"start": str(end - 900), "end": str(end), "step": "1"}
    silent = {
        f"{panel.dashboard}: {panel.title}"
        for panel in panels()
        for expression in panel.expressions
        if not _shown(
            place.ask("query_range", query=expression.replace("$__rate_interval", "15s"), **since)["result"]
        )
    }
    assert silent <= MAY_BE_SILENT.keys()


def _shown(series: list[dict[str, Any]]) -> bool:
    """Whether there is something to be seen: a quantile of nothing is a sample too, and no number."""
    return any(not math.isnan(float(value)) for one in series for _, value in one["values"])


MAY_BE_SILENT: Final = {
    "operations: Rebuilds": "less than a second passes while a partition's little ledger is read, which may fall between two scrapes",
}
"""Panels, and why there need be nothing to show."""


def test_a_service_that_ends_again_and_again_is_told_of_though_it_answers_in_between(place: Place) -> None:
    """The last test of the file, since it is told for a quarter of an hour. Of a service that no walk ends, since whoever ended more often
    within a minute than it does here is not started again."""
    started, up = (
        f'{asked}{{job="refbus", service="notifier"}}' for asked in ("process_start_time_seconds", "up")
    )
    for _ in PAUSES:
        before, process = _value(place.ask, started), place.bus.processes["notifier-1"].pid
        os.kill(process, signal.SIGKILL)
        waited_for(lambda: _value(place.ask, started) not in (None, before))  # noqa: B023 - it is waited for here
    assert _value(place.ask, up) == 1
    waited_for(lambda: place.holds(condition("RefbusServiceDown")))
    waited_for(lambda: "notifier-1: ready" in in_process("doctor", code=None))
