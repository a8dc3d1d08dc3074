"""What is on the disks of brokers and database is counted under what it is kept for."""

from __future__ import annotations

from pathlib import Path

from benchmarks import stored
from referral_bus.log.topics import topics


def segment(folder: Path, broker: int, topic: str, size: int) -> None:
    file = folder / f"kafka-{broker}" / "data" / f"{topic}-0" / "00000000000000000000.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * size)


def test_the_segments_of_all_brokers_count_by_kind_of_topic_and_kafkas_own_do_not(tmp_path: Path) -> None:
    for broker in (1, 2, 3):
        segment(tmp_path, broker, "refbus.bench.ledger", 100)
        segment(tmp_path, broker, "refbus.bench.feed.harbor-house", 10)
        segment(tmp_path, broker, "refbus.bench.feed.line-211", 1)
        segment(tmp_path, broker, "agency.line-211.outbox", 7)
        segment(tmp_path, broker, "__consumer_offsets", 1_000)
    assert stored._of_topics(tmp_path) == {"ledger": 300, "feeds": 33}


def test_every_topic_that_grows_with_referrals_is_of_a_kind() -> None:
    kinds = {stored._kind_of(spec.name) for spec in topics("bench", 2, 3, ["line-211"])}
    assert kinds - set(stored._TOPICS) == {"reference", "deadletter", "outbox"}


def test_a_table_counts_where_the_first_name_fits() -> None:
    kinds = {
        name: stored._kind_of_table(name)
        for name in ("notifier.deliveries", "notifier.standings", "public.other")
    }
    assert kinds == {
        "notifier.deliveries": "notices and deliveries",
        "notifier.standings": "what the notifier knows of referrals",
        "public.other": None,
    }
