"""Topics of a real Kafka, out to files and back: at the offsets that were kept, also where retention took some meanwhile, and with as many
copies as they had."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

import pytest

from referral_bus.backup.cluster import Cluster, cluster
from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Copied, Folder, Manifest
from referral_bus.backup.restoring import restore
from referral_bus.backup.taking import take
from referral_bus.embedded.kafka import EmbeddedKafka, Seat, cluster_id
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaReader
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.log.reading import everything
from referral_bus.wire.codec import Codec
from tests.support.backups import NoDatabase, lost
from tests.support.commands import in_process, write_addresses

LARGE: Final = 900_000
"""A fetch brings one of these."""


@pytest.fixture
def bus() -> str:
    return f"b{uuid4().hex[:8]}"


@pytest.fixture
async def here(kafka: str) -> AsyncIterator[Cluster]:
    async with cluster(kafka) as found:
        yield found


async def _taken(there: Cluster, folder: Folder, bus: str) -> Manifest:
    return await take(there, cast(Database, NoDatabase()), folder, bus, lambda *_: None)


async def _back(there: Cluster, folder: Folder, replication: int | None = None) -> Manifest:
    database = cast(Database, NoDatabase())
    return await restore(there, database, folder, Codec.load(), lambda *_: None, replication=replication)


async def test_where_retention_takes_the_beginning_while_it_is_copied_a_restore_gives_back_the_same_offsets(
    here: Cluster, bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, inbox, chance = Folder(tmp_path / "backup"), Partition(topics.inbox(bus), 0), random.Random(7)
    await here.log.ensure(topics.topics(bus, 1, 1))
    appender = await here.log.appender()
    for _ in range(8):
        await appender.append([Outgoing(*inbox, None, chance.randbytes(LARGE))])

    read, seen = KafkaReader.read, list[int]()

    async def overtaken(reader: KafkaReader, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        got = await read(reader, start, limit, wait)
        if got and got[0].topic == inbox.topic:
            seen.extend(one.offset for one in got)
            if seen == [0]:
                await here.expire(inbox, 5)
        return got

    with monkeypatch.context() as patched:
        patched.setattr(KafkaReader, "read", overtaken)
        taken = await _taken(here, folder, bus)
    assert seen[-3:] == [5, 6, 7] and 4 not in seen
    assert taken.topics[inbox.topic] == [Copied(start=5, end=8, records=3)]
    there_were = await everything(here.log, inbox.topic)
    assert [one.offset for one in there_were] == [5, 6, 7]

    await lost(here, taken)
    await _back(here, folder)
    reader = await here.log.reader(inbox)
    assert (await reader.start(), await reader.end()) == (5, 8)
    assert await everything(here.log, inbox.topic) == there_were


async def test_a_ledger_that_lacks_its_beginning_is_not_backed_up(
    here: Cluster, bus: str, tmp_path: Path
) -> None:
    ledger = Partition(topics.ledger(bus), 1)
    await here.log.ensure(topics.topics(bus, 2, 1))
    appender = await here.log.appender()
    await appender.append([Outgoing(*ledger, None, b"first"), Outgoing(*ledger, None, b"second")])
    await here.expire(ledger, 1)
    with pytest.raises(BackupError, match=rf"{ledger.topic}/1 starts at offset 1, .*retention\.ms=-1"):
        await _taken(here, Folder(tmp_path / "backup"), bus)


@pytest.fixture
def two_brokers(tmp_path: Path) -> Iterator[str]:
    ports, id = free_ports(4), cluster_id()
    voters = {number: f"127.0.0.1:{ports[number + 1]}" for number in (1, 2)}
    brokers = [
        EmbeddedKafka(tmp_path / f"kafka-{number}", ports[number - 1], Seat(number, "127.0.0.1", voters, id))
        for number in voters
    ]
    try:
        with ThreadPoolExecutor(2) as beside:
            addresses = list(beside.map(EmbeddedKafka.start, brokers))
        yield ",".join(addresses)
    finally:
        for broker in brokers:
            broker.kill()  # in order, the second would wait for the first


async def _known(cluster: Cluster, names: set[str]) -> None:
    """Wait until each broker knows of these topics, whichever is asked: one hears of what is new a moment after the other."""
    async with asyncio.timeout(30):
        in_a_row = 0
        while in_a_row < 10:
            in_a_row = in_a_row + 1 if names <= await cluster.topics() else 0
            await asyncio.sleep(0.05)


async def test_topics_come_back_with_as_many_copies_as_they_had_unless_another_number_is_said(
    here: Cluster, two_brokers: str, bus: str, tmp_path: Path
) -> None:
    folder, feed = Folder(tmp_path / "backup"), topics.feed(bus, "harbor")
    async with cluster(two_brokers) as there:
        await there.log.ensure(topics.topics(bus, 1, 2))
        await there.log.ensure(topics.of_organisations(bus, 1, ["harbor"]))
        await _known(there, {feed, topics.outbox("harbor")})
        had = (await _taken(there, folder, bus)).replicas
        assert {topic for topic, copies in had.items() if copies == 1} == {feed, topics.outbox("harbor")}
        assert len(had) == 8

        # Where there are fewer brokers nothing is done.
        with pytest.raises(
            BackupError, match=r"2 copies of a topic, and this Kafka has 1 broker: .* --replication"
        ):
            await _back(here, folder)
        assert not await here.topics() & had.keys()
        backup = await _back(here, folder, replication=1)
        assert await here.replicas(had) == dict.fromkeys(had, 1)
        await lost(here, backup)

        await lost(there, backup)
        await _back(there, folder)
        assert await there.replicas(had) == had


def test_a_backup_that_does_not_say_how_many_copies_there_were_is_brought_back_with_one_and_it_is_said(
    kafka: str, bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    home.mkdir()
    monkeypatch.setattr("referral_bus.cli.backup.Database", lambda *_: NoDatabase())
    write_addresses(home, bus=bus, kafka=kafka, database="postgresql+psycopg://nobody@127.0.0.1/none")

    async def begin() -> None:
        async with cluster(kafka) as there:
            await there.log.ensure(topics.topics(bus, 1, 1))

    async def gone() -> dict[str, int]:
        async with cluster(kafka) as there:
            copies = await there.replicas(manifest.topics)
            await lost(there, manifest)
        return copies

    asyncio.run(begin())
    in_process("backup", backup, "--home", home)
    manifest = Folder(backup).checked()
    asyncio.run(gone())
    assert "how many copies" not in in_process("restore", backup, "--home", home)
    asyncio.run(gone())

    as_before = json.loads((backup / "manifest.json").read_text())
    del as_before["replicas"]
    (backup / "manifest.json").write_text(json.dumps(as_before))
    for words, said in ([("--replication", "1"), False], [(), True]):
        told = in_process("restore", backup, *words, "--home", home)
        assert ("doesn't say how many copies the topics had: each has one" in told) is said
        assert asyncio.run(gone()) == dict.fromkeys(manifest.topics, 1)
