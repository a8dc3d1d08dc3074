"""What operations put to a region: versions of reference data and of the rules, and that a person is to be forgotten."""

from __future__ import annotations

from referral_bus.contracts.inbox import AdoptReference, ForgetSubject
from referral_bus.contracts.ledger import Event, KeyDestroyed, ReferenceAdopted, RulesActivated
from services.matching.core.decide.answers import Asked, refused


def adopt(asked: Asked, body: AdoptReference) -> list[Event]:
    """Decide by this version from now on."""
    state = asked.state
    if body.kind == "rules":
        if body.version <= state.rules:
            return refused("reference_outdated", body.reference)
        if body.version not in asked.supported:
            return refused("rules_unsupported", body.reference)
        return [RulesActivated(version=body.version)]
    if body.version <= state.versions.get((body.kind, body.reference), 0):
        return refused("reference_outdated", body.reference)
    protocol = body.protocol
    calendar = getattr(protocol or body.organisation, "calendar", None)
    if calendar is not None and calendar not in state.calendars:
        return refused("unknown_calendar", calendar)
    for told in () if protocol is None else protocol.all_told:
        if told not in state.organisations:
            return refused("unknown_organisation", told)
    return [
        ReferenceAdopted(
            kind=body.kind,
            reference=body.reference,
            version=body.version,
            organisation=body.organisation,
            agreement=body.agreement,
            protocol=body.protocol,
            policy=body.policy,
            calendar=body.calendar,
            taxonomy=body.taxonomy,
            crosswalk=body.crosswalk,
        )
    ]


def forget(_: Asked, body: ForgetSubject) -> list[Event]:
    """Nothing is decided by this person's facts any more."""
    return [KeyDestroyed(subject=body.subject)]
