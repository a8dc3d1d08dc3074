"""State for those peers whose library keeps none: the places held, in memory, and a changelog topic from which they come back at a start.

For one process that has all partitions: it restores them all, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

_WAIT_MS: Final = 500


class Kept:
    """How many places of each unit are held, and what of that the changelog does not know yet."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._changed: dict[str, int] = {}

    def used(self, unit: str) -> int:
        return self._held.get(unit, 0)

    def hold(self, unit: str, held: int) -> None:
        self._held[unit] = self._changed[unit] = held

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Keys and values for the changelog: what was set since this was last asked, each unit once."""
        found = [(unit.encode(), str(held).encode()) for unit, held in self._changed.items()]
        self._changed.clear()
        return found

    def apply(self, changes: Iterable[tuple[bytes, bytes]]) -> None:
        """Take what a changelog says, in its order."""
        self._held.update((unit.decode(), int(held)) for unit, held in changes)

    async def restore(self, bootstrap: str, topic: str, partitions: int) -> None:
        """Read the changelog to its committed end; it is made where there is none."""
        await _make(bootstrap, topic, partitions)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            found = [TopicPartition(topic, number) for number in range(partitions)]
            consumer.assign(found)
            await consumer.seek_to_beginning()
            ends = await consumer.end_offsets(found)
            while not all([await consumer.position(one) >= ends[one] for one in found]):
                for messages in (await consumer.getmany(timeout_ms=_WAIT_MS)).values():
                    self.apply((message.key, message.value) for message in messages)
        finally:
            await consumer.stop()


async def _make(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = NewTopic(topic, partitions, 1, topic_configs={"cleanup.policy": "compact"})
        for _name, code, *_words in (await admin.create_topics([wanted])).topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"the changelog {topic} could not be made")
    finally:
        await admin.close()
