"""``refbus demo`` on a Kafka and a database that somebody else runs. Over TLS, and each service as a user of its own, who may do what
docs/how-to/run-for-real.md says and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic

from referral_bus.log.topics import (
    deadletter,
    delivery,
    disclosure,
    feed,
    group,
    inbox,
    ledger,
    outbox,
    reference,
)
from tests.support import secured
from tests.support.certificates import Authority
from tests.support.commands import demo, refbus
from tests.support.secured import PASSWORD, Right, SecuredKafka, transactions

pytestmark = pytest.mark.timeout(400)

BUS: Final = "demo"
READ, WRITE, CREATE, ALL = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.ALL
DESCRIBE, CONFIGS = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
FEEDS: Final = feed(BUS, "")
OUTBOXES: Final = outbox("").partition(".")[0] + "."

RIGHTS: Final[dict[str, list[Right]]] = {
    "intake": [
        secured.topic(ledger(BUS), READ),
        secured.topic(inbox(BUS), WRITE),
        secured.topic(reference(BUS), READ, WRITE),
        secured.topic(deadletter(BUS), WRITE),
        secured.topic(FEEDS, WRITE, CREATE, CONFIGS, prefix=True),
        secured.topic(OUTBOXES, READ, CREATE, CONFIGS, prefix=True),
        secured.group(group(BUS, "intake"), READ),
    ],
    "matching": [
        secured.topic(inbox(BUS), READ, WRITE),
        secured.topic(ledger(BUS), READ, WRITE),
        secured.topic(reference(BUS), READ),
        secured.topic(deadletter(BUS), WRITE),
        secured.group(group(BUS, "matching"), READ),
        secured.group(group(BUS, "relay"), READ),
        transactions(f"{group(BUS, 'matching')}-"),
    ],
    "notifier": [
        secured.topic(ledger(BUS), READ),
        secured.topic(disclosure(BUS), WRITE),
        secured.topic(delivery(BUS), WRITE),
        secured.topic(FEEDS, WRITE, prefix=True),
        secured.group(group(BUS, "notifier"), READ),
    ],
    "projections": [
        secured.topic(ledger(BUS), READ),
        secured.topic(disclosure(BUS), WRITE),
        secured.group(group(BUS, "projections"), READ),
    ],
}
DEMO: Final = "demo"
"""Who plays the parties, makes the topics, reads all of them and deletes them in the end."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """With a topic of somebody's."""
    folder = tmp_path_factory.mktemp("broker")
    broker = SecuredKafka(folder, Authority(folder))
    broker.start()
    try:
        _make(broker, "somebodys")
        broker.admit(DEMO, secured.topic("*", ALL))
        for service, rights in RIGHTS.items():
            broker.admit(f"refbus-{service}", *rights)
        yield broker
    finally:
        broker.stop()


def _make(broker: SecuredKafka, topic: str) -> None:
    admin = _admin(broker)
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result(30)


def _topics(broker: SecuredKafka) -> set[str]:
    return {name for name in _admin(broker).list_topics(timeout=30).topics if not name.startswith("__")}


def _admin(broker: SecuredKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def test_a_demo_keeps_every_promise_where_each_service_may_do_no_more_than_it_must_and_leaves_all_as_it_was(
    tmp_path: Path, broker: SecuredKafka, postgres: str
) -> None:
    lines = ['kafka_protocol = "SASL_SSL"', f"kafka_ca = {json.dumps(str(broker.ca))}"]
    lines += [f'kafka_user = "{DEMO}"', f'kafka_password = "{PASSWORD}"']
    for service in RIGHTS:
        lines += [f"[{service}]", f'kafka_user = "refbus-{service}"']
    config = tmp_path / "refbus.toml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elsewhere = ("--kafka", broker.login, "--database", postgres)
    settings = {"REFBUS_CONFIG": str(config)}
    found, said = demo(tmp_path, "--referrals", "20", *elsewhere, settings=settings)
    assert found["submitted"] == found["decided"] >= 20
    assert (found["broker"], found["kafka_version"]) == ("external", None)
    assert "Every promise was kept" in said
    assert _topics(broker) == {"somebodys"}
    with psycopg.connect(postgres.replace("+psycopg", "", 1)) as connection:
        schemas = connection.execute("select nspname from pg_namespace where nspname !~ '^pg_'").fetchall()
    assert {name for (name,) in schemas} == {"information_schema", "public"}


def test_a_demo_does_not_touch_a_kafka_that_holds_a_bus(tmp_path: Path, broker: SecuredKafka) -> None:
    _make(broker, "refbus.demo.inbox")
    refused = refbus("demo", "--kafka", broker.bootstrap, "--home", tmp_path / "home", code=1)
    assert "has topics of a bus already, such as refbus.demo.inbox" in refused and "Traceback" not in refused
    assert {"somebodys", "refbus.demo.inbox"} <= _topics(broker)
