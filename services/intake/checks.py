"""What can be said of a request without asking anything else: who may, about what, of which region, and when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from referral_bus.contracts.ids import referral_id, referral_of, region_of
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import (
    AcceptRequest,
    CapacityRequest,
    DeclineRequest,
    OutcomeRequest,
    ReferralRequest,
    ServiceRequest,
    StartRequest,
    WithdrawRequest,
)
from referral_bus.contracts.vocabulary import Role
from services.intake.reference import Reference
from services.intake.refusals import Refused

Door = Literal["api", "events", "outbox"]

HORIZON_MS: Final = 90 * 24 * 3_600_000
"""How long a repeat is recognised: 90 days."""

CLOCK_SKEW_MS: Final = 10 * 60_000
"""How far ahead of intake's clock a sender's may be."""

_ROLE: Final[dict[type[Part], Role]] = {
    ReferralRequest: "agency",
    WithdrawRequest: "agency",
    AcceptRequest: "provider",
    DeclineRequest: "provider",
    StartRequest: "provider",
    OutcomeRequest: "provider",
    CapacityRequest: "provider",
    ServiceRequest: "provider",
}


@dataclass(frozen=True, slots=True)
class Presented:
    """A request as a party puts it to a door: who it says it is, under which id, when (epoch milliseconds UTC), what."""

    id: str
    organisation: str
    sent_at: int
    request: Part
    door: Door


@dataclass(frozen=True, slots=True)
class Routed:
    """A request that may be admitted: its region and partition, the id it is about, and the referral it belongs to."""

    presented: Presented
    region: str
    partition: int
    about: str
    referral: str | None


def check(
    presented: Presented, speaker: str, roles: Sequence[str], reference: Reference, bus: str, now: int
) -> Routed:
    """Whether ``speaker`` may say this now, and where it belongs. Raises :class:`Refused`."""
    _speaks_for_itself(presented, speaker, roles, reference)
    _in_time(presented.sent_at, now)
    region, about, referral = _place(presented, reference, bus)
    partition = reference.partition_of(region)
    if partition is None:
        raise Refused("unknown_region", field="region")
    return Routed(presented, region, partition, about, referral)


def _speaks_for_itself(
    presented: Presented, speaker: str, roles: Sequence[str], reference: Reference
) -> None:
    if presented.organisation != speaker:
        raise Refused("not_yourself", field="source")
    organisation = reference.organisations.get(speaker)
    if organisation is None:
        raise Refused("unknown_organisation", field="source")
    role = _ROLE[type(presented.request)]
    if role not in roles or role not in organisation.roles:
        raise Refused("role_missing", f"It takes the role {role}.")
    if isinstance(presented.request, ServiceRequest) and presented.request.definition.organisation != speaker:
        raise Refused("not_yourself", field="definition.organisation")


def _in_time(sent_at: int, now: int) -> None:
    if sent_at < now - HORIZON_MS:
        raise Refused("too_old", field="time")
    if sent_at > now + CLOCK_SKEW_MS:
        raise Refused("in_future", field="time")


def _place(presented: Presented, reference: Reference, bus: str) -> tuple[str, str, str | None]:
    """Region, the id spoken of, and the referral."""
    request = presented.request
    match request:
        case ReferralRequest():
            region = request.region or reference.organisations[presented.organisation].home_region
            referral = referral_id(region, bus, presented.organisation, presented.id)
            return region, referral, referral
        case WithdrawRequest() | StartRequest() | OutcomeRequest():
            return region_of(request.referral), request.referral, request.referral
        case AcceptRequest() | DeclineRequest():
            return region_of(request.task), request.task, referral_of(request.task)
        case CapacityRequest():
            return region_of(request.unit), request.unit, None
        case ServiceRequest():
            region = region_of(request.definition.service)
            if any(region_of(unit.unit) != region for unit in request.definition.units):
                raise Refused("region_mismatch", field="definition.units")
            return region, request.definition.service, None
    raise TypeError(f"{type(request).__name__} is no request of the bus")
