"""The whole table of a match, made anew from the ledger: the certificate shows its best and nearest, its digest stands for all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import (
    Entry,
    Judged,
    MatchDecided,
    ReferralAmended,
    ReferralOpened,
    ReferralReopened,
    ServiceProposed,
)
from referral_bus.log.port import Log
from referral_bus.wire.codec import Codec
from services.matching.chain import Chain
from services.matching.core.decide import FactsGone, WantedFacts
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import Table, judged
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.verify import begins, whole_ledger


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One match as recorded at ``sequence``, and its table as it comes out now; ``rows`` is None where the facts can't be opened."""

    sequence: int
    recorded: MatchDecided
    rows: list[Judged] | None
    digest: bytes
    facts: FactsGone | None


async def recompute(
    log: Log, topic: str, region: str, referral: str, codec: Codec, opener: FactsOpener
) -> AsyncIterator[Recomputed]:
    """Each match of a referral, in their order. Raises LogError, KeyStoreError, and LedgerDamaged where the chain breaks."""
    chain = Chain(Region(region))
    sealed: WantedFacts | None = None
    proposed: str | None = None
    async for record, _ in whole_ledger(log, topic):
        if record.key != region.encode():
            continue
        entry = codec.decode_entry(record.value)
        event = entry.event
        if begins(entry):
            # Places are judged as they were before the decision, whatever its first events free.
            chain.state.look_at_places()
            proposed = None
        if isinstance(event, ServiceProposed):
            proposed = event.service
        if isinstance(event, ReferralOpened) and event.referral == referral:
            sealed = WantedFacts(referral, event.subject, event.sealed_facts)
        elif isinstance(event, ReferralAmended | ReferralReopened) and event.referral == referral:
            if sealed is not None and event.sealed_facts is not None:
                sealed = sealed._replace(sealed=event.sealed_facts)
        elif isinstance(event, MatchDecided) and event.referral == referral and sealed is not None:
            yield await _again(chain, entry, event, sealed, proposed, opener)
        chain.take(entry, record.value or b"")


async def _again(
    chain: Chain,
    entry: Entry,
    recorded: MatchDecided,
    wanted: WantedFacts,
    proposed: str | None,
    opener: FactsOpener,
) -> Recomputed:
    state, sequence = chain.state, entry.meta.sequence
    facts = (await opener.open([wanted]))[wanted.referral]
    known, policy = state.referrals.get(recorded.referral), state.policy
    if not isinstance(facts, Facts) or policy is None or known is None:
        gone = facts if isinstance(facts, str) else "unreadable"
        return Recomputed(sequence, recorded, None, b"", gone)
    person, tried, now = person_of(facts, known.urgency), state.tried(known), entry.meta.now
    table = Table(state, policy, person, tried, now, proposed or known.target)
    return Recomputed(sequence, recorded, [judged(row) for row in table.rows()], table.digest(), None)
