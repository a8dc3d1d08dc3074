"""The folder of a backup: what is in it comes back as it was, and what is damaged, unfinished or another's is not restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from referral_bus.backup.cluster import at_their_offsets
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Copied, Folder, Manifest
from referral_bus.backup.taking import names
from referral_bus.log.port import Partition, Record

PARTITION = Partition("refbus.main.inbox", 2)
RECORDS = [
    Record(*PARTITION, 3, 1_000, b"north", b"value", (("ce_id", b"a"), ("ce_id", b"b"))),
    Record(*PARTITION, 5, 2_000, None, None, ()),
]


def _backup(folder: Folder) -> Manifest:
    folder.begin()
    file = folder.writer(PARTITION)
    for record in RECORDS:
        file.add(record)
    file.close()
    folder.forget(["sj-a", "sj-b"])
    copied = Copied(start=3, end=8, records=file.count)
    manifest = Manifest(
        bus="main", taken_at=3_000, topics={PARTITION.topic: [copied]}, groups={"g": {"t": {0: 1}}}, files={}
    )
    return folder.finish(manifest)


def test_what_is_in_a_backup_comes_back_as_it_was(tmp_path: Path) -> None:
    written = _backup(Folder(tmp_path / "backup"))
    read = Folder(tmp_path / "backup")
    assert read.checked() == written
    assert sorted(written.files) == ["forgotten.txt", "topics/refbus.main.inbox/2.avro"]
    assert list(read.records(PARTITION)) == RECORDS
    assert (tmp_path / "backup" / "forgotten.txt").read_text() == "sj-a\nsj-b\n"


@pytest.mark.parametrize("name", ["forgotten.txt", "topics/refbus.main.inbox/2.avro"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_that_is_not_as_it_was_written_is_named(tmp_path: Path, name: str, damage: str) -> None:
    _backup(Folder(tmp_path))
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1] + b"!")
    with pytest.raises(BackupError, match=f"{name} is not what was written"):
        Folder(tmp_path).checked()


def test_a_backup_that_was_not_finished_or_is_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(BackupError, match="holds no backup"):
        folder.checked()
    _backup(folder)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(BackupError, match="another version"):
        folder.checked()


def test_a_backup_is_not_written_over_another(tmp_path: Path) -> None:
    _backup(Folder(tmp_path))
    with pytest.raises(BackupError, match="is not empty"):
        Folder(tmp_path).begin()


def test_every_offset_that_no_record_has_is_filled(tmp_path: Path) -> None:
    filled = list(at_their_offsets(RECORDS, 8, 3_000))
    assert [filled[3], filled[5]] == RECORDS
    empty = {number: one for number, one in enumerate(filled) if number not in (3, 5)}
    assert [(one.key, one.value, one.headers) for one in empty.values()] == [(None, b"", ())] * 6
    assert [one.timestamp for one in empty.values()] == [1_000] * 3 + [2_000] + [3_000] * 2


def test_the_topics_of_a_bus_are_told_from_those_of_others_and_followers_come_first() -> None:
    own = ["feed.harbor", "disclosure", "ledger", "deadletter", "inbox", "reference"]
    there = {f"refbus.main.{name}" for name in own} | {"refbus.main-2.ledger", "__consumer_offsets"}
    there |= {"agency.harbor.outbox", "agency.elsewhere.outbox"}
    found = names(there, "main")
    assert found[-4:] == [f"refbus.main.{name}" for name in own[2:]]
    assert set(found[:-4]) == {"refbus.main.feed.harbor", "refbus.main.disclosure", "agency.harbor.outbox"}
    with pytest.raises(BackupError, match="no topics of the bus other"):
        names(there, "other")
