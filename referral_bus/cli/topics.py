"""``refbus topics``: the topics of a bus, before its first service comes up."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from referral_bus.cli.home import Home, OperationsSettings, local_settings
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.making import make_topics


def topics(
    partitions: Annotated[
        int, typer.Option(help="Of inbox and ledger; it stays for the life of the bus.", min=1, max=10_000)
    ],
    replication: Annotated[
        int, typer.Option(help="Copies of each topic: 3 for a bus that outlives a broker.", min=1, max=10)
    ] = 1,
    home: Home = Path(".refbus"),
) -> None:
    """Make what is missing of the topics of a bus, and say what of those that are there is not as it should be. Of a bus that was in use
    an inbox or a ledger that is gone is not made anew."""
    settings = OperationsSettings.load(**local_settings(home))
    asyncio.run(_ensure(settings, partitions, replication))
    print(f"The topics of bus {settings.bus} are there; inbox and ledger have {partitions} partitions.")


async def _ensure(settings: OperationsSettings, partitions: int, replication: int) -> None:
    log = KafkaLog(settings.kafka_access())
    try:
        await make_topics(log, settings.bus, partitions, replication)
    finally:
        await log.close()
