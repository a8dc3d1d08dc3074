"""Whoever waits lines up for a service that is new, or is not what it was, if it would take them now: nobody waits until they are looked at
anew while there is a place for them. And which of those that had no place would still take them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Event, ReferralWaitlisted
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.services import ServiceDefinition
from services.matching.core.decide.answers import AllOpened
from services.matching.core.judging.eligibility import Person, person_of
from services.matching.core.judging.match import MOST_WAITED_FOR, table
from services.matching.core.state import Region, Unit

MOST_LOOKED_AT: Final = 1_000
"""Of those who wait, the first so many, so that a publication takes a fraction of a second at worst; the others find the service when they
are looked at anew."""


def who_may_line_up(state: Region, definition: ServiceDefinition) -> list[str]:
    """Those whose facts say whether they line up for the service as it is described now, the first in line first."""
    service = definition.service
    if not definition.active or definition == state.catalogue.definitions.get(service):
        return []
    may = (
        name
        for name, known in state.waiters()
        if known.target in (None, service)
        and service not in (waits_for := known.waits_for or ())
        and len(waits_for) < MOST_WAITED_FOR
        and service not in state.tried(known)
    )
    return list(islice(may, MOST_LOOKED_AT))


def lined_up(state: Region, definition: ServiceDefinition, now: int, facts: AllOpened) -> list[Event]:
    """Let those among them line up whom the service would take if it had a place."""
    names = who_may_line_up(state, definition)
    if state.policy is None or not names:
        return []
    alone = _alone(state, definition, now)
    events: list[Event] = []
    for name in names:
        opened, known = facts.get(name), state.referrals[name]
        if not isinstance(opened, Facts):
            continue
        if _takes(alone, state.policy, person_of(opened, known.urgency), now):
            services = [*(known.waits_for or ()), definition.service]
            events.append(ReferralWaitlisted(referral=name, services=services, review=known.review_at))
    return events


def would_take(state: Region, policy: Policy, services: Iterable[str], person: Person, now: int) -> list[str]:
    """Those of the services that would take the person if they had a place."""
    definitions = [state.catalogue.definitions[service] for service in services]
    return [
        definition.service
        for definition in definitions
        if _takes(_alone(state, definition, now), policy, person, now)
    ]


def _takes(alone: Region, policy: Policy, person: Person, now: int) -> bool:
    return any(row.ruled_out is None for row in table(alone, policy, person, frozenset(), now))


def _alone(state: Region, definition: ServiceDefinition, now: int) -> Region:
    """A region that has this service and no other, with places."""
    alone = Region(state.region, vocabularies=state.vocabularies)
    alone.catalogue.put(definition)
    for described in definition.units:
        alone.units[described.unit] = Unit(described.unit, definition.service, 1, 0, 0, now)
    return alone
