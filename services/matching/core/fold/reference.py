"""Reference data, rules and destroyed keys."""

from __future__ import annotations

from referral_bus.contracts.ledger import KeyDestroyed, Meta, ReferenceAdopted, RulesActivated
from services.matching.core.fold.submissions import wake
from services.matching.core.rules import UnsupportedRules
from services.matching.core.state import Region


def adopted(state: Region, _: Meta, event: ReferenceAdopted) -> None:
    state.versions[event.kind, event.reference] = event.version
    if event.organisation is not None:
        state.organisations[event.organisation.organisation] = event.organisation
        wake(state, event.organisation.organisation)
    elif event.protocol is not None:
        state.protocols.pop(event.protocol.protocol, None)
        state.protocols[event.protocol.protocol] = event.protocol
    elif event.policy is not None:
        state.policy = event.policy
    elif event.calendar is not None:
        state.keep(event.calendar)
    elif event.taxonomy is not None:
        state.vocabularies.put_taxonomy(event.taxonomy)
    elif event.crosswalk is not None:
        state.vocabularies.put_crosswalk(event.crosswalk)


def activated(state: Region, meta: Meta, event: RulesActivated, supported: frozenset[int]) -> None:
    if event.version not in supported:
        raise UnsupportedRules(
            f"region {state.region} activated rules {event.version} at sequence {meta.sequence}: upgrade matching first"
        )
    state.rules = event.version


def key_destroyed(state: Region, _: Meta, event: KeyDestroyed) -> None:
    state.erased.add(event.subject)
