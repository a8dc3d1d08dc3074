"""Ledgers as matching writes them, made by its real core without a broker in between: submissions, decisions, chained and encoded events.

Two kinds: one where referrals live their whole life and most are closed, and one where every referral waits for an answer. Where nobody
opens sealed sections, bytes from a seeded generator stand for them: they are as long and as incompressible.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from benchmarks.world import Case, Said, World, cases
from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    DeclineOffer,
    ReportCapacity,
    ReportOutcome,
    ReportServiceStart,
    Submission,
    Tick,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import Admitted, Entry
from referral_bus.demo.programs import REASONS
from referral_bus.log import topics
from referral_bus.log.port import Log, Outgoing, Partition, Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import received
from services.matching.chain import Chain, ledger_record
from services.matching.core.decide import decide, wanted_facts
from services.matching.core.state import Region, Unit

OPEN_AT_ONCE: Final = 1_500
"""Referrals of one region that live at once, in a ledger of whole lives."""
_SEALED_MORE: Final = 29
"""Version, nonce and tag: what a sealed section is longer by."""
PEOPLE: Final = 2_000
"""Different people a region knows; each comes back under new references."""
_BATCH: Final = 500


class Batch(NamedTuple):
    """Some submissions and what was decided on them, in their order."""

    inbox: list[Outgoing]
    ledger: list[Outgoing]


@dataclass
class Author:
    """Writes one region's inbox and ledger. ``now`` is the append time of the last submission in epoch milliseconds, ``pace`` the average
    from one to the next; ``at_once`` referrals live at once, in a ledger of whole lives. ``seal`` seals a subject's section for those who
    open it."""

    world: World
    bus: str
    codec: Codec
    now: int
    pace: int
    at_once: int = OPEN_AT_ONCE
    seal: Callable[[str, Facts | Identity], bytes] | None = None
    chain: Chain = field(init=False)
    offset: int = 0
    written: int = 0
    _facts: dict[bytes, Facts] = field(default_factory=dict)
    """What is behind the bytes that stand for sealed facts."""
    _live: list[str] = field(default_factory=list)
    """Referrals that were open when last looked at, and units whose provider had no place and did not count them since."""
    _random: random.Random = field(init=False)
    _people: list[Case] = field(init=False)
    _said: int = 0

    def __post_init__(self) -> None:
        self.chain = Chain(Region(self.world.region))
        self._random = random.Random(self.world.region)
        self._people = cases([self.world], PEOPLE)

    def beginning(self) -> Batch:
        """What a region hears before it can decide."""
        return self._batch(self.world.beginning())

    def waiting(self, referrals: int) -> Iterator[Batch]:
        """Referrals that are offered and never answered, until there are so many; those with no match close at once and don't count."""
        while (missing := referrals - len(self.chain.state.referrals)) > 0:
            yield self._batch(self._new() for _ in range(min(_BATCH, missing)))

    def lives(self, events: int) -> Iterator[Batch]:
        """Whole lives, until the region has ``events`` events or a few more."""
        while self.written < events:
            yield self._batch(self._next() for _ in range(_BATCH))

    def _next(self) -> Said:
        """What somebody says next, out of all that could be said now."""
        due = self.chain.state.next_due()
        if due is not None and due.at <= self.now:
            return self._say(Tick(region=self.world.region, due=due.at), "matching", self.world.region)
        while len(self._live) >= self.at_once:
            at = self._random.randrange(len(self._live))
            answer = self._about(self._live[at])
            if answer is not None:
                return answer
            self._live[at] = self._live[-1]
            self._live.pop()
        return self._new()

    def _about(self, name: str) -> Said | None:
        """What its provider or agency says of a referral, or of a unit; None where nothing is left to be said."""
        unit = self.chain.state.units.get(name)
        return self._of_referral(name) if unit is None else self._of_unit(unit)

    def _of_unit(self, unit: Unit) -> Said | None:
        """Its provider, which had no place, counts again: all but those that it knew of before, and has accepted since, are free."""
        if not unit.doubted:
            return None
        provider = self.chain.state.catalogue.definitions[unit.service].organisation
        count = ReportCapacity(
            unit=unit.unit, total=unit.total, available=unit.total - unit.taken, true_at=self.now
        )
        return self._say(count, provider, unit.unit)

    def _of_referral(self, referral: str) -> Said | None:
        known = self.chain.state.referrals.get(referral)
        if known is None:
            return None
        drawn = self._random.random()
        if drawn < 0.04:
            return self._say(WithdrawReferral(referral=referral, reason="moved_away"), known.agency, referral)
        provider, unit = known.tasks[-1].provider, known.tasks[-1].unit
        if known.offers:
            task = task_id(referral, len(known.tasks))
            if drawn < 0.2:
                reason = self._random.choice(REASONS)
                if reason == "no_capacity":
                    # Counted when its turn comes, as an offer is answered. Else its places would be in doubt for a day.
                    self._live.append(unit)
                return self._say(DeclineOffer(task=task, reason=reason), provider, task)
            return self._say(AcceptOffer(task=task), provider, task)
        if not known.started:
            return self._say(ReportServiceStart(referral=referral, started_at=self.now), provider, referral)
        return self._say(ReportOutcome(referral=referral, result="need_met"), provider, referral)

    def _new(self) -> Said:
        """Somebody is referred."""
        person = self._people[self._random.randrange(len(self._people))]
        case = replace(person, id=f"c-{self._said}")
        self._said += 1
        facts, identity = case.request.facts, case.request.identity
        sealed = self._sealed(case.subject, facts)
        self._facts[sealed] = facts
        said = case.submission(sealed, None if identity is None else self._sealed(case.subject, identity))
        self._live.append(case.referral)
        return said

    def _sealed(self, subject: str, section: Facts | Identity) -> bytes:
        if self.seal is not None:
            return self.seal(subject, section)
        return self._random.randbytes(len(self.codec.encode(section)) + _SEALED_MORE)

    def _say(self, body: Submission, organisation: str, about: str) -> Said:
        self._said += 1
        return Said(body, organisation, f"r-{self._said}", about, self.world.region, self.world.partition)

    def _batch(self, said: Iterable[Said]) -> Batch:
        batch = Batch([], [])
        for one in said:
            batch.inbox.append(one.record(topics.inbox(self.bus), self.codec, sent_at=self.now))
            batch.ledger.extend(self._decided(batch.inbox[-1]))
        return batch

    def _decided(self, outgoing: Outgoing) -> Iterator[Outgoing]:
        self.now += self._random.randrange(2 * self.pace)
        record = Record(
            outgoing.topic,
            outgoing.partition,
            self.offset,
            self.now,
            outgoing.key,
            outgoing.value,
            outgoing.headers,
        )
        self.offset += 1
        _, submission = received(record, self.codec)
        state, admitted = self.chain.state, submission.admitted
        while True:
            wanted = wanted_facts(state, submission, self.now)
            facts = {one.referral: self._facts[one.sealed] for one in wanted}
            events = decide(state, submission, self.now, facts)
            for entry, value in self.chain.append(self.codec, events, admitted, record.offset, self.now):
                self.written += 1
                yield self._ledger_record(entry, value, admitted)
            if not events or not isinstance(submission.body, Tick):
                return

    def _ledger_record(self, entry: Entry, value: bytes, admitted: Admitted) -> Outgoing:
        return ledger_record(
            entry,
            value,
            bus=self.bus,
            topic=topics.ledger(self.bus),
            partition=self.world.partition,
            codec=self.codec,
            cause=f"{admitted.source}/{admitted.id}",
            correlation=None,
        )


async def write(log: Log, author: Author, batches: Iterable[Batch], *, inbox: bool) -> None:
    """Put the batches on the author's ledger as matching does, one transaction a batch with the inbox offset it reflects; the submissions
    on the inbox too where somebody is going to read it."""
    source = Partition(topics.inbox(author.bus), author.world.partition)
    group = topics.group(author.bus, "matching")
    appender = await log.appender()
    transactor = await log.transactor(f"{group}-{source.number}")
    try:
        for batch in batches:
            if inbox:
                await appender.append(batch.inbox)
            await transactor.commit(batch.ledger, group, {source: author.offset})
    finally:
        await transactor.close()
        await appender.close()
