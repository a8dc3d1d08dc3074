"""``refbus topics``: the topics of a new bus, made before its services start."""

import asyncio
from typing import Annotated

import typer

from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import TopicSpec
from referral_bus.log.topics import topics as topics_of


def topics(
    kafka: Annotated[str, typer.Option(envvar="REFBUS_KAFKA", help="HOST:PORT of Kafka.")],
    partitions: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            help="Of inbox and ledger; fixed for the life of the bus. At most so many matching.",
        ),
    ],
    replication: Annotated[int, typer.Option(min=1, max=10, help="Replicas of each partition.")],
    bus: Annotated[str, typer.Option(envvar="REFBUS_BUS", help="Id of the bus.")] = "main",
) -> None:
    """Make the topics of a new bus; those that are there are checked. Exit code 1 if one is not as it should be."""
    wanted = topics_of(bus, partitions=partitions, replication=replication)
    asyncio.run(_ensure(kafka, wanted))
    typer.echo(
        f"{len(wanted)} topics are as they should be, {partitions} partitions, {replication} replicas."
    )


async def _ensure(kafka: str, wanted: list[TopicSpec]) -> None:
    log = KafkaLog(kafka)
    try:
        await log.ensure(wanted)
    finally:
        await log.close()
