"""Anybody may say anything at any time: what holds for the core whatever comes.

Parties that are right, wrong, early, late, unknown or repeat themselves send to one region, whose clock jumps. After every step the
promises are counted up anew from the ledger, which knows nothing of how the core keeps them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from referral_bus.contracts.facts import Facts, Need, NumberFact
from referral_bus.contracts.inbox import AcceptOffer, DeclineOffer, Submission, Tick
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    Received,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    SubmissionParked,
    SubmissionRefused,
    SubmissionResumed,
)
from referral_bus.contracts.vocabulary import REFUSALS
from referral_bus.wire.codec import Codec
from services.matching.chain import Chain
from services.matching.core.decide import decide, wanted_facts
from services.matching.core.state import Region
from services.matching.snapshots import Snapshot, Snapshots, capture
from tests.support.deciding import (
    BUS,
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    PROTOCOL,
    REGION,
    World,
    accept,
    decline,
    forget,
    of,
    offers,
    organisation,
    outcome,
    picture,
    policy,
    protocol,
    publish,
    report,
    rules,
    start,
    stated_area,
    subject_of,
    withdraw,
)

CODEC = Codec.load()
PARTIES = ["police", "hospital", "shelter", "clinic", "pantry", "court", "un-habitat"]
"""The last two are adopted late, if at all."""
PEOPLE: list[Facts] = [
    HOUSING,
    HOUSING.model_copy(update={"needs": [Need(code="food")]}),
    HOUSING.model_copy(update={"needs": [Need(code="housing"), Need(code="food")]}),
    HOUSING.model_copy(update={"age": NumberFact(status="unknown"), "area": stated_area("harbour")}),
]
JUMPS = [0, 0, 1, 1, 1000, MINUTE, 10 * MINUTE, HOUR, DAY, 50 * DAY, -1, -MINUTE]

parties = st.sampled_from(PARTIES)
numbers = st.integers(1, 5)
locals_ = st.sampled_from(["a", "b", "c"])
few = st.integers(0, 3)
urgencies = st.sampled_from(["crisis", "urgent", "routine"])
ids = st.none() | st.sampled_from([f"id-{number}" for number in range(4)])


class Anybody(RuleBasedStateMachine):
    """One region, and everybody who talks to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(CODEC)
        self.reader = Chain(Region(REGION))
        self.sent: list[Received] = []
        self.seen = self.referred = 0
        self.carried: Counter[int] = Counter()
        self.open: dict[str, OfferMade] = {}
        self.acceptances: Counter[str] = Counter()
        self.offered: dict[str, list[str]] = {}
        self.parked: set[int] = set()
        self.read()

    @initialize()
    def some_services(self) -> None:
        for local, provider in (("a", "shelter"), ("b", "clinic"), ("c", "shelter")):
            self.send(publish(offers(local, provider, needs=["housing", "food"], total=2)), provider)

    # What is said

    @rule(agency=st.sampled_from(["police", "hospital"]), facts=st.sampled_from(PEOPLE), urgency=urgencies)
    def refers(self, agency: str, facts: Facts, urgency: Any) -> None:
        self.referred += 1
        self.send(self.world.submission(facts, agency=agency, number=self.referred, urgency=urgency), agency)

    @rule(agency=parties, number=numbers, person=numbers, readable=st.booleans(), id=ids, urgency=urgencies)
    def refers_somehow(
        self, agency: str, number: int, person: int, readable: bool, id: str | None, urgency: Any
    ) -> None:
        body = self.world.submission(agency=agency, number=number, person=person, urgency=urgency)
        if not readable:
            body = body.model_copy(update={"sealed_facts": b"not sealed"})
        self.send(body, agency, id=id)

    @rule(who=parties, agency=parties, number=numbers, attempt=st.integers(1, 3), id=ids,
          what=st.sampled_from([accept, decline, withdraw, start, outcome]))  # fmt: skip
    def says_something_of_a_referral(
        self, who: str, agency: str, number: int, attempt: int, id: str | None, what: Any
    ) -> None:
        referral = of(agency, number)
        body = what(referral, attempt) if what in (accept, decline) else what(referral)
        self.send(body, who, id=id)

    @rule(chosen=st.integers(0, 99), who=parties)
    def answers_for_another(self, chosen: int, who: str) -> None:
        made = list(self.open.values())
        if made:
            self.send(AcceptOffer(task=made[chosen % len(made)].task), who)

    @rule(chosen=st.integers(0, 99), accepts=st.sampled_from([True, True, False]))
    def answers_what_was_offered(self, chosen: int, accepts: bool) -> None:
        made = list(self.open.values())
        if made:
            offer = made[chosen % len(made)]
            body = AcceptOffer(task=offer.task) if accepts else DeclineOffer(task=offer.task, reason="other")
            self.send(body, offer.provider)

    @rule(chosen=st.integers(0, 99), what=st.sampled_from([withdraw, start, outcome, outcome]))
    def reports(self, chosen: int, what: Any) -> None:
        known = list(self.world.state.referrals.items())
        if known:
            name, referral = known[chosen % len(known)]
            provider = referral.tasks[-1].provider if referral.tasks else "shelter"
            self.send(what(name), referral.agency if what is withdraw else provider)

    @rule(who=parties, local=locals_, total=few, available=few, late=st.sampled_from([0, -HOUR, HOUR]))
    def counts(self, who: str, local: str, total: int, available: int, late: int) -> None:
        self.send(report(local, total, available, max(0, self.world.now + late)), who)

    @rule(local=locals_, total=few, available=few)
    def counts_rightly(self, local: str, total: int, available: int) -> None:
        known = self.world.state.catalogue.definitions.get(f"sv-north-{local}")
        if known is not None:
            at = self.world.now + MINUTE
            self.send(report(local, total, min(total, available), at), known.organisation)

    @rule(who=parties, local=locals_, total=few, active=st.booleans(), unit=locals_, screens=st.booleans(),
          needs=st.sampled_from([["housing"], ["food"], ["housing", "food"]]))  # fmt: skip
    def publishes(
        self, who: str, local: str, total: int, active: bool, unit: str, screens: bool, needs: list[str]
    ) -> None:
        units = [*offers(unit, total=total).units, *offers(local, total=total).units]
        self.send(publish(offers(local, who, active=active, units=units, needs=needs, screens=screens)), who)

    @rule(what=st.sampled_from(["organisation", "organisation", "protocol", "policy", "rules"]), who=parties,
          version=st.integers(1, 4), most=st.integers(1, 3), patience=st.sampled_from([0, MINUTE, HOUR]))  # fmt: skip
    def adopts(self, what: str, who: str, version: int, most: int, patience: int) -> None:
        limits = {"version": version, "maximum_offers": most, "parking_ms": patience}
        body = {
            "organisation": organisation(who, version),
            "protocol": protocol(PROTOCOL.model_copy(update=limits)),
            "policy": policy(POLICY.model_copy(update={"version": version, "best": most})),
            "rules": rules(version),
        }[what]
        self.send(body, OPERATIONS)

    @rule(chosen=st.integers(0, 99), destroyed=st.booleans())
    def forgets(self, chosen: int, destroyed: bool) -> None:
        subject = subject_of(chosen % (self.referred + 2))
        if destroyed:
            self.world.destroyed.setdefault(subject, self.world.state.sequence)
        self.send(forget(subject), OPERATIONS)

    @rule(chosen=st.integers(0, 99), change=st.booleans(), age=st.sampled_from([0, HOUR, 91 * DAY]))
    def repeats(self, chosen: int, change: bool, age: int) -> None:
        if self.sent:
            again = self.sent[chosen % len(self.sent)]
            digest = b"another body" if change else again.admitted.digest
            sent_at = max(0, again.admitted.sent_at - age)
            self.send(again.body, again.admitted.source, id=again.admitted.id, digest=digest, sent_at=sent_at)

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: int) -> None:
        self.world.now += jump

    @rule(due=st.integers(-HOUR, HOUR))
    def ticks(self, due: int) -> None:
        world = self.world
        self.take(world.received(Tick(region=REGION, due=max(0, world.now + due)), "matching"))
        now = max(world.state.now, world.now)
        assert all(offer.expires_at > now for offer in self.open.values())
        assert all(parked.until > now for parked in world.state.parked.values())
        due_next = world.state.next_due()
        assert due_next is None or due_next.at > now

    # What comes of it

    def send(self, body: Submission, source: str, **envelope: Any) -> None:
        received = self.world.received(body, source, **envelope)
        self.sent.append(received)
        self.take(received)

    def take(self, received: Received) -> None:
        state = self.world.state
        now = max(state.now, received.admitted.append_time)
        before = picture(state)
        facts = self.world.open(wanted_facts(state, received, now))
        twice = [decide(state, received, now, facts) for _ in range(2)]
        assert twice[0] == twice[1]
        assert picture(state) == before, "decide changed the state"
        events = self.world.take(received)
        assert events[: len(twice[0])] == twice[0]
        is_tick = isinstance(received.body, Tick)
        assert events or is_tick, "a submission was not answered"
        new = self.world.entries[self.seen :]
        if events:
            first = new[0][0].meta.submission
            assert first == received.admitted, "the first event does not carry the submission"
        self.read(received.admitted.offset if is_tick else None)
        assert is_tick or self.carried[received.admitted.offset] == 1

    def read(self, tick: int | None = None) -> None:
        """Read what was written as any reader would, and count."""
        for entry, value in self.world.entries[self.seen :]:
            assert entry.meta.sequence == self.reader.state.sequence + 1
            assert entry.meta.prev_hash == self.reader.prev_hash
            read = CODEC.decode_entry(value)
            assert read == entry
            self.reader.take(read, value)
            carried = entry.meta.submission
            if carried is not None:
                self.carried[carried.offset] += 1
                assert carried.offset == tick or self.carried[carried.offset] == 1, "answered twice"
            self.count(entry.event, entry.meta.sequence)
        self.seen = len(self.world.entries)

    def count(self, event: Event, sequence: int) -> None:
        match event:
            case ReferralOpened():
                assert event.referral not in self.offered
                self.offered[event.referral], self.acceptances[event.referral] = [], 0
            case OfferMade():
                assert event.service not in self.offered[event.referral], "offered twice to one service"
                assert not any(one.referral == event.referral for one in self.open.values())
                self.offered[event.referral].append(event.service)
                most = self.world.state.referrals.get(event.referral)
                assert most is None or len(self.offered[event.referral]) <= most.protocol.maximum_offers
                self.open[event.task] = event
            case OfferAccepted() | OfferDeclined() | OfferExpired():
                made = self.open.pop(event.task)
                assert made.provider == event.provider
                if isinstance(event, OfferAccepted):
                    self.acceptances[event.referral] += 1
                    assert self.acceptances[event.referral] == 1, "accepted twice"
            case ReferralWithdrawn() if event.task is not None:
                self.open.pop(event.task, None)
            case ReferralClosed():
                del self.offered[event.referral]
            case SubmissionParked():
                self.parked.add(sequence)
            case SubmissionResumed():
                self.parked.remove(event.parked)
            case SubmissionRefused():
                assert event.reason in REFUSALS
                resumed = self.world.entries[sequence - 2][0].event if sequence > 1 else None
                if event.parked is not None and resumed != SubmissionResumed(parked=event.parked):
                    self.parked.remove(event.parked)

    @invariant()
    def no_place_is_sold_twice(self) -> None:
        held = Counter(offer.unit for offer in self.open.values())
        for name, unit in self.world.state.units.items():
            assert unit.free >= 0, f"{name} is below zero"
            assert unit.taken >= 0
            assert unit.held == held[name], f"{name} holds other places than are on offer"

    @invariant()
    def what_waits_is_what_was_parked(self) -> None:
        state = self.world.state
        assert set(state.parked) == self.parked
        assert not state.ready
        assert sorted(one for waiting in state.waiting.values() for one in waiting) == sorted(self.parked)

    @invariant()
    def whoever_reads_the_ledger_comes_to_the_same_state(self) -> None:
        assert picture(self.reader.state) == picture(self.world.state)
        assert self.reader.prev_hash == self.world.chain.prev_hash

    def teardown(self) -> None:
        values = [value for _, value in self.world.entries]
        hashes = [GENESIS_HASH, *(sha256(value).digest() for value in values)]
        assert [entry.meta.prev_hash for entry, _ in self.world.entries] == hashes[:-1]
        assert self.world.again() == values, "the ledger decided again is another"
        asyncio.run(self.keep_and_read())

    async def keep_and_read(self) -> None:
        """A snapshot of whatever the region came to is that state."""
        with TemporaryDirectory() as folder:
            snapshots = Snapshots(Path(folder), BUS)
            await snapshots.save(capture(Snapshot(0, 1, {REGION: self.world.chain})))
            snapshot = await snapshots.load(0)
        assert snapshot is not None
        kept = snapshot.chains[REGION]
        assert picture(kept.state) == picture(self.world.state)
        assert kept.prev_hash == self.world.chain.prev_hash


class TestAnybody(Anybody.TestCase):
    """Runs the machine; the same steps each time, so that a failure is everybody's."""

    settings = settings(
        max_examples=80,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
