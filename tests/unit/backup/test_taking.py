"""A backup of topics from which retention takes the beginning meanwhile: what is kept is copied, with the offsets it has. The ledger is
copied whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import pytest

from referral_bus.backup.cluster import Cluster
from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Copied, Folder, Manifest
from referral_bus.backup.taking import take
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition
from tests.support.backups import NoDatabase

LEDGER, INBOX = Partition(topics.ledger("main"), 0), Partition(topics.inbox("main"), 0)
MANY = 3_000
"""More than are read at once."""


class _Cluster:
    """What a backup asks of a cluster, of a log in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log

    async def topics(self) -> set[str]:
        return set(await self.log.topics())

    async def groups(self, prefix: str, topics: Iterable[str]) -> dict[str, dict[str, dict[int, int]]]:
        return {}

    async def replicas(self, topics: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(topics, 1)


async def _filled() -> MemoryLog:
    log = MemoryLog()
    await log.ensure(topics.topics("main", 1, 1))
    appender = await log.appender()
    for partition in (LEDGER, INBOX):
        await appender.append([Outgoing(*partition, None, b"%d" % number) for number in range(MANY)])
    return log


async def _taken(log: MemoryLog, folder: Folder, expires: Callable[[str, int], None]) -> Manifest:
    def progress(topic: str, done: int, total: int) -> None:
        expires(topic, done)

    return await take(cast(Cluster, _Cluster(log)), cast(Database, NoDatabase()), folder, "main", progress)


@pytest.mark.parametrize(
    ("while_copied", "done"), [(LEDGER, MANY), (INBOX, 2_000)], ids=["before its turn", "while it is copied"]
)
@pytest.mark.parametrize("kept_from", [2_500, MANY], ids=["a part", "all"])
async def test_what_expires_while_the_backup_is_taken_is_not_in_it_and_the_rest_is_at_its_offsets(
    tmp_path: Path, while_copied: Partition, done: int, kept_from: int
) -> None:
    log, folder = await _filled(), Folder(tmp_path / "backup")

    def expires(topic: str, at: int) -> None:
        if (topic, at) == (while_copied.topic, done):
            log.expire(INBOX, kept_from)

    taken = await _taken(log, folder, expires)
    assert taken.topics[INBOX.topic] == [Copied(start=kept_from, end=MANY, records=MANY - kept_from)]
    assert taken.topics[LEDGER.topic] == [Copied(start=0, end=MANY, records=MANY)]
    assert [one.offset for one in folder.records(INBOX)] == list(range(kept_from, MANY))
    assert folder.checked() == taken


async def test_where_retention_overtakes_what_the_backup_is_to_hold_there_is_nothing_of_it(
    tmp_path: Path,
) -> None:
    log, folder = await _filled(), Folder(tmp_path / "backup")

    def expires(topic: str, done: int) -> None:
        if (topic, done) == (LEDGER.topic, MANY):
            log.write(Outgoing(*INBOX, None, b"since"), None)
            log.write(Outgoing(*INBOX, None, b"since"), None)
            log.expire(INBOX, MANY + 1)

    taken = await _taken(log, folder, expires)
    assert taken.topics[INBOX.topic] == [Copied(start=MANY, end=MANY)]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_ledger_whose_beginning_is_gone_is_refused(tmp_path: Path, when: str) -> None:
    log, folder = await _filled(), Folder(tmp_path / "backup")
    if when == "before":
        log.expire(LEDGER, 1)

    def expires(topic: str, done: int) -> None:
        if when == "meanwhile" and (topic, done) == (LEDGER.topic, 2_000):
            log.expire(LEDGER, 2_500)

    with pytest.raises(
        BackupError, match=r"the ledger lacks its beginning: refbus\.main\.ledger/0 starts at"
    ):
        await _taken(log, folder, expires)
    with pytest.raises(BackupError, match="holds no backup"):
        folder.checked()
