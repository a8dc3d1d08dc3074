"""The result of a demo, computed from what is on the topics and in the database and from nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.demo.audit import Audit, audit
from referral_bus.embedded.bus import LocalBus
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Record
from referral_bus.log.reading import everything
from referral_bus.log.topics import deadletter, feed, inbox, ledger
from referral_bus.wire.codec import Codec

_CHECK_SECONDS = 300.0
_LONGEST_WORDS = 500
_REFERRAL = ("ce_type", SubmitReferral.event_type().encode())


class Unchecked(Exception):
    """The views could not be compared with the ledger; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of a demo. Latencies run from a referral's append on the inbox to the append of its
    decision on the ledger, by the broker's clock; ``seconds`` from the first referral to the last decision.
    ``refused`` counts refusals on the ledger and on feeds, and dead letters. ``kafka_version`` is the embedded broker's: an outside one
    does not tell its own."""

    kafka_version: str | None
    broker: Literal["embedded", "external"]
    submitted: int
    decided: int
    offered: int
    accepted: int
    declined: int
    expired: int
    completed: int
    unmatched: int
    refused: int
    lost: int
    duplicated: int
    oversold: int
    views_equal_ledger: bool
    p50_ms: float
    p99_ms: float
    seconds: float
    broken_chain: int = 0
    """Events that do not follow the one before them in their region; always 0, and no figure of a demo."""

    def as_json(self) -> dict[str, str | int | float | bool | None]:
        """The figures by name."""
        return {name: value for name, value in asdict(self).items() if name != "broken_chain"}

    def broken_promises(self) -> list[str]:
        """What the bus promises and did not keep, a sentence each."""
        said = [
            f"{count} {what}"
            for count, what in (
                (self.lost, "acknowledged submissions were never decided"),
                (self.duplicated, "submissions were decided more than once"),
                (self.oversold, "places were sold that were not there"),
                (self.broken_chain, "events don't follow the one before them"),
            )
            if count
        ]
        if not self.views_equal_ledger:
            said.append("the views differ from a fresh fold of the ledger")
        return said


async def compute(bus: LocalBus, organisations: Iterable[str]) -> Result:
    """Read everything that was committed, hold the ledger against the inbox, and the views against the
    ledger.

    Raises LogError where a topic can't be read, Unchecked where the views can't be compared.
    """
    codec, name = Codec.load(), bus.plan.bus
    log = KafkaLog(bus.access)
    try:
        asked, said = await everything(log, inbox(name)), await everything(log, ledger(name))
        letters = [codec.decode(record.value) for record in await everything(log, deadletter(name))]
        feeds = [feed(name, organisation) for organisation in organisations]
        heard = [codec.decode(record.value) for record in await everything(log, *feeds)]
    finally:
        await log.close()
    found = audit(asked, said, codec)
    refused = (
        found.refusals.total()
        + sum(isinstance(message, AdmissionRefused) for message in heard)
        + sum(isinstance(letter, DeadLetter) for letter in letters)
    )
    return _result(bus, found, refused, await views_equal_ledger(bus), _seconds(asked, said))


async def views_equal_ledger(bus: LocalBus) -> bool:
    """What ``refbus check-views`` says, asked as a process of its own: the command belongs to the service
    that owns the views."""
    environment = {
        **os.environ,
        "REFBUS_BUS": bus.plan.bus,
        "REFBUS_KAFKA": bus.addresses.kafka,
        "REFBUS_DATABASE_URL": bus.addresses.database,
        **bus.secrets.environment("projections"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from referral_bus.cli import main; main()",
        "check-views",
        "--json",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            out, errors = await process.communicate()
    except TimeoutError:
        raise Unchecked(f"'refbus check-views' did not end within {_CHECK_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return bool(json.loads(out)["equal"])
    except (ValueError, KeyError, TypeError):
        words = errors.decode(errors="replace").strip()[-_LONGEST_WORDS:]
        raise Unchecked(
            f"'refbus check-views' gave no result (exit code {process.returncode}): {words}"
        ) from None


def _result(bus: LocalBus, found: Audit, refused: int, views_equal: bool, seconds: float) -> Result:
    return Result(
        kafka_version=bus.kafka_version,
        broker="external" if bus.kafka is None else "embedded",
        submitted=found.submitted,
        decided=found.decided,
        offered=found.events["OfferMade"],
        accepted=found.events["OfferAccepted"],
        declined=found.events["OfferDeclined"],
        expired=found.events["OfferExpired"],
        completed=found.closed["outcome_reported"],
        unmatched=found.closed["no_match"] + found.closed["offers_exhausted"],
        refused=refused,
        lost=found.lost,
        duplicated=found.duplicated,
        oversold=found.oversold,
        views_equal_ledger=views_equal,
        p50_ms=found.percentile(0.50),
        p99_ms=found.percentile(0.99),
        seconds=seconds,
        broken_chain=found.broken_chain,
    )


def _seconds(asked: list[Record], said: list[Record]) -> float:
    first = min((record.timestamp for record in asked if _REFERRAL in record.headers), default=0)
    last = max((record.timestamp for record in said), default=0)
    return (last - first) / 1000 if first else 0.0
