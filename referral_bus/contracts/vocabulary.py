"""The words of the bus. On the wire they are strings, not Avro enums: a reader that meets a new one must notice."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Urgency = Literal["crisis", "urgent", "routine"]
URGENCIES: Final[tuple[Urgency, ...]] = ("crisis", "urgent", "routine")
"""The most urgent first."""

Purpose = Literal["care_coordination", "emergency", "reporting"]
AgreedClass = Literal["status", "facts", "identity", "outcome"]
"""What an agreement can grant."""

DataClass = Literal[AgreedClass, "exchange"]
"""What can be shown of a referral: that and where it stands; sealed facts; sealed identity; what came of it; and the exchange, which is
what a provider asked about its offer and the agency answered. No agreement grants that to anyone else."""

OrganisationKind = Literal[
    "police", "hospital", "school", "shelter", "court", "helpline", "provider", "operations"
]
"""Several kinds refer; which roles an organisation has is said by its token and its record."""

Role = Literal["agency", "provider", "operations"]

ReferralStatus = Literal["active", "on-hold", "revoked", "completed", "entered-in-error"]
"""FHIR ServiceRequest.status."""

TaskStatus = Literal[
    "requested",
    "accepted",
    "rejected",
    "in-progress",
    "on-hold",
    "completed",
    "failed",
    "cancelled",
    "entered-in-error",
]
"""FHIR Task.status, as far as a referral task passes through it."""

Mode = Literal["match", "direct", "broadcast", "waitlist"]
NAMING: Final[dict[Mode, frozenset[bool]]] = {
    "match": frozenset({False}),
    "direct": frozenset({True}),
    "broadcast": frozenset({False}),
    "waitlist": frozenset({False, True}),
}
"""Whether a service is named in a mode: that it is, or that it is not."""
"""How a service is found: the bus chooses; the agency names it; several are asked at once and the first acceptance wins; the person
waits in a fair order for a place that comes free."""

BusinessStatus = Literal[
    "reserving",
    "offered",
    "acknowledged",
    "screening",
    "accepting",
    "accepted",
    "scheduled",
    "handed-over",
    "no-show",
    "started",
    "on-hold",
    "declined",
    "proposed-elsewhere",
    "expired",
    "no-place",
    "no-answer",
    "withdrawn",
    "taken-elsewhere",
    "transferred",
    "given-back",
    "completed",
    "failed",
]
"""Where a task stands in the field's words; ``status`` says it in FHIR's (Task.businessStatus beside Task.status)."""
SERVING: Final[tuple[BusinessStatus, ...]] = ("accepted", "scheduled", "no-show", "handed-over", "started")
"""Where a task that was accepted stands, each further than the one before: what is reported late never leads back."""

DeclineReason = Literal[
    "no_capacity",
    "full_until",
    "not_eligible",
    "out_of_area",
    "language_not_served",
    "conflict_of_interest",
    "person_declined",
    "person_not_ready",
    "could_not_reach",
    "safety_concern",
    "other",
]


class Decline(NamedTuple):
    """What a decline means: whose no it is, and what the referral does next."""

    side: Literal["client", "provider"]
    """As HUD counts an unsuccessful referral: client rejected, or provider rejected."""
    then: Literal["elsewhere", "later", "park", "never"]
    """Offered elsewhere, and to this service again only in a new round; the same, but where nobody else is left to ask on hold until a
    date; on hold until a date at once, then in a new round; never offered to this service again."""

    @property
    def dated(self) -> bool:
        """Whether it says until when."""
        return self.then in ("later", "park")


DECLINES: Final[dict[DeclineReason, Decline]] = {
    "no_capacity": Decline("provider", "elsewhere"),
    "full_until": Decline("provider", "later"),
    "not_eligible": Decline("provider", "never"),
    "out_of_area": Decline("provider", "never"),
    "language_not_served": Decline("provider", "never"),
    "conflict_of_interest": Decline("provider", "never"),
    "person_declined": Decline("client", "never"),
    "person_not_ready": Decline("client", "park"),
    "could_not_reach": Decline("client", "elsewhere"),
    "safety_concern": Decline("client", "never"),
    "other": Decline("provider", "elsewhere"),
}
OF_THE_NEED: Final[frozenset[DeclineReason]] = frozenset({"not_eligible"})
"""The declines for good that may be of what the person needs: a part of a referral, which needs something else, is offered there all the
same. The others are of the person, who is the same in each part."""
UNKEPT: Final[frozenset[DeclineReason]] = frozenset({"no_capacity", "full_until"})
"""The declines by which a service does not keep what it said of its places."""

HoldReason = Literal["person_asked", "hospital_stay", "in_custody", "documents_pending", "other"]
"""Why a party lets something rest."""
HeldReason = Literal[HoldReason, "declined"]
"""Why a referral rests: at its agency's wish, or because a provider declined until a date, which no party may say for it."""
ReopenReason = Literal["need_returned", "closed_in_error", "service_ended", "other"]
CancelReason = Literal[
    "taken_elsewhere",
    "transferred",
    "held",
    "split",
    "given_back",
    "time_over",
    "withdrawn",
    "closed",
    "no_place",
    "no_answer",
]
"""Why an offer or an acceptance ended without an answer or an outcome. Of a service in another region also: it had no place, or its region
did not answer."""

CANCELLED_AS: Final[dict[CancelReason, BusinessStatus]] = {
    "taken_elsewhere": "taken-elsewhere",
    "transferred": "transferred",
    "held": "withdrawn",
    "split": "withdrawn",
    "given_back": "given-back",
    "time_over": "expired",
    "withdrawn": "withdrawn",
    "closed": "withdrawn",
    "no_place": "no-place",
    "no_answer": "no-answer",
}
"""How a cancelled task stands."""

LendingAnswer = Literal["held", "denied", "taken", "lost", "expired"]
"""What a region answers another that asked for a place: it is held, or there is none; it is taken, or it was held no more; or nobody took
it in time, and it is free again."""
DenialReason = Literal["no_place", "not_listed", "too_late", "lost"]
"""Why a region does not lend a place: none is free; the service is not offered to the other region; it was asked too late; or what is to
be taken is not held any more."""
FreedBecause = Literal["returned", "expired"]

DueKind = Literal[
    "offer",
    "window",
    "parked",
    "remind",
    "step",
    "hold",
    "review",
    "limit",
    "follow_up",
    "reserve",
    "lent",
    "doubt",
]
"""What falls due in a region without anybody saying anything."""

StepName = Literal["acknowledge", "accept", "handoff", "start", "outcome"]
"""The steps of a protocol that somebody must take in time, in the order in which they come."""

STEPS: Final[tuple[StepName, ...]] = ("acknowledge", "accept", "handoff", "start", "outcome")

Means = Literal["in_person", "phone", "video"]
Channel = Literal["phone", "text", "e_mail", "letter", "visit", "in_person"]
OutcomeCause = Literal[
    "service_completed",
    "person_left",
    "not_eligible_after_all",
    "moved_away",
    "lost_contact",
    "died",
    "other",
]
"""Why an outcome is what it is."""

PersonReport = Literal["no_show", "contact"]
"""What a provider reports of the person, and may take back."""
ReportKind = Literal[PersonReport, "handoff"]
"""All that may be taken back."""
FollowUpDay = Literal[30, 90]
WithdrawReason = Literal["need_met_elsewhere", "person_declined", "entered_in_error", "moved_away", "other"]
OutcomeResult = Literal["need_met", "partly_met", "not_met", "no_show"]
MET: Final[frozenset[OutcomeResult]] = frozenset({"need_met", "partly_met"})
"""The results of a service that was not in vain: a task with one is completed, with any other it failed."""

CloseReason = Literal[
    "outcome_reported",
    "withdrawn",
    "no_match",
    "offers_exhausted",
    "facts_unavailable",
    "time_over",
    "parts_closed",
]
FactStatus = Literal["stated", "unknown", "not_said"]
"""Unknown (asked, nobody knows) and not said (not asked, or not answered) are two things, and neither is a no."""

Verdict = Literal["yes", "no", "unknown"]
ReferenceKind = Literal[
    "organisation", "agreement", "protocol", "policy", "rules", "calendar", "taxonomy", "crosswalk"
]

REFUSALS: Final[dict[str, str]] = {
    "id_reused": "This submission id was used before with another body. Use a new id.",
    "too_old": "The submission is older than the 90 days within which repeats are recognised. Send it with a new id.",
    "unknown_organisation": "The sending organisation is not in this region's reference data. Ask operations to publish it.",
    "unknown_referral": "There is no such referral in this region.",
    "unknown_task": "There is no such offer in this region.",
    "unknown_unit": "There is no such unit in this region. Publish its service first.",
    "not_your_referral": "Only the agency that submitted a referral may do this.",
    "not_your_offer": "Only the provider the offer was made to may answer it.",
    "not_your_service": "Another organisation published this service or unit.",
    "offer_expired": "The answer was admitted after the offer's time limit.",
    "offer_not_open": "The offer was answered, withdrawn or expired before, or another region must answer first.",
    "referral_closed": "The referral is closed.",
    "not_accepted": "No service has accepted this referral yet, or not the one this is said of. An open offer is declined, not given back.",
    "ended_without_outcome": "The person was given back, or another service took them over. What was done is still taken, but no outcome.",
    "already_started": "This start of the service was reported before. Another time would correct it.",
    "already_reported": "This no-show or contact was reported before. Take that back first, if it was wrong.",
    "too_many_reports": "500 no-shows and contacts were reported of this service, and no more are taken.",
    "no_such_report": "No no-show, contact or handoff that stands was reported at this sequence. Anything else is reported again as it is.",
    "not_your_report": "Another organisation reported this, and only it may correct it or take it back.",
    "not_an_agency": "The organisation the referral is to go to refers nobody in this region.",
    "unknown_service": "There is no such active service in this region.",
    "service_unavailable": "The named service has no free place, doesn't take the person, or was tried before.",
    "unknown_protocol": "The named protocol is not adopted in this region.",
    "not_on_hold": "Neither the referral nor its service is on hold.",
    "already_accepted": "A service has accepted the referral.",
    "already_withdrawn": "The referral is withdrawn: its service alone goes on, until its provider says what came of it.",
    "already_split": "The referral is split: its parts are what goes on. Say it of them.",
    "is_a_part": "The referral is part of another, and can't be split again.",
    "not_closed": "The referral is not closed, so it can't be reopened.",
    "reopening_too_late": "The referral was closed too long ago for its protocol. Submit a new one.",
    "entered_in_error": "The referral was entered in error: nothing more is taken of it. Submit a new one.",
    "nothing_asked": "The provider did not ask for information.",
    "time_out_of_range": "The date is in the past, or further ahead than may be asked for.",
    "date_missing": "This reason needs the date until which the referral is to rest.",
    "no_handoff": "The protocol of this referral asks for no warm handoff, or it is confirmed.",
    "no_follow_up": "No service took the person up, so there is nothing to follow up.",
    "date_not_wanted": "Nothing rests for this reason. Leave the date out, or give the reason that goes with it.",
    "time_before_opening": "The reported time lies more than a day before the referral was opened.",
    "already_acknowledged": "The offer was acknowledged, or a question about it asked, before.",
    "offers_used_up": "The referral was offered as often as its protocol allows.",
    "unknown_calendar": "It counts by a calendar that is not adopted in this region. Publish the calendar first.",
    "undecidable": "Matching failed on it, and operations know: it is among the dead letters. Send it again with a new id.",
    "too_large": "What would be decided of it is larger than a record of the ledger. Send less at once, with a new id.",
    "criteria_unmeetable": "Nobody could meet the service's criteria: they contradict each other.",
    "capacity_below_held": "Fewer places are reported than are held for open offers. Answer the offers first.",
    "capacity_above_total": "More places are reported available than there are.",
    "capacity_outdated": "A later report for this unit was received before, or this one is older than a day.",
    "time_in_future": "The reported time has not come yet. Set the sender's clock and send it with a new id.",
    "facts_unreadable": "The sealed facts can't be opened with the key this bus holds. Submit the referral anew.",
    "subject_erased": "The person's key was destroyed; the facts can't be opened.",
    "region_mismatch": "The submission is for another region than the one it was put to.",
    "not_adopted": "This region has adopted no protocol or policy yet, so it can't decide referrals.",
    "reference_outdated": "This or a later version was adopted before.",
    "rules_unsupported": "These rules are not known to the running version of matching. Upgrade it first.",
    "acceptance_pending": "Another provider accepted the referral just before. Answer again within the offer's time, should that fail.",
    "no_longer_wanted": "Another region answered something that is over meanwhile. What it held was given back.",
    "nothing_held": "The region holds or has taken no place for this task, or gave it back before.",
    "listing_outdated": "The region heard this, or something later, of the service before.",
}
"""Reason codes of :class:`~referral_bus.contracts.ledger.SubmissionRefused`, each with what to say to the sender."""
