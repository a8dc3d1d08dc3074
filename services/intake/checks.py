"""What can be said of a request without asking anything else: who may, about what, of which region, and when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from referral_bus.contracts.ids import part_id, referral_id, referral_of, region_of
from referral_bus.contracts.inbox import CLOCK_SKEW_MS
from referral_bus.contracts.message import Part, nul_in
from referral_bus.contracts.requests import (
    AcceptRequest,
    AcknowledgeRequest,
    AmendRequest,
    AnswerRequest,
    AskRequest,
    CapacityRequest,
    ContactRequest,
    DeclineRequest,
    FollowUpRequest,
    HandoffRequest,
    HoldRequest,
    NoShowRequest,
    OutcomeRequest,
    ProposeRequest,
    ReferralRequest,
    ReopenRequest,
    ResumeRequest,
    RetractRequest,
    ServiceRequest,
    SplitRequest,
    StartRequest,
    TransferRequest,
    WithdrawRequest,
)
from referral_bus.contracts.vocabulary import Role
from services.intake.reference import Reference
from services.intake.refusals import Refused, holds_nul

Door = Literal["api", "events", "outbox"]

HORIZON_MS: Final = 90 * 24 * 3_600_000
"""How long a repeat is recognised: 90 days."""

ROLES: Final[dict[type[Part], tuple[Role, ...]]] = {
    ReferralRequest: ("agency",),
    AmendRequest: ("agency",),
    HoldRequest: ("agency", "provider"),
    ResumeRequest: ("agency", "provider"),
    TransferRequest: ("agency",),
    SplitRequest: ("agency",),
    ReopenRequest: ("agency",),
    WithdrawRequest: ("agency",),
    AcknowledgeRequest: ("provider",),
    AcceptRequest: ("provider",),
    DeclineRequest: ("provider",),
    AskRequest: ("provider",),
    AnswerRequest: ("agency",),
    ProposeRequest: ("provider",),
    StartRequest: ("provider",),
    NoShowRequest: ("provider",),
    ContactRequest: ("provider",),
    HandoffRequest: ("agency", "provider"),
    OutcomeRequest: ("provider",),
    FollowUpRequest: ("agency", "provider"),
    RetractRequest: ("agency", "provider"),
    CapacityRequest: ("provider",),
    ServiceRequest: ("provider",),
}
"""The roles of which one is needed; what it may be said about, matching judges."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A request as a party puts it to a door: who it says it is, under which id, when (epoch milliseconds UTC), what."""

    id: str
    organisation: str
    sent_at: int
    request: Part
    door: Door

    @property
    def id_field(self) -> str:
        """What its sender calls the id."""
        return "Idempotency-Key" if self.door == "api" else "id"

    @property
    def speaker_field(self) -> str:
        """Where its sender says who it is. At the typed routes the organisation and its roles are the token's claims."""
        return "Authorization" if self.door == "api" else "source"

    def field(self, name: str) -> str:
        """What its sender calls a field of the request. The body of a service's route is the definition itself."""
        return name.removeprefix("definition.") if self.door == "api" else f"data.{name}"


@dataclass(frozen=True, slots=True)
class Routed:
    """A request that may be admitted: its region and partition, the id it is about, the referral it belongs to, and the parts it
    splits that into."""

    presented: Presented
    region: str
    partition: int
    about: str
    referral: str | None
    parts: tuple[str, ...] = ()


def check(
    presented: Presented, speaker: str, roles: Sequence[str], reference: Reference, bus: str, now: int
) -> Routed:
    """Whether ``speaker`` may say this now, and where it belongs. Raises :class:`Refused`."""
    _speaks_for_itself(presented, speaker, roles, reference)
    _in_time(presented.sent_at, now)
    held_by = nul_in(presented.request)
    if held_by is not None:
        raise holds_nul(presented.field(held_by))
    region, about, referral = _place(presented, reference, bus)
    partition = reference.partition_of(region)
    if partition is None:
        raise Refused("unknown_region", field=presented.field(_where_from(presented.request)))
    return Routed(presented, region, partition, about, referral, _parts(presented, region, bus))


def _speaks_for_itself(
    presented: Presented, speaker: str, roles: Sequence[str], reference: Reference
) -> None:
    if presented.organisation != speaker:
        raise Refused("not_yourself", field=presented.speaker_field)
    organisation = reference.organisations.get(speaker)
    if organisation is None:
        raise Refused("unknown_organisation", field=presented.speaker_field)
    wanted = ROLES[type(presented.request)]
    if not any(role in roles and role in organisation.roles for role in wanted):
        raise Refused(
            "role_missing", f"It takes the role {' or '.join(wanted)}.", field=presented.speaker_field
        )
    if isinstance(presented.request, ServiceRequest) and presented.request.definition.organisation != speaker:
        raise Refused("not_yourself", field=presented.field("definition.organisation"))


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
            region = request.region or _usual_region(request, reference, presented.organisation)
            referral = referral_id(region, bus, presented.organisation, presented.id)
            return region, referral, referral
        case (
            AmendRequest()
            | HoldRequest()
            | ResumeRequest()
            | TransferRequest()
            | SplitRequest()
            | ReopenRequest()
            | WithdrawRequest()
            | StartRequest()
            | NoShowRequest()
            | ContactRequest()
            | HandoffRequest()
            | OutcomeRequest()
            | FollowUpRequest()
            | RetractRequest()
        ):
            return region_of(request.referral), request.referral, request.referral
        case (
            AcknowledgeRequest()
            | AcceptRequest()
            | DeclineRequest()
            | AskRequest()
            | AnswerRequest()
            | ProposeRequest()
        ):
            return region_of(request.task), request.task, referral_of(request.task)
        case CapacityRequest():
            return region_of(request.unit), request.unit, None
        case ServiceRequest():
            region = region_of(request.definition.service)
            if any(region_of(unit.unit) != region for unit in request.definition.units):
                raise Refused("region_mismatch", field=presented.field("definition.units"))
            if any(reference.partition_of(other) is None for other in request.definition.regions):
                raise Refused("unknown_region", field=presented.field("definition.regions"))
            return region, request.definition.service, None
    raise TypeError(f"{type(request).__name__} is no request of the bus")


def _where_from(request: Part) -> str:
    """The field that says which region it is."""
    match request:
        case ReferralRequest() if request.region is not None or request.service is None:
            return "region"
        case ReferralRequest():
            return "service"
        case ServiceRequest():
            return "definition.service"
        case _:
            return next(name for name in ("referral", "task", "unit") if name in type(request).model_fields)


def _usual_region(request: ReferralRequest, reference: Reference, agency: str) -> str:
    """Only the named service's own region can offer it."""
    if request.service is not None:
        return region_of(request.service)
    return reference.organisations[agency].home_region


def _parts(presented: Presented, region: str, bus: str) -> tuple[str, ...]:
    """The same for a repeat, like the referral a submission opens."""
    request = presented.request
    if not isinstance(request, SplitRequest):
        return ()
    return tuple(
        part_id(region, bus, presented.organisation, presented.id, number)
        for number in range(1, len(request.parts) + 1)
    )
