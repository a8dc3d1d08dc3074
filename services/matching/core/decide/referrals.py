"""What an agency asks for and changes: submitting, amending, holding, transferring, splitting, reopening and withdrawing a referral."""

from __future__ import annotations

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.inbox import (
    AmendReferral,
    HoldReferral,
    ReopenReferral,
    ResumeReferral,
    SplitReferral,
    SubmitReferral,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import (
    Event,
    ReferralAmended,
    ReferralHeld,
    ReferralOpened,
    ReferralQueued,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWithdrawn,
    SubmissionRefused,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.vocabulary import ReferralStatus
from services.matching.core.closing import closing
from services.matching.core.decide.answers import Asked, Opened, refused
from services.matching.core.decide.gathering import window_for
from services.matching.core.decide.mistakes import (
    closed_in_error,
    closed_parts,
    never_were,
    part_withdrawn,
    parts_in_error,
)
from services.matching.core.decide.offering import cancelled, new_round, next_offers
from services.matching.core.referral import Referral
from services.matching.core.state import GATHERED


def submit(asked: Asked, body: SubmitReferral) -> list[Event]:
    """Open the referral and look for who can help."""
    state, admitted, now, facts, _ = asked
    name = body.referral
    if body.region != state.region or region_of(name) != state.region:
        return refused("region_mismatch", name)
    if state.policy is None or not state.protocols:
        return refused("not_adopted", name)
    if name in state.referrals or state.was_closed(name, now):
        return refused("id_reused", name)
    unreadable = _unreadable(asked, name, body.subject, facts.get(name))
    if unreadable is not None:
        return [unreadable]
    protocol = state.protocol_for(body.urgency, body.protocol)
    if protocol is None:
        return refused("unknown_protocol", body.protocol or name)
    if body.service is not None and not state.catalogue.is_active(body.service):
        return refused("unknown_service", body.service)
    opened = ReferralOpened(
        referral=name,
        subject=body.subject,
        agency=admitted.source,
        urgency=body.urgency,
        purpose=body.purpose,
        protocol=protocol.protocol,
        protocol_version=protocol.version,
        sealed_facts=body.sealed_facts,
        sealed_identity=body.sealed_identity,
        mode=body.mode,
        service=body.service,
    )
    until = window_for(state, body.urgency, body.mode, now)
    if until is not None:
        return [opened, ReferralQueued(referral=name, until=until)]
    return [opened, *next_offers(state, name, Referral.opened(opened, protocol, now), now, facts)]


def amend(asked: Asked, body: AmendReferral) -> list[Event]:
    """Take the correction; who waits for a place is matched anew by it, and who waits for a window but is too urgent for one now is matched
    at once. Of a whole that was split only the identity is left to correct: each of its parts has an urgency and facts of its own."""
    state, _, now, facts, _ = asked
    known = _own(asked, body.referral)
    if isinstance(known, list):
        return known
    if known.parts is not None and (body.urgency is not None or body.sealed_facts is not None):
        return refused("already_split", body.referral)
    if body.sealed_facts is not None:
        unreadable = _unreadable(asked, body.referral, known.subject, facts.get(body.referral))
        if unreadable is not None:
            return [unreadable]
    amended = ReferralAmended(
        referral=body.referral,
        urgency=body.urgency,
        sealed_facts=body.sealed_facts,
        sealed_identity=body.sealed_identity,
    )
    after = known.amended(amended)
    leaves_window = body.referral in state.window and after.urgency != GATHERED
    if known.waits_for is None and not leaves_window:
        return [amended]
    return [amended, *next_offers(state, body.referral, after, now, facts)]


def hold(asked: Asked, body: HoldReferral) -> list[Event]:
    """Let the referral rest, or the service that has accepted it: whichever the sender may. Neither rests for ever, since its time limits
    stand still meanwhile: without a date it goes on after the longest that the protocol lets it rest. Of what rests already the reason and
    the date are replaced: to resume it first would put a person on offer who is not ready."""
    state, admitted, now, _, _ = asked
    known = state.referrals.get(body.referral)
    if known is None:
        return refused("referral_closed", body.referral)
    latest = now + known.protocol.longest_hold_ms
    until = latest if body.until is None else body.until
    if not now < until <= latest:
        return refused("time_out_of_range", body.referral)
    accepted = known.acceptance
    if accepted is not None and known.attempt(accepted).provider == admitted.source:
        task = task_id(body.referral, accepted)
        return [TaskHeld(referral=body.referral, task=task, reason=body.reason, until=until)]
    if known.agency != admitted.source:
        return refused("not_your_referral", body.referral)
    if accepted is not None:
        return refused("already_accepted", body.referral)
    if known.parts is not None:
        return refused("already_split", body.referral)
    return [
        *cancelled(body.referral, known, known.offers, "held"),
        ReferralHeld(referral=body.referral, reason=body.reason, until=until),
    ]


def resume_referral(asked: Asked, body: ResumeReferral) -> list[Event]:
    """Go on with the referral, in a new round, or with the service."""
    state, admitted, now, facts, _ = asked
    known = state.referrals.get(body.referral)
    if known is None:
        return refused("referral_closed", body.referral)
    accepted = known.acceptance
    if accepted is not None and known.attempt(accepted).provider == admitted.source:
        if known.attempt(accepted).status != "on-hold":
            return refused("not_on_hold", body.referral)
        return [TaskResumed(referral=body.referral, task=task_id(body.referral, accepted))]
    if known.agency != admitted.source:
        return refused("not_your_referral", body.referral)
    if not known.on_hold:
        return refused("not_on_hold", body.referral)
    return [
        ReferralResumed(referral=body.referral),
        *next_offers(state, body.referral, new_round(known, now), now, facts),
    ]


def transfer(asked: Asked, body: TransferReferral) -> list[Event]:
    """Another agency follows the referral from now on, and the parts of it that the former agency follows. Those that are closed go with
    it: who follows the whole is to correct and reopen them, and nobody else."""
    known = _own(asked, body.referral)
    if isinstance(known, list):
        return known
    organisation = asked.state.organisations.get(body.agency)
    if organisation is None or "agency" not in organisation.roles or body.agency == known.agency:
        return refused("not_an_agency", body.agency)
    referrals = asked.state.referrals
    parts = [part for part in known.parts or () if referrals[part].agency == known.agency]
    if known.parts is not None:
        parts += closed_parts(asked, body.referral, known.agency)
    return [
        ReferralTransferred(referral=name, former=known.agency, agency=body.agency)
        for name in (body.referral, *sorted(parts))
    ]


def split(asked: Asked, body: SplitReferral) -> list[Event]:
    """Open a referral for each part. They are matched one after the other, each seeing the places the one before it holds; but while a date
    is to come until which the person is not ready, all of them rest."""
    state, _, now, facts, _ = asked
    known = _own(asked, body.referral)
    if isinstance(known, list):
        return known
    if known.acceptance is not None:
        return refused("already_accepted", body.referral)
    if known.parts is not None:
        return refused("already_split", body.referral)
    if known.part_of is not None:
        return refused("is_a_part", body.referral)
    names = [part.referral for part in body.parts]
    if any(region_of(name) != state.region for name in names):
        return refused("region_mismatch", body.referral)
    if len(set(names)) < len(names) or any(
        name in state.referrals or state.was_closed(name, now) for name in names
    ):
        return refused("id_reused", body.referral)
    for part in body.parts:
        unreadable = _unreadable(asked, body.referral, known.subject, facts.get(part.referral))
        if unreadable is not None:
            return [unreadable]
    not_ready = known.not_ready_until(now)
    return [
        *cancelled(body.referral, known, known.offers, "split"),
        ReferralSplit(referral=body.referral, parts=names),
        *(
            ReferralOpened(
                referral=part.referral,
                subject=known.subject,
                agency=known.agency,
                urgency=part.urgency,
                purpose=known.purpose,
                protocol=known.protocol.protocol,
                protocol_version=known.protocol.version,
                sealed_facts=part.sealed_facts,
                sealed_identity=None,
                mode="match" if known.mode == "direct" else known.mode,
                part_of=body.referral,
            )
            for part in body.parts
        ),
        *(
            ReferralHeld(referral=name, reason="declined", until=not_ready)
            for name in names
            if not_ready is not None
        ),
    ]


def reopen(asked: Asked, body: ReopenReferral) -> list[Event]:
    """Take a closed referral up again, with facts given anew, in a new round. Of one that was split the parts can be."""
    state, admitted, now, facts, _ = asked
    if body.referral in state.referrals:
        return refused("not_closed", body.referral)
    closed = state.was_closed(body.referral, now)
    if closed is None or now - closed.at > closed.protocol.reopen_ms:
        return refused("reopening_too_late", body.referral)
    if closed.agency != admitted.source:
        return refused("not_your_referral", body.referral)
    if closed.in_error:
        return refused("entered_in_error", body.referral)
    if closed.was_split:
        return refused("already_split", body.referral)
    unreadable = _unreadable(asked, body.referral, closed.subject, facts.get(body.referral))
    if unreadable is not None:
        return [unreadable]
    reopened = ReferralReopened(referral=body.referral, reason=body.reason, sealed_facts=body.sealed_facts)
    again = closed.reopened(body.sealed_facts, now)
    return [reopened, *next_offers(state, body.referral, again, now, facts)]


def withdraw(asked: Asked, body: WithdrawReferral) -> list[Event]:
    """Close the referral and its parts, but for those that another agency follows since a transfer. A service that has begun goes on until
    its outcome. What was entered in error is that with all its tasks, also after it was closed."""
    state = asked.state
    in_error = body.reason == "entered_in_error"
    if in_error and body.referral not in state.referrals:
        return closed_in_error(asked, body.referral)
    known = _own(asked, body.referral, also_withdrawn=in_error)
    if isinstance(known, list):
        return known
    if _has_begun(known) and not in_error:
        return _taken_back(body, body.referral, known)
    status: ReferralStatus = "entered-in-error" if in_error else "revoked"
    events: list[Event] = []
    for part in sorted(known.parts or ()):
        of_part = state.referrals[part]
        if of_part.agency != known.agency:
            continue
        if _has_begun(of_part) and not in_error:
            events += [] if of_part.withdrawn else _taken_back(body, part, of_part)
            continue
        events += part_withdrawn(part, of_part, status)
    if in_error:
        events += parts_in_error(asked, body.referral, known.agency)
    live = known.live
    # What was accepted rather than who was asked to take the person over: that is the task that was entered in error, if it was.
    named = known.acceptance or (live[-1] if live else None)
    first = None if named is None else task_id(body.referral, named)
    return [
        ReferralWithdrawn(referral=body.referral, reason=body.reason, task=first),
        *cancelled(body.referral, known, [number for number in live if number != named], "withdrawn"),
        *(never_were(body.referral, known.asked, but=named) if in_error else ()),
        *events,
        *closing(state, body.referral, known, status, "withdrawn"),
    ]


def _has_begun(known: Referral) -> bool:
    return known.acceptance is not None and known.started


def _taken_back(body: WithdrawReferral, name: str, known: Referral) -> list[Event]:
    """The person is there: only the provider can say when the place is free."""
    serving = None if known.acceptance is None else task_id(name, known.acceptance)
    return [
        ReferralWithdrawn(referral=name, reason=body.reason, serving=serving),
        *cancelled(name, known, known.offers, "withdrawn"),
    ]


def _own(asked: Asked, name: str, also_withdrawn: bool = False) -> Referral | list[Event]:
    """The open referral, if it is the sender's and was not taken back; else the refusal."""
    known = asked.state.referrals.get(name)
    if known is None:
        return refused("referral_closed", name)
    if known.agency != asked.admitted.source:
        return refused("not_your_referral", name)
    return refused("already_withdrawn", name) if known.withdrawn and not also_withdrawn else known


def _unreadable(asked: Asked, about: str, subject: str, facts: Opened | None) -> SubmissionRefused | None:
    """Why nothing can be decided by these facts, if nothing can."""
    if isinstance(facts, Facts) and subject not in asked.state.erased:
        return None
    gone = facts is None or isinstance(facts, Facts) or facts == "erased"
    return SubmissionRefused(reason="subject_erased" if gone else "facts_unreadable", about=about)
