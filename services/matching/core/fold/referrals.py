"""Where each referral stands."""

from __future__ import annotations

from referral_bus.contracts.ledger import (
    FollowedUp,
    FollowUpDue,
    Meta,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
)
from services.matching.core.closing import result_of
from services.matching.core.fold.submissions import wake
from services.matching.core.state import DAY_MS, Closed, Due, Referral, Region
from services.matching.core.timing import limit_of


def opened(state: Region, meta: Meta, event: ReferralOpened) -> None:
    protocol = state.protocols.get(event.protocol)
    if protocol is None or protocol.version != event.protocol_version:
        # A part follows the protocol of the whole, which may have been replaced since that was opened.
        whole = state.referrals.get(event.part_of or "")
        protocol = None if whole is None else whole.protocol
        if protocol is None or (protocol.protocol, protocol.version) != (
            event.protocol,
            event.protocol_version,
        ):
            raise ValueError("its protocol is not in force")
    known = Referral.opened(event, protocol, meta.now)
    state.referrals[event.referral] = known
    if event.part_of is not None:
        state.split_off.append(event.referral)
    _limited(state, event.referral, known)
    wake(state, event.referral)


def reopened(state: Region, meta: Meta, event: ReferralReopened) -> None:
    known = state.closed.pop(event.referral).reopened(event.sealed_facts, meta.now)
    state.referrals[event.referral] = known
    _limited(state, event.referral, known)


def _limited(state: Region, name: str, known: Referral) -> None:
    limits = known.protocol.referral_limits
    if limits is not None:
        at = known.opened_at + limit_of(limits, known.urgency)
        state.expects(Due(at, "limit", name, known.before))


def amended(state: Region, _: Meta, event: ReferralAmended) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    state.referrals[event.referral] = known.amended(event)


def held(state: Region, _: Meta, event: ReferralHeld) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    known.on_hold, known.held_until = True, event.until
    if event.until is not None:
        state.expects(Due(event.until, "hold", event.referral))


def resumed(state: Region, _: Meta, event: ReferralResumed) -> None:
    known = state.referrals[event.referral]
    known.on_hold, known.held_until, known.round_from = False, None, len(known.tasks)


def waitlisted(state: Region, _: Meta, event: ReferralWaitlisted) -> None:
    known = state.referrals[event.referral]
    state.lines_up(event.referral, known, tuple(event.services))
    known.review_at = event.review
    state.expects(Due(event.review, "review", event.referral))


def called(state: Region, _: Meta, event: ReferralCalled) -> None:
    if state.split_off and state.split_off[0] == event.referral:
        state.split_off.popleft()
    state.leaves_line(event.referral, state.referrals[event.referral])


def transferred(state: Region, _: Meta, event: ReferralTransferred) -> None:
    known = state.referrals[event.referral]
    known.confirmed -= {known.agency}
    known.agency = event.agency


def split(state: Region, _: Meta, event: ReferralSplit) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    known.parts, known.on_hold, known.held_until = frozenset(event.parts), False, None


def closed(state: Region, meta: Meta, event: ReferralClosed) -> None:
    known = state.referrals.pop(event.referral)
    state.leaves_line(event.referral, known)
    if event.referral in state.split_off:
        state.split_off.remove(event.referral)
    completed = known.outcome_of or None
    provider = None if completed is None else known.attempt(completed).provider
    record = Closed(
        at=meta.now,
        agency=known.agency,
        subject=known.subject,
        urgency=known.urgency,
        purpose=known.purpose,
        protocol=known.protocol,
        mode=known.mode,
        opened_at=known.opened_at,
        attempts=known.before + len(known.tasks),
        never=known.never,
        completed=completed,
        provider=provider,
        outcome_at=known.outcome_at,
        started=known.started,
    )
    state.closed[event.referral] = record
    if completed is not None and event.status == "completed":
        for days in known.protocol.follow_up_days:
            state.expects(Due(meta.now + days * DAY_MS, "follow_up", event.referral, days))
    whole = None if known.part_of is None else state.referrals.get(known.part_of)
    if whole is not None and whole.parts is not None:
        whole.parts -= {event.referral}
        counted = result_of(event)
        if counted is not None:
            whole.results = (*whole.results, counted)


def follow_up_due(state: Region, _: Meta, event: FollowUpDue) -> None:
    state.settle("follow_up", event.referral)


def followed_up(state: Region, _: Meta, event: FollowedUp) -> None:
    record = state.closed[event.referral]
    state.closed[event.referral] = record._replace(followed=record.followed | {event.days})
