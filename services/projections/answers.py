"""What the query API answers with."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from services.projections.views.adopted import ShownKind
from services.projections.views.waits import WaitsFor


class Happened(BaseModel):
    """One event of a referral. ``detail`` is as the event's type has it; ``at`` in epoch milliseconds, UTC."""

    sequence: int
    type: str
    at: int
    task: str | None
    correction: bool = Field(
        description="It corrects the record after the end: something reported late, or an outcome reported anew."
    )
    detail: dict[str, Any]


class ReferralRow(BaseModel):
    """Where a referral stands. ``status`` is FHIR's; ``standing`` says it in the bus's words. Times in epoch milliseconds, UTC."""

    referral: str
    region: str
    agency: str
    subject: str | None = Field(description="The person's pseudonym, for the agency that referred.")
    erased: bool = Field(description="The person's keys are destroyed: nothing of them can be shown again.")
    urgency: str
    purpose: str
    status: str
    standing: Literal[
        "opened", "offered", "waitlisted", "accepted", "started", "on-hold", "split", "closed"
    ] = Field(
        description="Where it stands. An accepted service that rests is on-hold while the status stays active; one that had begun when "
        "the agency withdrew is started, until its outcome, while the status is revoked."
    )
    reason: str | None = Field(description="Why it was closed, where the caller may know.")
    outcome: str | None = Field(description="What came of it, where the caller may know.")
    corrected: bool = Field(description="The outcome was corrected, where the caller may know.")
    attempts: int | None
    task: str | None
    service: str | None
    accepted_by: str | None
    mode: str | None = Field(description="How a service is found, for the agency.")
    protocol: str
    protocol_version: int
    part_of: str | None = Field(
        description="The referral that was split into this and others, for the agency."
    )
    parts: list[str] | None = Field(description="What it was split into, for the agency.")
    hold_reason: str | None = Field(description="Why it rests, for the agency.")
    held_until: int | None = Field(description="Until when it rests, for the agency.")
    waits_for: list[str] | None = Field(
        description="The services that would take the person if they had a place, for the agency."
    )
    review_at: int | None = Field(description="When it is matched anew while it waits, for the agency.")
    opened_at: int
    reopened_at: int | None
    changed_at: int


class Written(BaseModel):
    """What a party wrote with the event at that sequence. ``withheld`` says why the text is not there."""

    sequence: int
    kind: Literal["note", "question", "answer"]
    task: str | None
    text: str | None
    withheld: str | None


class Explained(BaseModel):
    """How one match was decided, in sentences, as its certificate has it: how many services were considered, what ruled them out, who came
    first and why, and which were near and would have taken the person if what. ``at`` in epoch milliseconds, UTC.

    A lot can be drawn again: it is the first six bytes, as a number, of SHA-256 over the policy's seed
    (``GET /v1/reference/policy/{name}``), the 32 bytes ``drawn_after``, the referral, each with a zero byte behind it, and the service."""

    attempt: int
    at: int
    policy: str
    policy_version: int
    drawn_after: str | None = Field(
        description="The hash of the region's event before the decision, in hexadecimal; null where no lot was drawn."
    )
    lines: list[str]


class Timeline(ReferralRow):
    """A referral and what happened to it. ``withheld`` says why what was asked for with ``show`` is not there."""

    events: list[Happened]
    facts: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    note: dict[str, Any] | None = Field(
        default=None, description="The note that came with the outcome that counts."
    )
    notes: list[Written] | None = Field(
        default=None, description="All notes on outcomes and follow-ups, corrected ones too."
    )
    exchange: list[Written] | None = Field(
        default=None, description="What providers asked about their offers, and what the agency answered."
    )
    matches: list[Explained] | None = Field(
        default=None,
        description="How it was matched, in sentences, for the agency that may see the facts: verdicts tell of them.",
    )
    withheld: dict[str, str] = Field(default_factory=dict)


class CaseloadPage(BaseModel):
    """Referrals, latest first. ``cursor`` asks for the next page and is null on the last."""

    items: list[ReferralRow]
    cursor: str | None


class TaskRow(BaseModel):
    """One attempt to have a referral fulfilled. ``status`` is FHIR's. Times in epoch milliseconds, UTC."""

    task: str
    referral: str
    region: str
    agency: str
    provider: str
    service: str
    unit: str
    urgency: str
    purpose: str
    transfer: bool = Field(
        description="Another provider has the person, and proposed this service to take them over."
    )
    status: str
    business_status: str
    reason: str | None = Field(description="Why it was declined or cancelled.")
    expires_at: int
    offered_at: int
    acknowledged_at: int | None
    accepted_at: int | None
    starts_at: int | None = Field(description="When the provider said the service would start.")
    handed_over_at: int | None
    started_at: int | None
    held_until: int | None
    missed: int = Field(description="How often the person did not come.")
    ended_at: int | None
    outcome: str | None


class InboxPage(BaseModel):
    """Tasks, latest offered first."""

    items: list[TaskRow]
    cursor: str | None


class Waiting(BaseModel):
    """What waits for somebody. ``due_at`` is null where no limit is set, or none is known yet. Times in epoch milliseconds, UTC."""

    task: str | None
    referral: str
    region: str
    agency: str
    provider: str | None
    service: str | None
    urgency: str
    waits_for: WaitsFor
    step: str | None = Field(description="What an escalation is about.")
    party: str | None = Field(description="The organisation that must act; null: operations.")
    waits_since: int
    due_at: int | None
    overdue: bool
    reminded: int | None = Field(
        description="After how many per cent of its time the last reminder went out."
    )
    escalated_at: int | None


class QueuePage(BaseModel):
    """What waits for somebody: earliest due first, so what is overdue leads; then what has no limit, longest waiting first."""

    items: list[Waiting]
    cursor: str | None


class PlaceInLine(BaseModel):
    """Where a referral stands in line at a service: 1 is who comes next."""

    service: str
    place: int


class WaitingInLine(BaseModel):
    """A referral that waits for a place. ``since`` is when it was taken up, by which the line is ordered within an urgency. Times in epoch
    milliseconds, UTC."""

    referral: str
    region: str
    agency: str
    urgency: str
    since: int
    review_at: int
    lines: list[PlaceInLine] | None = Field(description="For the agency alone.")


class WaitingListPage(BaseModel):
    """Referrals that wait for a place, latest opened first."""

    items: list[WaitingInLine]
    cursor: str | None


class UnitRow(BaseModel):
    """A unit's places. ``held`` for open offers; ``counted_at`` is when its provider last counted, in epoch milliseconds, UTC.

    ``kept`` and ``broken`` say how the service answered what it was offered: accepted, or declined for want of a place, or not at all.
    """

    unit: str
    region: str
    service: str
    organisation: str
    service_name: str
    name: str
    offered: bool
    total: int
    taken: int
    held: int
    overbook: int = Field(description="How many more than there are the provider lets be promised.")
    doubted: int = Field(description="How many of these its provider said are not there, as it declined.")
    doubted_until: int | None = Field(
        description="Until when they are not offered, unless it counts anew before; epoch milliseconds, UTC."
    )
    free: int = Field(description="What may still be promised, overbooking included.")
    counted_at: int
    reported_at: int = Field(
        description="When the bus took that count, which may be long after it; epoch milliseconds, UTC."
    )
    stale_hours: int = Field(
        description="Hours of the clock begun since the provider last counted, as matching reckons them: 0 within the same hour."
    )
    trust: int | None = Field(
        description="How far a count of this age is believed, in thousandths; null where the region's policy says nothing."
    )
    kept: int
    broken: int


class CapacityPage(BaseModel):
    """Units, by id."""

    items: list[UnitRow]
    cursor: str | None


class SubmissionRow(BaseModel):
    """What became of something the caller sent that was refused or had to wait. Times in epoch milliseconds, UTC."""

    submission: str
    type: str
    region: str
    state: Literal["parked", "decided", "refused"]
    about: str | None
    reason: str | None
    detail: str | None = Field(description="The reason in words, and what to do.")
    until: int | None = Field(description="How long it waits for what it refers to.")
    at: int


class SubmissionPage(BaseModel):
    """Submissions, latest first."""

    items: list[SubmissionRow]
    cursor: str | None


class ReferenceRow(BaseModel):
    """What a region decides by, or a service that is published in it. ``at`` is when the region adopted it, in epoch milliseconds, UTC."""

    region: str
    kind: ShownKind
    name: str
    version: int
    at: int


class ReferencePage(BaseModel):
    """By region, kind, name and version."""

    items: list[ReferenceRow]
    cursor: str | None


class Reference(ReferenceRow):
    """One of it, with its content as it was published."""

    content: dict[str, Any]
