"""Over TLS and with a login, on a real broker: the log does what it does in the clear, and who is not let in hears why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import AclOperation

from referral_bus.backup.cluster import cluster
from referral_bus.backup.errors import BackupError
from referral_bus.embedded.ports import free_ports
from referral_bus.log.access import KafkaAccess, secured
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import (
    GroupMember,
    LogError,
    LogRefused,
    LogUnavailable,
    Outgoing,
    Partition,
    Record,
    TopicSpec,
)
from referral_bus.log.topics import deadletter, outbox, reference
from referral_bus.runtime.clock import SystemClock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.wire.codec import Codec
from services.notifier.stream import LedgerStream
from tests.support.certificates import Authority
from tests.support.commands import refbus
from tests.support.secured import PASSWORD, SecuredKafka, group, topic

SECONDS: Final = 30.0
TOPIC: Final = "secured"
ZERO: Final = Partition(TOPIC, 0)
WRONG: Final = "wrong-donkey"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecuredKafka]:
    broker = SecuredKafka(tmp_path_factory.mktemp("secured"), authority)
    broker.start()
    try:
        everything = AclOperation.ALL
        broker.admit("scram", topic("*", everything), group("*", everything))
        broker.admit("reader", topic(TOPIC, AclOperation.READ), group("readers", AclOperation.READ))
        asyncio.run(_made(broker))
        yield broker
    finally:
        broker.stop()


async def _made(broker: SecuredKafka) -> None:
    log = KafkaLog(broker.bootstrap)
    await log.ensure([TopicSpec(TOPIC, 1)])
    await log.close()
    async with cluster(broker.bootstrap) as there:
        # A new broker has nowhere to keep groups before it has one.
        await there.place("made", {ZERO: 0})


def mutual(broker: SecuredKafka, authority: Authority) -> KafkaAccess:
    certificate, key = authority.sign("client")
    return secured(broker.mutual, "SSL", ca=authority.certificate, certificate=certificate, key=key)


WAYS: Final[dict[str, Callable[[SecuredKafka, Authority], KafkaAccess]]] = {
    "plain": lambda broker, _: broker.access(),
    "certificate": mutual,
}


class Heard:
    """A member's partitions begin at the first record."""

    async def assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        member.seek(dict.fromkeys(partitions, 0))
        member.resume(partitions)

    async def revoked(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        pass


async def polled(member: GroupMember, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while len(found) < count:
        for records in (await member.poll(wait=0.2)).values():
            found += [record.value for record in records]
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_the_log_does_what_it_does_in_the_clear(
    broker: SecuredKafka, authority: Authority, way: str
) -> None:
    name, log, heard = f"whole.{way}", KafkaLog(WAYS[way](broker, authority)), Heard()
    zero, readers = Partition(name, 0), f"whole-{way}"
    try:
        async with asyncio.timeout(SECONDS):
            await log.ensure([TopicSpec(name, 1)])
            appender = await log.appender()
            await appender.append([Outgoing(name, 0, b"key", b"appended")])
            writer = await log.transactor(f"{readers}-0")
            await writer.commit([Outgoing(name, 0, b"key", b"committed")], readers, {zero: 1})
            reader = await log.reader(zero)
            end = await reader.end()
            found: list[Record] = []
            while reader.position() < end:
                found += await reader.read(reader.position(), wait=0.5)
            assert [one.value for one in found] == [b"appended", b"committed"]
            member = await log.join(readers, [name], assigned=heard.assigned, revoked=heard.revoked)
            assert await polled(member, 2) == [b"appended", b"committed"]
            assert await member.committed([zero]) == {zero: 1}
            assert await log.strangers([readers]) == {}
    finally:
        await log.close()


async def test_the_notifiers_stream_reads_over_it(broker: SecuredKafka) -> None:
    log = KafkaLog(broker.access("scram"))
    await (await log.appender()).append([Outgoing(TOPIC, 0, b"key", b"heard")])
    await log.close()
    heard: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value for record in records)

    # This user may read the topic and be in the group, and nothing else.
    running = asyncio.create_task(LedgerStream(broker.access("reader"), "readers", TOPIC, handle).run())
    try:
        async with asyncio.timeout(SECONDS):
            while heard != [b"heard"]:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def refused(access: KafkaAccess) -> set[str]:
    """What is said to each kind of client, without what it was doing. None takes long, and none tells the password."""
    said = set()
    for doing in ("appender", "reader", "topics", "join"):
        log, heard, began = KafkaLog(access), Heard(), time.monotonic()
        with pytest.raises(LogRefused) as refusal:
            if doing == "appender":
                await log.appender()
            elif doing == "reader":
                await log.reader(ZERO)
            elif doing == "topics":
                await log.topics()
            else:
                await log.join("readers", [TOPIC], assigned=heard.assigned, revoked=heard.revoked)
        assert time.monotonic() - began < 15
        await log.close()
        assert WRONG not in str(refusal.value) and PASSWORD not in str(refusal.value)
        said.add(str(refusal.value).partition(": ")[2])
    with pytest.raises(BackupError) as failure:
        async with cluster(access):
            pass
    assert {str(failure.value)} == said
    return said


async def test_a_wrong_password_is_said_in_a_sentence(broker: SecuredKafka) -> None:
    for user, mechanism in (("scram", "SCRAM-SHA-512"), ("plain", "PLAIN")):
        assert await refused(broker.access(user, WRONG)) == {
            f"Kafka at {broker.login} does not let in the user {user} by {mechanism}: check REFBUS_KAFKA_USER and REFBUS_KAFKA_PASSWORD"
        }


async def test_a_certificate_that_nobody_known_signed_is_not_trusted(
    broker: SecuredKafka, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").certificate
    access = secured(broker.login, "SASL_SSL", ca=other, user="scram", password=PASSWORD)
    [said] = await refused(access)
    assert said.startswith(f"the certificate of Kafka at {broker.login} is not trusted (")
    assert "REFBUS_KAFKA_CA" in said


async def test_a_certificate_for_another_host_is_not_trusted(broker: SecuredKafka) -> None:
    address = broker.login.replace("127.0.0.1", "localhost")
    access = secured(address, "SASL_SSL", ca=broker.ca, user="scram", password=PASSWORD)
    [said] = await refused(access)
    assert said.startswith(f"the certificate of Kafka at {address} is not trusted (Hostname mismatch")


async def test_a_mechanism_that_the_listener_does_not_take_is_named(broker: SecuredKafka) -> None:
    access = secured(
        broker.login, "SASL_SSL", ca=broker.ca, mechanism="SCRAM-SHA-256", user="scram", password=PASSWORD
    )
    [said] = await refused(access)
    assert said.startswith(f"Kafka at {broker.login} does not take SCRAM-SHA-256: check ")


async def test_one_broker_that_lets_in_is_enough(broker: SecuredKafka) -> None:
    """Of several addresses the one that is wrong does not keep anybody out."""
    away = f"127.0.0.1:{free_ports(1)[0]}"
    access = secured(
        f"{away},{broker.login}",
        "SASL_SSL",
        ca=broker.ca,
        mechanism="PLAIN",
        user="plain",
        password=PASSWORD,
    )
    log = KafkaLog(access)
    assert TOPIC in await log.topics()
    await log.close()


async def test_what_a_user_may_not_is_said_and_not_taken_for_a_broker_that_is_away(
    broker: SecuredKafka,
) -> None:
    log = KafkaLog(broker.access("reader"))
    with pytest.raises(LogError) as refusal:
        await log.ensure([TopicSpec("not.for.everybody", 1)])
    assert not isinstance(refusal.value, LogUnavailable | LogRefused)
    assert "TopicAuthorizationFailedError" in str(refusal.value)
    await log.close()


def test_a_command_goes_by_the_same_settings(broker: SecuredKafka, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    settings = {
        "REFBUS_BUS": "secured",
        "REFBUS_KAFKA": broker.login,
        "REFBUS_KAFKA_PROTOCOL": "SASL_SSL",
        "REFBUS_KAFKA_CA": str(broker.ca),
        "REFBUS_KAFKA_USER": "scram",
        "REFBUS_KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
    }
    home = ("--home", tmp_path / "home")
    said = refbus("topics", "--partitions", "1", *home, settings=settings)
    assert "The topics of bus secured are there" in said
    found = refbus("doctor", *home, settings=settings)
    assert f"{broker.login}" in found and "6 as they should be, 1 partitions" in found
    (tmp_path / "password").write_text(f"{WRONG}\n", encoding="utf-8")
    for command in (("topics", "--partitions", "1"), ("doctor",), ("deadletter", "list")):
        said = refbus(*command, *home, settings=settings, code=1)
        assert "does not let in the user scram by SCRAM-SHA-512" in said
        assert WRONG not in said and "Traceback" not in said


READ, WRITE, CREATE, DELETE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.DELETE
DESCRIBE, CONFIGS = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
BUS: Final = "county"
OF_OPERATIONS: Final = [
    topic(f"refbus.{BUS}.", CREATE, DESCRIBE, CONFIGS, prefix=True),
    topic(reference(BUS), READ),
    group(f"refbus-{BUS}-", DESCRIBE, prefix=True),
    topic(f"refbus.{BUS}.doctor.", CREATE, WRITE, DELETE, prefix=True),
    topic(deadletter(BUS), READ, WRITE),
]
"""What the table of docs/how-to/run-for-real.md says of these commands."""


def test_operations_own_user_may_do_what_its_commands_want_and_a_services_may_not(
    broker: SecuredKafka, tmp_path: Path
) -> None:
    """Each is given as in a pod of Kubernetes: the settings are the service's, but for the user, whose password comes by standard input."""
    broker.admit("operations", *OF_OPERATIONS)
    broker.admit("service", topic(deadletter(BUS), WRITE))

    def given(*words: str, user: str = "operations", code: int = 0) -> str:
        settings = {
            "REFBUS_BUS": BUS,
            "REFBUS_KAFKA": broker.login,
            "REFBUS_KAFKA_PROTOCOL": "SASL_SSL",
            "REFBUS_KAFKA_CA": str(broker.ca),
            "REFBUS_KAFKA_USER": user,
            "REFBUS_KAFKA_PASSWORD_FILE": "/dev/stdin",
        }
        home = ("--home", tmp_path / "home")
        return refbus(*words, *home, settings=settings, given=f"{PASSWORD}\n", code=code)

    assert "The topics of bus county are there" in given("topics", "--partitions", "1")
    assert "TopicAuthorizationFailedError" in given("topics", "--partitions", "1", user="service", code=1)
    asyncio.run(_letter(broker))
    said = given("doctor")
    assert "6 as they should be, 1 partitions" in said and "nobody keeps a service out" in said
    assert "clock of the broker" in said
    assert "Nothing is wrong with what was looked at. Not looked at: database, services." in said
    assert "0/0" in given("deadletter", "list") and "untold" in given("deadletter", "show", "0/0")
    assert "1 were discarded" in given("deadletter", "discard", "0/0", "--yes")
    assert "TopicAuthorizationFailedError" in given("deadletter", "list", user="service", code=1)


async def _letter(broker: SecuredKafka) -> None:
    log = KafkaLog(broker.bootstrap)
    try:
        letters = DeadLetters(BUS, "intake", new_encryption_keys().public, Codec.load(), SystemClock())
        record = Record(outbox("hospital"), 0, 5, 1_000, b"key", b"value", ())
        await (await log.appender()).append([letters.letter(record, "untold")])
    finally:
        await log.close()
