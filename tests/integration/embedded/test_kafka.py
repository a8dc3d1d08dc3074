"""The embedded broker keeps what it was given: over a stop, over kill -9, over broken jars."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from referral_bus.embedded.download import cache_folder, fetch, pinned
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
TOPIC = "kept"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    broker.start()
    yield broker
    broker.stop()


async def write(bootstrap: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(TOPIC, value, partition=0)


async def read(bootstrap: str) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            batches = await consumer.getmany(timeout_ms=500)
            values += [record.value for records in batches.values() for record in records]
        return values


async def test_what_was_acknowledged_survives_a_stop_and_a_kill(broker: EmbeddedKafka) -> None:
    administration = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await administration.start()
    await administration.create_topics([NewTopic(TOPIC, 1, 1)])
    await administration.close()
    await write(broker.bootstrap, b"before the stop")

    broker.stop()
    assert not broker.running
    broker.start()
    await write(broker.bootstrap, b"before the kill")

    broker.kill()
    assert not broker.running
    broker.start()
    await write(broker.bootstrap, b"after the kill")

    assert await read(broker.bootstrap) == [b"before the stop", b"before the kill", b"after the kill"]


async def test_a_topic_that_nobody_created_is_not_made_by_writing_to_it(kafka: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1_000) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("never-created", b"lost?")
    administration = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await administration.start()
    assert "never-created" not in await administration.list_topics()
    await administration.close()


def test_a_taken_port_gives_one_sentence_and_what_to_do(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(EmbeddedError, match=rf"port {port}: another program has it\. Stop that program"),
    ):
        EmbeddedKafka(tmp_path, port).start()


def test_a_full_disk_gives_one_sentence_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly)
    with pytest.raises(EmbeddedError, match=r"^The disk is full, so Kafka can't run\. Free some space"):
        EmbeddedKafka(tmp_path, free_ports(1)[0]).start()


def test_a_formatting_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "meta.properties").write_text("half")
    broker = EmbeddedKafka(tmp_path, free_ports(1)[0])
    broker.start()
    broker.stop()
    assert not (tmp_path / "data.new").exists()


def test_a_broken_and_a_missing_jar_are_fetched_again_from_the_registry(tmp_path: Path) -> None:
    fetch(pinned(), cache_folder())
    cache = tmp_path / "cache"
    shutil.copytree(cache_folder() / "jars", cache / "jars")
    smallest = sorted(pinned(), key=lambda jar: fetch([jar], cache)[0].stat().st_size)[:2]
    broken, missing = fetch(smallest, cache)
    broken.write_bytes(broken.read_bytes()[:100])
    missing.unlink()

    fetch(pinned(), cache)

    original = cache_folder()
    for path in (broken, missing):
        assert path.read_bytes() == (original / path.relative_to(cache)).read_bytes()


def test_the_broker_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from referral_bus.embedded.kafka import EmbeddedKafka\n"
        "broker = EmbeddedKafka(Path(sys.argv[1]), int(sys.argv[2])); broker.start()\n"
        "print(broker.pid, flush=True); time.sleep(600)\n"
    )
    port = str(free_ports(1)[0])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), port], stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        os.kill(broker, 0)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not ended(broker):
        assert time.monotonic() < deadline, f"the broker, process {broker}, is still there"
        time.sleep(0.05)


def ended(process: int) -> bool:
    """Gone, or dead and only not yet collected by whoever inherited it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
