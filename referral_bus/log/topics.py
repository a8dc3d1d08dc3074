"""The topics of a bus and the groups that read them: their names, and how each topic is to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

from referral_bus.log.port import TopicSpec

DAY_MS: Final = 86_400_000
FOR_EVER: Final = -1

Reader: TypeAlias = Literal["intake", "matching", "relay", "notifier", "projections"]
READERS: Final[tuple[Reader, ...]] = get_args(Reader)
"""The parts of a bus that read in a group. The relay is matching's: it reads the ledger, which matching writes."""


def inbox(bus: str) -> str:
    """What parties ask and report. The broker's clock stamps it: a deadline is judged by when the bus admitted the answer."""
    return f"refbus.{bus}.inbox"


def ledger(bus: str) -> str:
    """What was decided: the source of truth. As many partitions as the inbox, a region in the same one on both."""
    return f"refbus.{bus}.ledger"


def reference(bus: str) -> str:
    """Organisations, agreements, protocols, policies and the region table: versioned, in one order for all."""
    return f"refbus.{bus}.reference"


def disclosure(bus: str) -> str:
    """Who was shown what, when, why and under which grant; written before it is shown."""
    return f"refbus.{bus}.disclosure"


def delivery(bus: str) -> str:
    """What became of the notifier's deliveries."""
    return f"refbus.{bus}.delivery"


def deadletter(bus: str) -> str:
    """What could not be handled, encrypted to the operations key. Few records, so they are in one order for all."""
    return f"refbus.{bus}.deadletter"


def feed(bus: str, organisation: str) -> str:
    """What one organisation hears, for those who read it from Kafka."""
    return f"refbus.{bus}.feed.{organisation}"


def outbox(organisation: str) -> str:
    """Where an organisation puts what it submits through Kafka, sealed to intake's public key."""
    return f"agency.{organisation}.outbox"


def group(bus: str, reader: Reader) -> str:
    """The group in which the processes of a part share the partitions they read."""
    return f"refbus-{bus}-{reader}"


def topics(bus: str, partitions: int, replication: int, organisations: Iterable[str] = ()) -> list[TopicSpec]:
    """All topics of a bus; ``partitions`` of inbox and ledger, a feed and an outbox for each organisation.

    Raises ValueError where a number is below 1.
    """
    if partitions < 1 or replication < 1:
        raise ValueError("a topic has at least one partition and one replica")

    def spec(name: str, count: int, days: int, append_time: bool = False) -> TopicSpec:
        retention = FOR_EVER if days == FOR_EVER else days * DAY_MS
        return TopicSpec(name, count, retention, append_time, replication)

    bus_wide = [
        spec(inbox(bus), partitions, 30, append_time=True),
        spec(ledger(bus), partitions, FOR_EVER, append_time=True),
        spec(reference(bus), 1, FOR_EVER),
        spec(disclosure(bus), partitions, FOR_EVER),
        spec(delivery(bus), partitions, 365),
        spec(deadletter(bus), 1, 90),
    ]
    return bus_wide + of_organisations(bus, replication, organisations)


def of_organisations(bus: str, replication: int, organisations: Iterable[str]) -> list[TopicSpec]:
    """The feed and the outbox of each organisation, one partition each: what concerns a referral stays in order."""
    return [
        TopicSpec(name, 1, 30 * DAY_MS, append_time, replication)
        for organisation in organisations
        for name, append_time in ((feed(bus, organisation), False), (outbox(organisation), True))
    ]
