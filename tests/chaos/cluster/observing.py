"""What can be seen of the bus from outside while it runs: what it was asked, what it answered, and how far the views and the notifier are.

Threads of their own with clients of their own (librdkafka, psycopg): nothing that is struck at can hold up who looks.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from typing import Final

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.log.topics import Reader, group, inbox, ledger
from referral_bus.wire.codec import Codec
from tests.chaos.cluster.history import Writer

_NOT_FROM_A_PARTY: Final = (Tick.event_type(), AdoptReference.event_type())
_SAMPLE_SECONDS: Final = 0.2
_JOIN_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 3.0

Positions = dict[int, int]


class Observer:
    """Looks at the topics and the database, and notes positions in the history."""

    def __init__(self, bus: str, kafka: str, database: str, partitions: int, history: Writer) -> None:
        self._bus, self._kafka, self._partitions = bus, kafka, partitions
        self._database = database.replace("+psycopg", "")
        self._history = history
        self._codec = Codec.load()
        self._admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._asked: set[tuple[int, int]] = set()
        self._admitted: set[tuple[str, str]] = set()
        self._answered: set[tuple[int, int]] = set()
        self._events: defaultdict[int, list[int]] = defaultdict(list)
        self.decided_at: dict[int, float] = {}
        """When an event of each partition of the ledger was last seen."""
        self.views: Positions = {}
        self.told: Positions = {}
        self.sampled_at = 0.0
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._follow, self._sample)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def undecided(self, among: Collection[int] | None = None) -> int:
        """Submissions on the inbox without an answer on the ledger, in these partitions (None: in all)."""
        with self._lock:
            left = self._asked - self._answered
        return sum(among is None or number in among for number, _ in left)

    def behind(self, positions: Positions, among: Collection[int] | None = None) -> int:
        """Events on the ledger at or beyond these positions, in these partitions (None: in all)."""
        with self._lock:
            return sum(
                len(offsets) - bisect_left(offsets, positions.get(number, 0))
                for number, offsets in self._events.items()
                if among is None or number in among
            )

    def not_admitted(self, submissions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the submissions (source and id) that are not on the inbox."""
        with self._lock:
            return set(submissions) - self._admitted

    def read_at(self, addresses: Collection[str], reader: Reader) -> set[int]:
        """The partitions of inbox or ledger that members of a group read who are at these addresses; none where the brokers don't say."""
        name = group(self._bus, reader)
        try:
            found = self._admin.describe_consumer_groups([name], request_timeout=_ASK_SECONDS)[name].result()
        except KafkaException:
            return set()
        return {
            one.partition
            for member in found.members
            if member.host.lstrip("/") in addresses
            for one in member.assignment.topic_partitions
            if one.topic in (inbox(self._bus), ledger(self._bus))
        }

    def _follow(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": "outsider",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "socket.timeout.ms": 3_000,
                "topic.metadata.refresh.interval.ms": 2_000,
                "log_level": 0,
            }
        )
        asked, said = inbox(self._bus), ledger(self._bus)
        consumer.assign(
            [
                TopicPartition(topic, number, 0)
                for topic in (asked, said)
                for number in range(self._partitions)
            ]
        )
        try:
            while not self._stop.is_set():
                for message in consumer.consume(500, 0.1):
                    if message.error() is None:
                        self._take(message, message.topic() == asked)
        finally:
            consumer.close()

    def _take(self, message: object, is_asked: bool) -> None:
        number, offset = message.partition(), message.offset()  # type: ignore[attr-defined]
        if is_asked:
            headers = dict(message.headers() or [])  # type: ignore[attr-defined]
            if headers.get("ce_type", b"").decode() not in _NOT_FROM_A_PARTY:
                with self._lock:
                    self._asked.add((number, offset))
                    self._admitted.add((headers["ce_source"].decode(), headers["ce_id"].decode()))
            return
        submission = self._codec.decode_entry(message.value()).meta.submission  # type: ignore[attr-defined]
        with self._lock:
            self._events[number].append(offset)
            self.decided_at[number] = time.monotonic()
            if submission is not None:
                self._answered.add((submission.partition, submission.offset))

    def _sample(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._database, connect_timeout=2, autocommit=True) as connection:
                    while not self._stop.is_set():
                        began = time.monotonic()
                        views = connection.execute(
                            "select partition, next from projections.positions where topic = %s",
                            (ledger(self._bus),),
                        ).fetchall()
                        told = connection.execute(
                            "select partition, next_offset from notifier.regions"
                        ).fetchall()
                        self.views, self.told, self.sampled_at = dict(views), dict(told), began
                        self._history.note("positions", at=began, views=self.views, told=self.told)
                        self._stop.wait(_SAMPLE_SECONDS)
            except psycopg.Error:
                self._stop.wait(_SAMPLE_SECONDS)
