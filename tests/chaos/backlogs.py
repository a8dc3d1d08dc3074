"""What a service has not done yet, measured from outside it."""

from __future__ import annotations

from bisect import bisect_left

from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Partition, Reader
from referral_bus.log.reading import read_on
from referral_bus.log.topics import group, inbox, ledger


class Backlogs:
    """Asks the broker and the database. Made by :meth:`open`, to be closed."""

    def __init__(self, bus: str, admin: AIOKafkaAdminClient, engine: AsyncEngine) -> None:
        self._bus = bus
        self._admin = admin
        self._engine = engine
        self._inbox: list[Reader] = []
        self._ledger: list[Reader] = []
        self._offsets: list[list[int]] = []
        """Where events stand on the ledger, by partition, as far as it was read."""

    @classmethod
    async def open(cls, bus: str, kafka: str, log: KafkaLog, engine: AsyncEngine) -> Backlogs:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        backlogs = cls(bus, admin, engine)
        for topic, readers in ((inbox(bus), backlogs._inbox), (ledger(bus), backlogs._ledger)):
            for number in range(await log.partitions(topic)):
                readers.append(await log.reader(Partition(topic, number)))
        backlogs._offsets = [[] for _ in backlogs._ledger]
        return backlogs

    async def close(self) -> None:
        for reader in (*self._inbox, *self._ledger):
            await reader.close()
        await self._admin.close()

    async def committed(self) -> dict[int, int]:
        """Matching's next inbox offset, by partition."""
        found = await self._admin.list_consumer_group_offsets(group(self._bus, "matching"))
        return {tp.partition: at.offset for tp, at in found.items() if tp.topic == inbox(self._bus)}

    async def undecided(self) -> dict[int, int]:
        """Inbox records that matching has not decided, by partition. Nothing but records stands on the inbox, so offsets count them."""
        committed = await self.committed()
        ends = {number: await reader.end() for number, reader in enumerate(self._inbox)}
        return {number: end - committed.get(number, 0) for number, end in ends.items()}

    async def ends(self) -> list[int]:
        """Where each partition of the inbox ends."""
        return [await reader.end() for reader in self._inbox]

    async def notices(self) -> dict[str, int]:
        """The number of the last notice there is for each organisation."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text("select organisation, last_number from notifier.streams"))
            return {str(row[0]): int(row[1]) for row in rows}

    async def projected(self) -> dict[int, int]:
        """Up to which ledger offset the views reflect each partition."""
        return await self._positions(
            "select partition, next from projections.positions where topic = :topic", ledger(self._bus)
        )

    async def told(self) -> dict[int, int]:
        """Up to which ledger offset the notifier reflects each partition (there is one region in each)."""
        return await self._positions("select partition, next_offset from notifier.regions", None)

    async def behind(self, positions: dict[int, int]) -> int:
        """How many events stand on the ledger at or beyond these positions. Offsets would count the marks of transactions too."""
        for reader, offsets in zip(self._ledger, self._offsets, strict=True):
            offsets += [record.offset async for record in read_on(reader, reader.position())]
        return sum(
            len(offsets) - bisect_left(offsets, positions.get(number, 0))
            for number, offsets in enumerate(self._offsets)
        )

    async def undelivered(self) -> int:
        """Deliveries by webhook and feed that are not done."""
        async with self._engine.connect() as connection:
            count = await connection.scalar(
                text("select count(*) from notifier.deliveries where done_at is null")
            )
        return int(count or 0)

    async def _positions(self, statement: str, topic: str | None) -> dict[int, int]:
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(statement), {} if topic is None else {"topic": topic})
            return {int(row[0]): int(row[1]) for row in rows}
