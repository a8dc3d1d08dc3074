"""What a bus did, as an outsider sees it: with another Kafka client than the bus's own, from what is committed, and from the database.

Each check returns what is wrong, in sentences; an empty list is good. None of it uses code of a service.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from referral_bus.contracts.delivery import Delivered, DeliveryGivenUp
from referral_bus.contracts.ids import parse_token
from referral_bus.contracts.inbox import (
    AdoptReference,
    AmendReferral,
    ForgetSubject,
    HoldReferral,
    SubmitReferral,
    Tick,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityRequested,
    CapacityReturned,
    Entry,
    MatchDecided,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    TaskCancelled,
    task_of,
)
from referral_bus.contracts.vocabulary import Role
from referral_bus.embedded.bus import LocalBus
from referral_bus.log.port import Record
from referral_bus.wire.codec import Codec

_READ_SECONDS: Final = 30.0
_COMMAND_SECONDS: Final = 120.0

Line = dict[str, Any]
"""A line of the load's journal."""
Place = tuple[str, int]
"""Region and sequence of an event."""


def outside_records(bootstrap: str, topic: str) -> list[Record]:
    """All committed records of a topic, partition after partition, read with librdkafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "outsider",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            # At the end of a partition the broker holds an answer back for half a second, and the next one's waits behind it.
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=_READ_SECONDS).topics[topic].partitions
        return [record for number in sorted(partitions) for record in _partition(consumer, topic, number)]
    finally:
        consumer.close()


def _partition(consumer: Consumer, topic: str, number: int) -> Iterator[Record]:
    consumer.assign([TopicPartition(topic, number, 0)])
    while True:
        message = consumer.poll(_READ_SECONDS)
        if message is None:
            raise TimeoutError(f"{topic}/{number} gave nothing for {_READ_SECONDS:.0f} s")
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return
            raise KafkaException(error)
        given = dict(message.headers() or [])
        headers = tuple((name, value) for name, value in given.items() if isinstance(value, bytes))
        timestamp: int = message.timestamp()[1]
        yield Record(topic, number, message.offset() or 0, timestamp, message.key(), message.value(), headers)


@dataclass(slots=True)
class Seen:
    """The committed topics of a bus, decoded."""

    inbox: list[Record]
    ledger: list[Record]
    entries: list[Entry]
    """Those of ``ledger``."""
    codec: Codec
    agencies: dict[str, str] = field(default_factory=dict)
    """Of each referral that was opened."""

    @classmethod
    def of(cls, inbox: list[Record], ledger: list[Record], codec: Codec) -> Seen:
        entries = [codec.decode_entry(record.value) for record in ledger]
        opened = (entry.event for entry in entries)
        agencies = {event.referral: event.agency for event in opened if isinstance(event, ReferralOpened)}
        return cls(inbox, ledger, entries, codec, agencies)


def answered_once(acknowledged: Sequence[Line], seen: Seen) -> list[str]:
    """Each acknowledged submission must be on the inbox and answered by one event that is no repeat of another answer."""
    put = {header(record, "ce_source") + "|" + header(record, "ce_id") for record in seen.inbox}
    answers: Counter[str] = Counter()
    for entry in seen.entries:
        admitted = entry.meta.submission
        if admitted is not None and not isinstance(entry.event, SubmissionRepeated):
            answers[f"/organisations/{admitted.source}|{admitted.id}"] += 1
    wrong: list[str] = []
    for line in acknowledged:
        key = f"/organisations/{line['organisation']}|{line['id']}"
        if key not in put:
            wrong.append(f"{key} was acknowledged and is not on the inbox")
        elif answers[key] != 1:
            wrong.append(f"{key} was answered {answers[key]} times")
    return wrong


def at_their_tokens(acknowledged: Sequence[Line], seen: Seen) -> list[str]:
    """The token of each answer must name the place on the inbox where that very submission stands."""
    at = {(record.partition, record.offset): header(record, "ce_id") for record in seen.inbox}
    wrong: list[str] = []
    for line in acknowledged:
        if line["token"] is not None:
            _, partition, offset = parse_token(line["token"])
            if at.get((partition, offset)) != line["id"]:
                wrong.append(f"{line['token']} is not where {line['id']} stands")
    return wrong


def inbox_doubles(seen: Seen) -> int:
    """How often a submission stands on the inbox beyond the first time: what matching had to recognise."""
    keys = Counter(
        (header(record, "ce_source"), header(record, "ce_id"))
        for record in seen.inbox
        if header(record, "ce_type") not in (Tick.event_type(), AdoptReference.event_type())
    )
    return sum(count - 1 for count in keys.values())


def ended(referrals: Iterable[str], seen: Seen) -> list[str]:
    """Each referral must be opened once, accepted at most once, and closed once; each offer must end once."""
    counts: dict[type, Counter[str]] = defaultdict(Counter)
    ends: Counter[str] = Counter()
    taken: set[str] = set()
    for entry in seen.entries:
        event = entry.event
        match event:
            case ReferralOpened() | ReferralClosed():
                counts[type(event)][event.referral] += 1
            case OfferMade():
                counts[OfferMade][event.task] += 1
            case OfferAccepted():
                counts[OfferAccepted][event.referral] += 1
                ends[event.task] += 1
                taken.add(event.task)
            case OfferDeclined() | OfferExpired():
                ends[event.task] += 1
            case TaskCancelled() | ReferralWithdrawn() if event.task is not None and event.task not in taken:
                ends[event.task] += 1
    opened, closed, made = counts[ReferralOpened], counts[ReferralClosed], counts[OfferMade]
    wrong = [f"{one} was acknowledged and never opened" for one in set(referrals) - opened.keys()]
    wrong += [f"{one} was opened {count} times" for one, count in opened.items() if count != 1]
    wrong += [f"{one} was closed {closed[one]} times" for one in opened if closed[one] != 1]
    wrong += [f"{one} was accepted {n} times" for one, n in counts[OfferAccepted].items() if n != 1]
    wrong += [f"{one} was made {n} times" for one, n in made.items() if n != 1]
    wrong += [f"{one} ended {ends[one]} times" for one in made if ends[one] != 1]
    return wrong


def heard_of(organisation: str, role: Role, seen: Seen) -> set[Place]:
    """The events an organisation must be told of in a role. Agencies here are none that a thing is withheld from, and they alone let a
    referral rest."""
    places: set[Place] = set()
    parked: dict[Place, bool] = {}
    accepted: dict[str, str] = {}
    providers: dict[str, str] = {}
    open_: defaultdict[str, set[str]] = defaultdict(set)
    for entry in seen.entries:
        event, meta = entry.event, entry.meta
        at = meta.region, meta.sequence
        told: set[tuple[str, Role]] = set()
        referral = getattr(event, "referral", None)
        match event:
            case SubmissionRefused(parked=int() as waited):
                if parked.get((meta.region, waited)):
                    places.add(at)
            case SubmissionRefused() | SubmissionParked():
                by = meta.submission
                if by is not None:
                    from_agency = by.type in {
                        kind.event_type()
                        for kind in (
                            SubmitReferral,
                            AmendReferral,
                            HoldReferral,
                            WithdrawReferral,
                            ForgetSubject,
                        )
                    }
                    told.add((by.source, "agency" if from_agency else "provider"))
                    parked[at] = (organisation, role) in told
            case MatchDecided(service=str()) | ReferralCalled() | CapacityRequested() | CapacityReturned():
                pass
            case TaskCancelled(reason="no_place" | "no_answer") if event.task not in providers:
                pass  # another region had no place, and nobody was offered anything
            case _ if referral is not None:
                told.add((seen.agencies[referral], "agency"))
        match event:
            case OfferMade():
                providers[event.task] = event.provider
                open_[event.referral].add(event.task)
                told.add((event.provider, "provider"))
            case TaskCancelled(reason="no_place" | "no_answer") if event.task not in providers:
                pass
            case AcceptanceClaimed() | OfferAccepted() | OfferDeclined() | OfferExpired() | TaskCancelled():
                told.add((event.provider, "provider"))
                if isinstance(event, OfferAccepted):
                    accepted[event.referral] = event.provider
                if not isinstance(event, AcceptanceClaimed):
                    open_[event.referral].discard(event.task)
            case ReferralAmended():
                holding = {providers[task] for task in open_[event.referral]}
                told |= {
                    (one, "provider") for one in holding | {*filter(None, [accepted.get(event.referral)])}
                }
            case ReferralWithdrawn() | ServiceStarted() | OutcomeReported() if task_of(event) in providers:
                told.add((providers[str(task_of(event))], "provider"))
            case ReferralClosed() if event.referral in accepted:
                told.add((accepted[event.referral], "provider"))
        if (organisation, role) in told:
            places.add(at)
    return places


def told_all(what: str, wanted: set[Place], came: Iterable[Place]) -> list[str]:
    """Each of the wanted must have come, and nothing else."""
    there = set(came)
    wrong = [f"{what}: {region} {sequence} never came" for region, sequence in sorted(wanted - there)]
    wrong += [
        f"{what}: {region} {sequence} came and was not to" for region, sequence in sorted(there - wanted)
    ]
    return wrong


def feed_places(records: Sequence[Record], subscription: str) -> list[Place]:
    """Where the events of a feed's notices stand, in the order of the feed, each at its first coming."""
    found: dict[Place, None] = {}
    for record in records:
        identity = header(record, "ce_id")
        if identity.startswith(f"{subscription}."):
            _, region, sequence = identity.rsplit(".", 2)
            found.setdefault((region, int(sequence)))
    return list(found)


def in_order(what: str, places: Sequence[Place], seen: Seen) -> list[str]:
    """What comes first of a referral must come first on the feed."""
    referrals = {
        (entry.meta.region, entry.meta.sequence): getattr(entry.event, "referral", None)
        for entry in seen.entries
    }
    last: dict[str, int] = {}
    wrong: list[str] = []
    for region, sequence in places:
        referral = referrals[region, sequence]
        if referral is not None:
            if sequence < last.get(referral, 0):
                wrong.append(f"{what}: {region} {sequence} came behind {last[referral]}")
            last[referral] = sequence
    return wrong


def told_of_deliveries(
    records: Sequence[Record], wanted: Mapping[str, set[Place]], codec: Codec
) -> list[str]:
    """The delivery topic must say of each delivery (by its subscription) that it was delivered, and of none that it was given up."""
    delivered: defaultdict[str, set[Place]] = defaultdict(set)
    wrong: list[str] = []
    for record in records:
        word = codec.decode(record.value)
        if isinstance(word, Delivered):
            delivered[word.subscription].add((word.region, word.sequence))
        elif isinstance(word, DeliveryGivenUp):
            wrong.append(f"{word.delivery} was given up: {word.reason}")
    for subscription, places in wanted.items():
        wrong += told_all(f"delivery topic, {subscription}", places, delivered[subscription])
    return wrong


async def command(bus: LocalBus, service: str, *words: str) -> dict[str, Any]:
    """What a ``refbus`` command says as JSON, run as a process of its own with the secrets of ``service``."""
    environment = {
        **os.environ,
        "REFBUS_BUS": bus.plan.bus,
        "REFBUS_KAFKA": bus.addresses.kafka,
        "REFBUS_DATABASE_URL": bus.addresses.database,
        "REFBUS_HOME": str(bus.plan.home),
        **bus.secrets.environment(service),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from referral_bus.cli import main; main()",
        *words,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), _COMMAND_SECONDS)
    except TimeoutError:
        process.kill()
        raise
    try:
        said: dict[str, Any] = json.loads(out)
    except ValueError:
        words_ = errors.decode(errors="replace")[-2_000:]
        raise AssertionError(
            f"refbus {' '.join(words)} gave no JSON (exit {process.returncode}): {words_}"
        ) from None
    return said


def header(record: Record, name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name), "")
