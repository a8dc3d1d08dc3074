"""An appender goes on once the broker is back, however long it was away."""

from __future__ import annotations

import asyncio

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.log.access import KafkaAccess
from referral_bus.log.kafka import KafkaAppender, KafkaLog, KafkaReader, _answering
from referral_bus.log.port import LogUnavailable, Outgoing, Partition, Position
from referral_bus.log.reading import everything_in
from tests.integration.log.conftest import TOPIC

SECONDS = 60.0


def numbered(number: int, partition: int = 0) -> Outgoing:
    return Outgoing(TOPIC, partition, None, b"%d" % number)


async def said_until_taken(appender: KafkaAppender, record: Outgoing) -> Position:
    """As whoever appends does it: said again as long as Kafka is said to be away."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                [position] = await appender.append([record])
            except LogUnavailable:
                await asyncio.sleep(0.1)
            else:
                return position


async def test_an_appender_whose_broker_was_killed_in_the_midst_goes_on_once_it_is_back(
    broker: EmbeddedKafka,
) -> None:
    log = KafkaLog(broker.bootstrap)
    appender = await log.appender()
    try:
        await appender.append([numbered(1)])
        writing = [asyncio.create_task(said_until_taken(appender, numbered(n, n % 2))) for n in range(2, 40)]
        await asyncio.sleep(0.01)
        broker.kill()
        more = [asyncio.create_task(said_until_taken(appender, numbered(n, n % 2))) for n in range(40, 60)]
        # Longer than a request may take, so that what was tried is given up.
        await asyncio.sleep(9.0)
        broker.start()
        await asyncio.gather(*writing, *more)
        positions = [await said_until_taken(appender, numbered(n)) for n in range(60, 70)]
        offsets = [position.offset for position in positions]
        assert offsets == list(range(offsets[0], offsets[0] + 10))
    finally:
        await log.close()


async def test_a_gap_in_its_numbers_costs_an_appender_one_append(broker: EmbeddedKafka) -> None:
    """What is left where a batch is given up after it was numbered, made by hand: to be given up it must have been tried just before."""
    log = KafkaLog(broker.bootstrap)
    appender = await log.appender()
    try:
        await appender.append([numbered(1)])
        producer = appender._producer
        [tp] = [one for one in producer._txn_manager._sequence_numbers if one.partition == 0]
        producer._txn_manager.increment_sequence_number(tp, 1)
        failed = await asyncio.gather(
            *(appender.append([numbered(n)]) for n in range(2, 6)), return_exceptions=True
        )
        assert all(isinstance(one, LogUnavailable) for one in failed)
        positions = [(await appender.append([numbered(n)]))[0] for n in range(6, 9)]
        assert appender._producer is not producer
        assert await producer_is_closed(producer)
        records = [one async for one in everything_in(log, Partition(TOPIC, 0))]
        assert [one.value for one in records if one.offset >= positions[0].offset] == [b"6", b"7", b"8"]
        assert records[positions[0].offset - 1 - records[0].offset].value == b"1"
    finally:
        await log.close()


async def producer_is_closed(producer: object) -> bool:
    async with asyncio.timeout(SECONDS):
        while not producer._closed:  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
    return True


async def test_a_client_begins_with_a_broker_that_answers_and_not_with_one_that_hangs(
    broker: EmbeddedKafka,
) -> None:
    """Which takes connections, as one that was stopped by SIGSTOP does, and says nothing."""
    taken: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0) as silent:
        hangs = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        log = KafkaLog(f"{hangs},{broker.bootstrap}")
        try:
            for _ in range(4):
                reader = await log.reader(Partition(TOPIC, 0))
                assert isinstance(reader, KafkaReader)
                assert reader._consumer._client._bootstrap_servers == broker.bootstrap
        finally:
            await log.close()
        # Where nobody answers in time, whoever answers late will do.
        both = f"{hangs},{hangs}"
        assert await _answering(KafkaAccess(both)) == both
        for writer in taken:
            writer.close()
            await writer.wait_closed()
