"""What must be true of the outboxes and the feeds after a run. Reads the topics, and what the parties wrote down of what they put there.

What stands on an outbox is on the inbox or refused on its organisation's feed, and of what intake could not even open a dead letter is
kept; none of it holds up what stands behind it. That what is on the inbox is answered once is checked with everything else that is there.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused, Notice
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.requests import REQUESTS
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Partition, Record
from referral_bus.sealing.digest import body_digest
from referral_bus.sealing.jwe import JweError, open_with
from referral_bus.wire.inbox import received
from tests.simulation.checker import Evidence, Finding, noting
from tests.simulation.feeds import Told, of_an_outbox, told
from tests.simulation.saying import Put, Seen
from tests.simulation.world import PARTIES, SECRETS, codec
from tests.support.deciding import BUS

Spoken = tuple[str, str, bytes]
"""Who said it, under which id, and the digest of what."""
Places = dict[Spoken, tuple[int, int]]
"""Partition and offset of the inbox at which each stands first."""


class Standing(NamedTuple):
    """A record of an outbox, and what its organisation meant by it."""

    organisation: str
    record: Record
    put: Put

    @property
    def where(self) -> str:
        return f"{self.record.topic}/{self.record.offset}"

    @property
    def spoken(self) -> Spoken | None:
        if self.put.id is None or self.put.request is None:
            return None
        kind = REQUESTS[type(self.put.request)].event_type()
        return self.organisation, self.put.id, body_digest(SECRETS.digest_key, kind, self.put.request)


def border(evidence: Evidence) -> Iterator[Finding]:
    """Everything that is wrong."""
    log, seen = evidence.log, evidence.seen
    outboxes: list[Standing] = []
    there: set[tuple[str, int]] = set()
    strays: set[str] = set()
    for organisation in PARTIES:
        for record in log.records(topics.outbox(organisation)):
            content = _content(record, evidence.intake_key)
            there.add((organisation, record.offset))
            if seen.stands.get((organisation, record.offset), content) != content:
                yield Finding("lost", f"{record.topic}/{record.offset} is not what was acknowledged there")
            put = seen.put.get((organisation, content))
            if put is None:
                strays.add(_refused_as(record))
                yield Finding(
                    "put by nobody", f"{record.topic}/{record.offset} was not put there by its organisation"
                )
            else:
                outboxes.append(Standing(organisation, record, put))
    for organisation, offset in sorted(seen.stands.keys() - there):
        yield Finding("lost", f"what was acknowledged at {topics.outbox(organisation)}/{offset} is not there")
    feeds, inbox = told(log), _first_places(log)
    found: list[Finding] = []
    for part in (
        _settled(outboxes, inbox, feeds, log, seen, strays),
        _in_order(outboxes, inbox, seen),
        _letters(outboxes, evidence),
        _feeds(feeds),
    ):
        with noting(found):
            found += part
    yield from found


def _refused_as(record: Record) -> str:
    """The identity under which a feed has the refusal of what stands on an outbox."""
    return f"{record.topic}/0/{record.offset}"


def _content(record: Record, intake_key: str) -> bytes:
    """What was sealed; the record itself where nothing was, to intake."""
    value = record.value or b""
    try:
        return open_with(intake_key, value)
    except JweError:
        return value


def _settled(
    outboxes: list[Standing], inbox: Places, feeds: list[Told], log: MemoryLog, seen: Seen, strays: set[str]
) -> Iterator[Finding]:
    """Each record is on the inbox or refused, as it has to be, and nothing else is refused. Nobody knows what had to come of the strays."""
    handled = _handled(log)
    refused: dict[str, AdmissionRefused] = {}
    for organisation, id, said in feeds:
        if isinstance(said, AdmissionRefused):
            first = refused.setdefault(id, said)
            if said.reason != first.reason:
                yield Finding("contradicted", f"{id} is refused as {first.reason}, and as {said.reason}")
            if (
                id != f"{topics.outbox(organisation)}/0/{said.outbox_offset}"
                or said.organisation != organisation
            ):
                yield Finding("told wrongly", f"the feed of {organisation} has the refusal of {id}")
    under = Counter(spoken[:2] for spoken in inbox)
    for one in outboxes:
        refusal = refused.pop(_refused_as(one.record), None)
        reason = None if refusal is None else refusal.reason
        admitted = one.spoken is not None and one.spoken in inbox
        due = one.put.refused
        erased = seen.may_be_erased(one.organisation, one.put.request)
        opened = referral_id(PARTIES[one.organisation][2], BUS, one.organisation, one.put.id or "")
        first_erased = seen.whose.get(opened) in seen.forgotten
        if due == "id_reused" and admitted and first_erased and under[one.spoken[:2]] == 1:
            due = None  # what it would contradict was refused, being of somebody forgotten
        # Who is forgotten meanwhile may be admitted and, as what died half-way is repeated, refused.
        forgotten = reason == "subject_erased" and erased and due is None
        if admitted and due is not None:
            yield Finding("contradicted", f"{one.where} is admitted, and was to be refused: {due}")
        elif reason is None and not admitted:
            kind = "lost" if handled(one.record) else "unanswered"
            yield Finding(kind, f"{one.where} is neither on the inbox nor refused: {due}")
        elif reason != due and not forgotten:
            yield Finding("contradicted", f"{one.where} is refused as {reason}, not {due}")
        if refusal is not None and refusal.submission != one.put.id:
            yield Finding("told wrongly", f"{one.where} is refused as that of {refusal.submission}")
    for id in sorted(refused.keys() - strays):
        yield Finding("told of nothing", f"{id} is refused and not there")


def _handled(log: MemoryLog) -> Callable[[Record], bool]:
    """Whether intake takes a record of an outbox for handled."""
    positions = log.committed(topics.group(BUS, "intake"))
    return lambda record: record.offset < positions.get(Partition(record.topic, 0), 0)


def _first_places(log: MemoryLog) -> Places:
    places: Places = {}
    for record in log.records(topics.inbox(BUS)):
        admitted = received(record, codec())[1].admitted
        spoken = admitted.source, admitted.id, admitted.digest
        places.setdefault(spoken, (record.partition, record.offset))
    return places


def _in_order(outboxes: list[Standing], inbox: Places, seen: Seen) -> Iterator[Finding]:
    """What one organisation says on its outbox alone each region hears in the order in which it stands there."""
    last: dict[tuple[str, int], tuple[int, str]] = {}
    done: set[Spoken] = set()
    for one in outboxes:
        if one.spoken not in inbox or one.spoken in done or one.spoken[:2] in seen.over_http:
            continue
        done.add(one.spoken)
        partition, offset = inbox[one.spoken]
        before, where = last.get((one.organisation, partition), (-1, ""))
        if offset < before:
            yield Finding("reordered", f"{one.where} is on the inbox before {where}")
        last[one.organisation, partition] = offset, one.where


def _letters(outboxes: list[Standing], evidence: Evidence) -> Iterator[Finding]:
    """Of what intake could not open, and of nothing else, what stood there is kept for operations."""
    unopened = {one.where: one for one in outboxes if one.put.refused == "not_sealed"}
    handled = _handled(evidence.log)
    kept: set[str] = set()
    for record in evidence.log.records(topics.deadletter(BUS)):
        if not of_an_outbox(record):
            continue
        letter = codec().decode(record.value)
        assert isinstance(letter, DeadLetter)
        where = f"{letter.topic}/{letter.offset}"
        if where not in unopened or letter.reason != "not_sealed":
            yield Finding("dead letter", f"{where}: {letter.reason}")
            continue
        sealed = json.loads(open_with(evidence.operations_key, letter.sealed))
        if b64decode(sealed["value"]) == unopened[where].record.value:
            kept.add(where)
    for where, one in unopened.items():
        if where not in kept and handled(one.record):
            yield Finding("lost", f"{where} can't be opened and is not kept for operations")


def _feeds(feeds: list[Told]) -> Iterator[Finding]:
    """Each is told on its own feed, the same under the same identity, and of each region in its order."""
    first: dict[str, Notice] = {}
    last: dict[tuple[str, str], int] = {}
    for organisation, id, said in feeds:
        if not isinstance(said, Notice):
            continue
        if said.organisation != organisation:
            yield Finding("told wrongly", f"the feed of {organisation} has {id}, of {said.organisation}")
        if id in first:
            if said != first[id]:
                yield Finding("told twice", f"{id} says something else when it comes again")
            continue
        first[id] = said
        of = id.split(".")[0], said.region
        if said.sequence < last.get(of, 0):
            yield Finding("reordered", f"{id} is on the feed behind {last[of]}")
        last[of] = said.sequence
