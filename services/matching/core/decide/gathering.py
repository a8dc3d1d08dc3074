"""Routine referrals of a window, decided together: the best for all of them, and not for whoever came first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Placement, Price, WindowClosed
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabulary import Mode, Urgency
from services.matching.core.assignment import Assignment, assign, is_optimal
from services.matching.core.decide.answers import AllOpened
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import table
from services.matching.core.state import GATHERED, Region
from services.matching.core.window import Problem, Waiting, problem

MOST_GATHERED: Final = 250
"""Referrals in one window, so that assigning them takes a fraction of a second at worst; what comes beyond is decided on its arrival."""
_MINUTE_MS: Final = 60_000


def window_for(state: Region, urgency: Urgency, mode: Mode, now: int) -> int | None:
    """When the window closes that a referral is to wait for; None: it is decided at once."""
    if urgency != GATHERED or mode != "match" or state.policy is None or not state.policy.window_ms:
        return None
    if not state.window:
        return now + state.policy.window_ms
    return state.window_ends if len(state.window) < MOST_GATHERED and now < state.window_ends else None


def close_window(state: Region, policy: Policy, now: int, facts: AllOpened) -> WindowClosed:
    """Assign the referrals of the window. One whose facts can't be opened any more gets no service, and is closed when it is called."""
    among, asked = _asked(state, policy, now, facts)
    return _closed(state, among, assign(*asked))


def proved(
    state: Region, policy: Policy, now: int, facts: AllOpened, recorded: WindowClosed
) -> WindowClosed | None:
    """The event again as it should be written, if its prices prove that no assignment of the window is better, whoever found it and how;
    None if they don't. Nothing is solved."""
    among, asked = _asked(state, policy, now, facts)
    services = {one.referral: one.service for one in recorded.placements}
    prices = {one.service: int(one.price) for one in recorded.prices}
    found = Assignment(tuple([services.get(name) for name in among]), prices)
    return _closed(state, among, found) if is_optimal(found, *asked) else None


def possible(state: Region, policy: Policy, now: int, facts: AllOpened, recorded: WindowClosed) -> bool:
    """Whether it may be the best assignment, as far as that can be told where some facts are gone: nobody is left out, taken in by a
    service or given a place that is not there for any reason but theirs. What its prices are reckoned in hangs on everybody's facts, so
    they prove nothing any more."""
    if [one.referral for one in recorded.placements] != state.window:
        return False
    names = [one.service for one in recorded.prices]
    if names != sorted(set(names)) or any(int(one.price) < 0 for one in recorded.prices):
        return False
    given = Counter(one.service for one in recorded.placements if one.service is not None)
    if any(many > _free(state, service) for service, many in given.items()):
        return False
    for placement in recorded.placements:
        name, service = placement.referral, placement.service
        opened, known = facts.get(name), state.referrals[name]
        if isinstance(opened, Facts):
            rows = table(state, policy, person_of(opened, known.urgency), known.tried, now)
            takes = {row.profile.service for row in rows if row.unit is not None}
            if service is None and any(given[one] < _free(state, one) for one in takes):
                return False
            if service is not None and service not in takes:
                return False
        elif service is not None and name not in facts:
            # Nobody could open these when the window closed.
            return False
    return True


def _free(state: Region, service: str) -> int:
    """How many places an active service has."""
    if not state.catalogue.is_active(service):
        return 0
    profile = state.catalogue.profile(state.catalogue.slot(service))
    return sum(max(0, state.units[unit].free) for unit in profile.units)


def _asked(state: Region, policy: Policy, now: int, facts: AllOpened) -> tuple[list[str], Problem]:
    """The referrals of the window whose facts can be opened, and what is the best for them."""
    gathered: list[Waiting] = []
    for name in state.window:
        opened, known = facts.get(name), state.referrals[name]
        if isinstance(opened, Facts):
            rows = table(state, policy, person_of(opened, known.urgency), known.tried, now)
            gathered.append(Waiting(name, rows, max(0, now - known.opened_at) // _MINUTE_MS))
    return [one.referral for one in gathered], problem(gathered, policy, state.units, state.last_hash)


def _closed(state: Region, among: Sequence[str], found: Assignment) -> WindowClosed:
    services = dict(zip(among, found.chosen, strict=True))
    return WindowClosed(
        placements=[Placement(referral=name, service=services.get(name)) for name in state.window],
        prices=[Price(service=service, price=str(price)) for service, price in sorted(found.prices.items())],
    )
