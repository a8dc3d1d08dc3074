"""What ``refbus doctor`` finds of Kafka."""

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Final

from referral_bus.cli.calendars import ends, published
from referral_bus.cli.findings import SECONDS, Finding, SetUp, clock, no_address
from referral_bus.contracts.calendar import Calendar
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.making import RESTORE, gone
from referral_bus.log.port import LogError, LogRefused, LogUnavailable, Outgoing, TopicSpec
from referral_bus.log.topics import READERS, group, inbox, ledger, topics

_HOUR_MS: Final = 3_600_000


async def kafka(set_up: SetUp) -> list[Finding]:
    """The broker: reachable, the topics as they should be, no stranger in a group, its clock near ours, no calendar near its end."""
    if (access := set_up.access) is None:
        return [no_address("Kafka", "REFBUS_KAFKA")]
    log = KafkaLog(access)
    try:
        return await _of_the_log(log, set_up)
    finally:
        await log.close()


async def _of_the_log(log: KafkaLog, set_up: SetUp) -> list[Finding]:
    """Each question by itself: what one can't find out takes nothing from what the others found."""
    findings = [Finding("Kafka", str(set_up.kafka))]
    try:
        async with asyncio.timeout(3 * SECONDS):
            findings += await _topics(log, set_up)
    except LogRefused as error:
        return [Finding("Kafka", f"{set_up.kafka}: {error}", "Mend that setting, and look again.")]
    except LogUnavailable as error:
        advice = "Start the bus with 'refbus up', or check the address and that this machine may reach it."
        return [Finding("Kafka", f"{set_up.kafka}: {error}", advice)]
    except TimeoutError:
        advice = (
            "Check the address, the firewall, and that the listener it advertises can be reached from here."
        )
        return [Finding("Kafka", f"{set_up.kafka} does not answer", advice)]
    findings += await _groups(log, set_up.bus)
    if set_up.probe:
        findings += await _broker_clock(log, set_up.bus)
    try:
        async with asyncio.timeout(3 * SECONDS):
            findings += _calendars(await published(log, set_up.bus), datetime.now(UTC))
    except (LogError, TimeoutError) as error:
        found = f"can't be read: {str(error) or type(error).__name__}"
        findings.append(Finding("calendars", found, "Mend what is said of the topics, and look again."))
    return findings


async def _topics(log: KafkaLog, set_up: SetUp) -> list[Finding]:
    bus = set_up.bus
    try:
        if lost := await gone(log, bus):
            return [Finding("topics", f"{' and '.join(lost)} gone, though the bus was in use", RESTORE)]
        partitions = await log.partitions(inbox(bus))
        wanted = topics(bus, partitions=partitions, replication=1)
        counts = {spec.name: await log.partitions(spec.name) for spec in wanted}
        if counts[inbox(bus)] != counts[ledger(bus)]:
            found = f"inbox has {counts[inbox(bus)]} partitions and ledger {counts[ledger(bus)]}"
            return [Finding("topics", found, "They must be equal: make the bus anew under another id.")]
        await log.ensure(wanted)
    except (LogRefused, LogUnavailable):
        raise
    except LogError as error:
        makes = (
            "start the bus once: it creates what is missing"
            if set_up.embedded
            else "make what is missing with 'refbus topics --partitions P --replication R' (docs/how-to/run-for-real.md)"
        )
        return [Finding("topics", str(error), f"Correct it with Kafka's tools, or {makes}.")]
    return [Finding("topics", f"{len(wanted)} as they should be, {partitions} partitions")]


async def _groups(log: KafkaLog, bus: str) -> list[Finding]:
    """Nobody is in a group of the bus who keeps its services out."""
    groups = [group(bus, reader) for reader in READERS]
    try:
        async with asyncio.timeout(3 * SECONDS):
            strangers = await log.strangers(groups)
    except (LogUnavailable, TimeoutError) as error:
        return [
            Finding(
                "groups", f"not looked at: {str(error) or 'no answer in time'}", "Look again once it answers."
            )
        ]
    except LogError as error:
        advice = f"Let this user describe the groups {', '.join(groups)}."
        return [Finding("groups", f"not looked at: {error}", advice)]
    return [
        Finding(
            f"group {group}",
            f"in it is {', '.join(members)}, which is no service of the bus and keeps those that are out",
            "End that program, or give it a group of its own: the service comes in by itself.",
        )
        for group, members in sorted(strangers.items())
    ] or [Finding("groups", f"{len(groups)}, nobody keeps a service out")]


async def _broker_clock(log: KafkaLog, bus: str) -> list[Finding]:
    """A record that the broker stamps between two looks at our clock: Kafka tells its time in no other way. The topic is its own, so
    that nobody hears of it, and goes again; where that fails, the hour it keeps records for is what is left of it."""
    about = "clock of the broker"
    probe = TopicSpec(f"refbus.{bus}.doctor.{secrets.token_hex(4)}", 1, _HOUR_MS, append_time=True)
    findings: list[Finding] = []
    made = False
    try:
        await log.ensure([probe])
        made = True
        appender = await log.appender()
        before = time.time_ns() // 1_000_000
        position = (await appender.append([Outgoing(probe.name, 0, None, b"doctor")]))[0]
        # Before its topic goes: a producer asks for what it has written to, which makes it anew on a broker that creates topics by itself.
        await appender.close()
        findings.append(clock(about, before, position.timestamp))
    except LogError as error:
        advice = (
            f"Let this user make and delete topics named refbus.{bus}.doctor.*, or leave it out with --no-probe and compare the clocks "
            "otherwise: deadlines are judged by the brokers'."
        )
        findings.append(Finding(about, f"not heard: {error}", advice))
    finally:
        try:
            await log.delete(probe.name)
        except LogError as error:
            if made:
                findings.append(
                    Finding(about, str(error), f"Delete the topic {probe.name}: it was for this check alone.")
                )
    return findings


def _calendars(found: list[Calendar], now: datetime) -> list[Finding]:
    """Each calendar that runs out soon; one finding where none does."""
    findings = [
        Finding(
            f"calendar {calendar.calendar}",
            f"version {calendar.version} runs out: {' and '.join(parts)}",
            "Publish its next version with later offsets and holidays (refbus publish); docs/how-to/choose-a-protocol.md says how.",
        )
        for calendar in found
        if (parts := ends(calendar, now))
    ]
    return findings or ([Finding("calendars", f"{len(found)}, none runs out soon")] if found else [])
