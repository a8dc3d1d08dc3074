"""Where each referral stands."""

from __future__ import annotations

from referral_bus.contracts.ledger import (
    AgencyReminded,
    FollowedUp,
    FollowUpDue,
    JoinedOutcomeCorrected,
    Meta,
    ReferralAmended,
    ReferralCalled,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralQueued,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
    ReferralWithdrawn,
    WindowClosed,
)
from services.matching.core.closing import result_of
from services.matching.core.fold.submissions import OF_A_SERVICE, wake
from services.matching.core.referral import Closed, Followed, Referral
from services.matching.core.state import GATHERED, Due, Region


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
        of = state.referrals[event.part_of]
        known.in_line_since, known.unaccepted_for = of.in_line_since, of.unaccepted_for
        known.never = of.never_a_part
        state.split_off.append(event.referral)
    limited(state, event.referral, known, meta.now)
    wake(state, event.referral, but=OF_A_SERVICE)


def reopened(state: Region, meta: Meta, event: ReferralReopened) -> None:
    known = state.closed.pop(event.referral).reopened(event.sealed_facts, meta.now)
    state.referrals[event.referral] = known
    whole = _whole(state, known)
    if whole is not None and whole.parts is not None:
        whole.parts |= {event.referral}
        whole.results = {part: came for part, came in whole.results.items() if part != event.referral}
    limited(state, event.referral, known, meta.now)


def limited(state: Region, name: str, known: Referral, now: int) -> None:
    """Nobody has accepted the referral, and nobody may for ever."""
    if known.limit is None:
        return
    state.expects(Due(known.limit, "limit", name))
    for at, percent in known.limit_reminders(now):
        state.expects(Due(at, "remind", name, percent=percent, end=known.limit))


def agency_reminded(state: Region, _: Meta, event: AgencyReminded) -> None:
    state.settle("remind", event.referral)


def amended(state: Region, meta: Meta, event: ReferralAmended) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    amended = state.referrals[event.referral] = known.amended(event)
    if amended.urgency != GATHERED and event.referral in state.window:
        state.window.remove(event.referral)
    if amended.limit != known.limit:
        limited(state, event.referral, amended, meta.now)


def held(state: Region, meta: Meta, event: ReferralHeld) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    known.on_hold, known.held_until = True, event.until
    if event.reason != "declined":
        # Where it waits for a provider's date its time goes on.
        known.stands_still(meta.now)
    _gathered_no_more(state, event.referral)
    if event.until is not None:
        state.expects(Due(event.until, "hold", event.referral))


def resumed(state: Region, meta: Meta, event: ReferralResumed) -> None:
    known = state.referrals[event.referral]
    known.on_hold, known.held_until, known.round_from = False, None, len(known.tasks)
    if known.goes_unaccepted(meta.now):
        limited(state, event.referral, known, meta.now)


def waitlisted(state: Region, _: Meta, event: ReferralWaitlisted) -> None:
    known = state.referrals[event.referral]
    before = known.waits_for
    state.leaves_line(event.referral, known)
    state.lines_up(event.referral, known, tuple(event.services))
    state.passes_over(event.referral, known)
    if before is not None:
        # It waited already, and some service came to those it waits for: who is first in line there is to be called.
        for service in event.services:
            if service not in before and service not in state.freed:
                state.freed.append(service)
        return
    known.review_at = event.review
    for service in event.services:
        # It has no place for who is first in line there, whatever came free: that is not to be asked for ever. Where there is one that
        # they are passed over for it is for the others.
        if service in state.freed and event.referral not in state.passed_over.get(service, ()):
            state.freed.remove(service)
    state.expects(Due(event.review, "review", event.referral))


def queued(state: Region, _: Meta, event: ReferralQueued) -> None:
    if not state.window:
        state.window_ends = event.until
        state.expects(Due(event.until, "window", ""))
    state.window.append(event.referral)


def window_closed(state: Region, _: Meta, event: WindowClosed) -> None:
    state.window.clear()
    # Who was left out comes last, and is matched with what is left: never with a place that is another's.
    for placement in sorted(event.placements, key=lambda one: one.service is None):
        state.split_off.append(placement.referral)
        if placement.service is not None:
            state.assigned[placement.referral] = placement.service


def _gathered_no_more(state: Region, name: str) -> None:
    """It is not to be matched with others, nor because it was split off."""
    if name in state.window:
        state.window.remove(name)
    if name in state.split_off:
        state.split_off.remove(name)
        state.assigned.pop(name, None)


def called(state: Region, _: Meta, event: ReferralCalled) -> None:
    if state.split_off and state.split_off[0] == event.referral:
        state.split_off.popleft()
        state.assigned.pop(event.referral, None)
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    if event.service is None:
        known.round_from = len(known.tasks)
    else:
        known.tasks = known.called_by(event.service).tasks


def transferred(state: Region, _: Meta, event: ReferralTransferred) -> None:
    if event.referral in state.closed:
        # A part that is closed, of a whole that is not.
        state.closed[event.referral] = state.closed[event.referral]._replace(agency=event.agency)
        return
    known = state.referrals[event.referral]
    number = known.acceptance
    parties = {known.agency} if number is None else {known.agency, known.attempt(number).provider}
    # A handoff that both confirmed is over, whoever follows the referral now.
    over = number is not None and parties <= known.confirmed
    known.confirmed = known.confirmed | {event.agency} if over else known.confirmed - {known.agency}
    known.agency = event.agency


def split(state: Region, meta: Meta, event: ReferralSplit) -> None:
    known = state.referrals[event.referral]
    state.leaves_line(event.referral, known)
    _gathered_no_more(state, event.referral)
    known.parts, known.on_hold, known.held_until = frozenset(event.parts), False, None
    known.stands_still(meta.now)


def closed(state: Region, meta: Meta, event: ReferralClosed) -> None:
    known = state.referrals.pop(event.referral)
    state.leaves_line(event.referral, known)
    _gathered_no_more(state, event.referral)
    served = known.served
    completed = served is not None and served.attempt > known.before
    asks = tuple(known.protocol.follow_up_days) if completed and event.status == "completed" else ()
    record = Closed(
        at=meta.now,
        agency=known.agency,
        subject=known.subject,
        urgency=known.urgency,
        purpose=known.purpose,
        protocol=known.protocol,
        mode=known.mode,
        asked=known.asked,
        never=known.never,
        served=served,
        completed=completed,
        to_ask=asks,
        part_of=known.part_of,
        was_split=known.parts is not None,
        in_error=event.status == "entered-in-error",
        joined=known.results if event.reason == "parts_closed" else {},
        closed_by=meta.sequence,
        target=known.target,
        former=known.former,
    )
    state.closed[event.referral] = record
    follow_ups(state, event.referral)
    whole = _whole(state, known)
    if whole is not None and whole.parts is not None:
        whole.parts -= {event.referral}
        counted = result_of(event)
        if counted is not None:
            whole.results = {**whole.results, event.referral: counted}


def follow_ups(state: Region, name: str) -> None:
    """The provider is to be asked how it is, by when it says that the service ended."""
    closed = state.closed[name]
    for days in closed.to_ask:
        at = closed.follow_up_at(days)
        if at is not None:
            state.expects(Due(at, "follow_up", name, days))


def entered_in_error(state: Region, event: ReferralWithdrawn) -> None:
    """A closed referral is as if it had never been: it is not followed up, and counts for nothing in the one it was a part of."""
    record = state.closed[event.referral]
    state.closed[event.referral] = record._replace(
        in_error=True, completed=False, served=None, joined={}, former=()
    )
    whole, closed = state.referrals.get(record.part_of or ""), state.closed.get(record.part_of or "")
    if whole is not None:
        whole.results = {part: came for part, came in whole.results.items() if part != event.referral}
    elif closed is not None and closed.counts(event.referral, record):
        joined = {part: came for part, came in closed.joined.items() if part != event.referral}
        state.closed[record.part_of or ""] = closed._replace(joined=joined)


def outcome_corrected(state: Region, meta: Meta, event: JoinedOutcomeCorrected) -> None:
    state.closed[event.referral] = state.closed[event.referral]._replace(closed_by=meta.sequence)


def _whole(state: Region, part: Referral) -> Referral | None:
    """The referral it is a part of, as long as that is open."""
    return None if part.part_of is None else state.referrals.get(part.part_of)


def follow_up_due(state: Region, _: Meta, event: FollowUpDue) -> None:
    state.settle("follow_up", event.referral)
    record = state.closed[event.referral]
    left = tuple(days for days in record.to_ask if days != event.days)
    state.closed[event.referral] = record._replace(to_ask=left)


def followed_up(state: Region, meta: Meta, event: FollowedUp) -> None:
    record = state.closed[event.referral]
    others = tuple(one for one in record.followed if one.days != event.days)
    said = Followed(event.days, meta.sequence, event.by)
    state.closed[event.referral] = record._replace(followed=(*others, said))
