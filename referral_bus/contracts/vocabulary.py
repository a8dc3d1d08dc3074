"""The words of the bus. On the wire they are strings, not Avro enums: a reader that meets a new one must notice."""

from __future__ import annotations

from typing import Final, Literal

Urgency = Literal["crisis", "urgent", "routine"]
Purpose = Literal["care_coordination", "emergency", "reporting"]
DataClass = Literal["status", "facts", "identity", "outcome"]
"""What can be shown of a referral: that and where it stands; sealed facts; sealed identity; what came of it."""

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

DeclineReason = Literal[
    "no_capacity",
    "not_eligible",
    "out_of_area",
    "language_not_served",
    "person_declined",
    "could_not_reach",
    "other",
]
WithdrawReason = Literal["need_met_elsewhere", "person_declined", "entered_in_error", "moved_away", "other"]
OutcomeResult = Literal["need_met", "partly_met", "not_met", "no_show"]
CloseReason = Literal["outcome_reported", "withdrawn", "no_match", "offers_exhausted", "facts_unavailable"]
FactStatus = Literal["stated", "unknown", "not_said"]
"""Unknown (asked, nobody knows) and not said (not asked, or not answered) are two things, and neither is a no."""

Verdict = Literal["yes", "no", "unknown"]
ReferenceKind = Literal["organisation", "agreement", "protocol", "policy", "rules"]

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
    "offer_not_open": "The offer was answered, withdrawn or expired before.",
    "referral_closed": "The referral is closed.",
    "not_accepted": "No service has accepted this referral yet.",
    "already_started": "The start of this service was reported before.",
    "capacity_below_held": "Fewer places are reported than are held for open offers. Answer the offers first.",
    "capacity_above_total": "More places are reported available than there are.",
    "capacity_outdated": "A later report for this unit was received before.",
    "time_in_future": "The reported time has not come yet. Set the sender's clock and send it with a new id.",
    "facts_unreadable": "The sealed facts can't be opened with the key this bus holds. Submit the referral anew.",
    "subject_erased": "The person's key was destroyed; the facts can't be opened.",
    "region_mismatch": "The submission is for another region than the one it was put to.",
    "not_adopted": "This region has adopted no protocol or policy yet, so it can't decide referrals.",
    "reference_outdated": "This or a later version was adopted before.",
    "rules_unsupported": "These rules are not known to the running version of matching. Upgrade it first.",
}
"""Reason codes of :class:`~referral_bus.contracts.ledger.SubmissionRefused`, each with what to say to the sender."""
