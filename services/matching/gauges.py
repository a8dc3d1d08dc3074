"""What the regions of a process look like now, for the metrics: offers, referrals nobody accepted, places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

from prometheus_client import Gauge

from referral_bus.contracts.vocabulary import URGENCIES
from referral_bus.log.port import Partition
from referral_bus.runtime import metrics
from referral_bus.runtime.clock import Clock
from services.matching.core.referral import DAY_MS
from services.matching.core.state import Region
from services.matching.partition import PartitionWork

LOOK_SECONDS: Final = 5.0
Told = dict[tuple[Gauge, tuple[str, ...]], float]


class Gauges:
    """Sets the gauges of matching. What is another process's after a rebalance is no longer told here: it would count twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: Told = {}

    async def run(self, owned: Mapping[Partition, PartitionWork]) -> None:
        """Until cancelled."""
        while True:
            self.tell(owned)
            await asyncio.sleep(LOOK_SECONDS)

    def tell(self, owned: Mapping[Partition, PartitionWork]) -> None:
        """Set all of them as of now."""
        told: Told = {}
        now = self._clock.now()
        for partition, work in list(owned.items()):
            number = (str(partition.number),)
            states = [chain.state for chain in work.chains.values()]
            told[metrics.OFFERS_OPEN, number] = sum(_offers(state) for state in states)
            told[metrics.REFERRALS_ACTIVE, number] = sum(len(state.referrals) for state in states)
            for state in states:
                _referrals(told, state, now)
                _places(told, state, now)
        for (gauge, labels), value in told.items():
            gauge.labels(*labels).set(value)
        for gauge, labels in self._told.keys() - told.keys():
            gauge.remove(*labels)
        self._told = told


def _offers(state: Region) -> int:
    # What is held for another region is an offer of that region's.
    return sum(unit.held for unit in state.units.values()) - sum(state.promised.values())


def _referrals(told: Told, state: Region, now: int) -> None:
    waiting: Counter[str] = Counter()
    oldest: dict[str, int] = dict.fromkeys(URGENCIES, now)
    overdue = waitlisted = 0
    for known in state.referrals.values():
        waitlisted += known.waits_for is not None
        since = known.unaccepted_since
        if since is None:
            continue
        waiting[known.urgency] += 1
        oldest[known.urgency] = min(oldest[known.urgency], since)
        if known.urgency == "crisis":
            overdue += now - since > known.protocol.offer_limits.crisis
    region = state.region
    told[metrics.CRISIS_OVERDUE, (region,)] = overdue
    told[metrics.WAITLISTED, (region,)] = waitlisted
    for urgency in URGENCIES:
        told[metrics.UNACCEPTED, (region, urgency)] = waiting[urgency]
        told[metrics.UNACCEPTED_SECONDS, (region, urgency)] = (now - oldest[urgency]) / 1000


def _places(told: Told, state: Region, now: int) -> None:
    free = held = taken = stale = 0
    for unit in state.units.values():
        if not state.catalogue.is_active(unit.service):
            continue
        held += unit.held
        taken += unit.taken
        left = max(0, unit.free)
        free += left
        if now - unit.counted_at > DAY_MS:
            stale += left
    region = state.region
    told[metrics.PLACES, (region, "free")] = free
    told[metrics.PLACES, (region, "held")] = held
    told[metrics.PLACES, (region, "taken")] = taken
    told[metrics.PLACES_STALE, (region,)] = stale
