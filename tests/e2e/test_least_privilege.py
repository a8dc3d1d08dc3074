"""Each service as a user of its own, who may do what docs/how-to/run-for-real.md says and no more: the whole demo over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import AclOperation

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
from tests.support.commands import refbus
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SecuredKafka]:
    broker = SecuredKafka(tmp_path, Authority(tmp_path))
    broker.start()
    try:
        broker.admit(DEMO, secured.topic("*", ALL))
        for service, rights in RIGHTS.items():
            broker.admit(f"refbus-{service}", *rights)
        yield broker
    finally:
        broker.stop()


def test_a_demo_keeps_every_promise_where_each_service_may_do_no_more_than_it_must(
    tmp_path: Path, broker: SecuredKafka
) -> None:
    lines = ['kafka_protocol = "SASL_SSL"', f"kafka_ca = {json.dumps(str(broker.ca))}"]
    lines += [f'kafka_user = "{DEMO}"', f'kafka_password = "{PASSWORD}"']
    for service in RIGHTS:
        lines += [f"[{service}]", f'kafka_user = "refbus-{service}"']
    config = tmp_path / "refbus.toml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    result, home = tmp_path / "result.json", tmp_path / "home"
    words = ("demo", "--json", result, "--home", home, "--referrals", "20", "--kafka", broker.login)
    said = refbus(*words, within=380.0, settings={"REFBUS_CONFIG": str(config)})
    found = json.loads(result.read_text())
    assert (found["lost"], found["duplicated"], found["oversold"]) == (0, 0, 0)
    assert found["views_equal_ledger"] is True and found["broker"] == "external"
    assert found["submitted"] == found["decided"] >= 20
    assert "Every promise was kept" in said
