"""Referrals that live through everything the protocol knows, at random: parties say what they may, and some of what they may not, and the
real core decides. What comes out is a ledger with every kind of event in it, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import short_hash, task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AdoptReference,
    AmendReferral,
    AnswerQuestion,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    HoldReferral,
    ProposeService,
    ReferralPart,
    ReopenReferral,
    ReportCapacity,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    ResumeReferral,
    RetractReport,
    SplitReferral,
    Submission,
    SubmitReferral,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.reference import OfferLimits, Protocol, Step
from referral_bus.contracts.services import OpeningHours, Unit
from referral_bus.contracts.vocabulary import DECLINES, URGENCIES
from referral_bus.wire.codec import Codec
from services.matching.core.referral import Referral, Report
from tests.support.deciding import (
    AGENCIES,
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    PROVIDERS,
    REGION,
    World,
    offers,
    organisation,
    policy,
    protocol,
    service_of,
    subject_of,
    unit_of,
)

SEALED: Final = b"\x01 sealed"
SERVICES: Final = {"beds": "shelter", "rooms": "clinic", "cots": "pantry", "annex": "shelter"}
_LIMITS: Final = OfferLimits(crisis=20 * MINUTE, urgent=2 * HOUR, routine=DAY)
_STEP: Final = OfferLimits(crisis=10 * MINUTE, urgent=HOUR, routine=6 * HOUR)
_STEPS: Final = [
    Step(step="acknowledge", limits=_STEP, reminders=[50]),
    Step(step="handoff", limits=_LIMITS, reminders=[30, 80]),
    Step(step="start", limits=_LIMITS),
    Step(step="outcome", limits=_LIMITS, reminders=[90]),
]
WEEKDAYS: Final = Calendar(
    calendar="weekdays",
    name="Weekdays, nine to five",
    hours=[OpeningHours(days=["MO", "TU", "WE", "TH", "FR"], opens=540, closes=1020)],
    holidays=[],
    time_zone="America/Chicago",
    offsets=[UtcOffset(since=0, minutes=-360)],
)
PROTOCOLS: Final = (
    Protocol(
        protocol="silent",
        usual_for=[],
        offer_limits=_LIMITS,
        offer_reminders=[50],
        maximum_offers=6,
        parking_ms=5 * MINUTE,
        steps=_STEPS,
        referral_limits=OfferLimits(crisis=4 * DAY, urgent=8 * DAY, routine=20 * DAY),
        referral_reminders=[50, 80],
        follow_up_days=[30, 90],
        escalate_to="police",
    ),
    Protocol(
        protocol="patient",
        usual_for=["routine"],
        offer_limits=_LIMITS,
        maximum_offers=9,
        parking_ms=5 * MINUTE,
        silence="escalates",
        referral_limits=OfferLimits(crisis=20 * DAY, urgent=40 * DAY, routine=60 * DAY),
        steps=_STEPS,
        waitlist_review_ms=3 * DAY,
        follow_up_days=[30],
    ),
    Protocol(
        protocol="office",
        usual_for=[],
        offer_limits=_LIMITS,
        offer_reminders=[50],
        maximum_offers=5,
        parking_ms=5 * MINUTE,
        steps=_STEPS,
        business_time=True,
        calendar="weekdays",
    ),
)


class Lives:
    """One region of the real core, and parties that act at random. ``windows``: routine referrals are gathered and decided together."""

    def __init__(self, codec: Codec, seed: int, *, windows: bool = False) -> None:
        self.draw = random.Random(seed)
        self.world = World(codec)
        self.submitted = 0
        self.referrals: list[str] = []
        calendar = AdoptReference(kind="calendar", reference="weekdays", version=1, calendar=WEEKDAYS)
        self.world.send(organisation(OPERATIONS), OPERATIONS)
        self.world.send(calendar, OPERATIONS)
        for one in PROTOCOLS:
            self.world.send(protocol(one), OPERATIONS)
        if windows:
            gathering = POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE})
            self.world.send(policy(gathering), OPERATIONS)
        for local, provider in SERVICES.items():
            total = self.draw.randint(1, 3)
            places = Unit(
                unit=unit_of(local),
                name="places",
                total=total,
                available=total,
                overbook=self.draw.choice([0, 0, 1]),
            )
            self.world.publish(offers(local, provider, units=[places]))

    def steps(self, count: int) -> None:
        """That many things happen."""
        for _ in range(count):
            self._pass_time()
            body, source = self._said()
            self.world.send(body, source)

    def _pass_time(self) -> None:
        chance = self.draw.random()
        if chance < 0.7:
            self.world.now += self.draw.randrange(1, 5 * MINUTE)
            return
        self.world.now += self.draw.choice([HOUR, 7 * HOUR, 2 * DAY, 31 * DAY if chance > 0.985 else DAY])
        self.world.tick()

    def _said(self) -> tuple[Submission, str]:
        draw = self.draw
        live = [name for name in self.referrals if name in self.world.state.referrals]
        if draw.random() < 0.12 or not self.referrals:
            return self._submission()
        if draw.random() < 0.04:
            return self._counted()
        if (joined := self._joined()) and draw.random() < 0.05:
            name, provider = draw.choice(joined)
            return self._outcome(name), provider
        if (ended := self._ended_long_ago()) and draw.random() < 0.1:
            return self._followed_up(draw.choice(ended))
        name = draw.choice(live if live and draw.random() < 0.8 else self.referrals)
        known = self.world.state.referrals.get(name)
        if known is None:
            return self._afterwards(name)
        return draw.choice(self._choices(name, known))()

    def _submission(self) -> tuple[Submission, str]:
        draw = self.draw
        self.submitted += 1
        agency = draw.choice(AGENCIES)
        mode: Any = draw.choice(
            ["match", "match", "direct", "broadcast", "broadcast", "waitlist", "waitlist"]
        )
        asked = self.world.submission(
            agency=agency, number=self.submitted, urgency=draw.choice(URGENCIES), person=draw.randint(1, 30)
        )
        named = service_of(draw.choice(list(SERVICES))) if mode == "direct" else None
        how = {
            "mode": mode,
            "service": named,
            "protocol": draw.choice([None, *(one.protocol for one in PROTOCOLS)]),
        }
        body = SubmitReferral.model_validate({**asked.model_dump(), **how})
        self.referrals.append(body.referral)
        return body, agency

    def _joined(self) -> list[tuple[str, str]]:
        """Parts whose outcome counts in that of a whole that is closed too, and their providers."""
        closed = self.world.state.closed
        return [
            (name, one.served.provider)
            for name, one in closed.items()
            if one.part_of in closed and one.served is not None
        ]

    def _ended_long_ago(self) -> list[str]:
        """Closed referrals that it is time to ask after, the first time or the second."""
        closed = self.world.state.closed
        return [
            name
            for name, one in closed.items()
            if one.completed and one.served is not None and one.served.ended_at + 23 * DAY <= self.world.now
        ]

    def _followed_up(self, name: str) -> tuple[Submission, str]:
        closed, draw = self.world.state.closed[name], self.draw
        by = [closed.agency] if closed.served is None else [closed.agency, closed.served.provider]
        days: Any = draw.choice([30, 90])
        result: Any = draw.choice(["need_met", "not_met"])
        return ReportFollowUp(referral=name, days=days, result=result, sealed_note=SEALED), draw.choice(by)

    def _counted(self) -> tuple[Submission, str]:
        local, provider = self.draw.choice(list(SERVICES.items()))
        total = self.draw.randint(1, 4)
        counted = ReportCapacity(
            unit=unit_of(local),
            total=total,
            available=self.draw.randint(0, total),
            true_at=self.world.now - self.draw.randrange(HOUR),
        )
        return counted, provider

    def _facts_of(self, name: str) -> bytes:
        state = self.world.state
        known = state.referrals.get(name) or state.closed.get(name)
        return self.world.seal(HOUSING, subject_of(1) if known is None else known.subject)

    def _choices(self, name: str, known: Referral) -> list[Callable[[], tuple[Submission, str]]]:
        """What may be said of a referral that is not closed; the likelier the more often it is named."""
        draw, now = self.draw, self.world.now
        agency = known.agency if draw.random() < 0.95 else draw.choice(AGENCIES)
        until = draw.choice([None, now + HOUR, now + 3 * DAY])
        offered, taken = known.offers, known.acceptance
        choices: list[Callable[[], tuple[Submission, str]]] = [
            lambda: (self._amended(name), agency),
            lambda: (HoldReferral(referral=name, reason="hospital_stay", until=until), agency),
            lambda: (TransferReferral(referral=name, agency=draw.choice(AGENCIES)), agency),
            lambda: (
                WithdrawReferral(referral=name, reason=draw.choice(["moved_away", "entered_in_error"])),
                agency,
            ),
        ]
        if known.on_hold:
            choices += [lambda: (ResumeReferral(referral=name), agency)] * 3
        served = known.served
        if served is not None:
            choices.append(lambda: (self._outcome(name), served.provider))
        if taken is None and known.part_of is None and known.parts is None:
            choices.append(lambda: (self._split(name), agency))
        for number in offered:
            choices += self._answers(name, known, number) * 2
        if taken is not None:
            choices += self._care(name, known, taken, agency) * 2
        return choices

    def _amended(self, name: str) -> AmendReferral:
        draw = self.draw
        return AmendReferral(
            referral=name,
            urgency=draw.choice([None, *URGENCIES]),
            sealed_facts=draw.choice([None, self._facts_of(name)]),
            sealed_identity=draw.choice([None, SEALED]),
        )

    def _split(self, name: str) -> SplitReferral:
        facts = self._facts_of(name)
        parts = [f"rf-{REGION}-{short_hash(name, str(number))}" for number in range(self.draw.randint(2, 3))]
        self.referrals += parts
        return SplitReferral(
            referral=name,
            parts=[
                ReferralPart(referral=part, urgency=self.draw.choice(URGENCIES), sealed_facts=facts)
                for part in parts
            ],
        )

    def _answers(self, name: str, known: Referral, number: int) -> list[Callable[[], tuple[Submission, str]]]:
        draw, task = self.draw, task_id(name, number)
        provider = known.attempt(number).provider if draw.random() < 0.95 else draw.choice(PROVIDERS)
        starts_at = draw.choice([None, self.world.now + HOUR])
        accepting: Callable[[], tuple[Submission, str]] = lambda: (  # noqa: E731
            AcceptOffer(task=task, starts_at=starts_at),
            provider,
        )
        return [
            accepting,
            accepting,
            accepting,
            lambda: (AcknowledgeOffer(task=task), provider),
            lambda: (AskForInformation(task=task, sealed_question=SEALED), provider),
            lambda: (AnswerQuestion(task=task, sealed_answer=SEALED), known.agency),
            lambda: (self._declined(task), provider),
            lambda: (ReportServiceStart(referral=name, started_at=self.world.now), provider),
            lambda: (ProposeService(task=task, service=service_of(draw.choice(list(SERVICES)))), provider),
        ]

    def _declined(self, task: str, gives_back: bool = False) -> DeclineOffer:
        reason = self.draw.choice(list(DECLINES))
        parks = DECLINES[reason].dated
        until = self.world.now + self.draw.choice([HOUR, 2 * DAY]) if parks else None
        return DeclineOffer(task=task, reason=reason, until=until, gives_back=gives_back)

    def _care(
        self, name: str, known: Referral, number: int, agency: str
    ) -> list[Callable[[], tuple[Submission, str]]]:
        draw, now, task = self.draw, self.world.now, task_id(name, number)
        provider = known.attempt(number).provider
        resting = known.attempt(number).status == "on-hold"
        until = draw.choice([None, now + 7 * HOUR])
        said: Sequence[tuple[Submission, str]] = [
            (ReportServiceStart(referral=name, started_at=now), provider),
            (ReportServiceStart(referral=name, started_at=now), provider),
            (ReportServiceStart(referral=name, started_at=now - draw.randrange(HOUR)), provider),
            (ReportNoShow(referral=name, missed_at=now), provider),
            *self._taken_back(name, known.reports),
            (ReportContact(referral=name, tried_at=now, channel="phone", reached=False), provider),
            (ConfirmHandoff(referral=name, means="phone", confirmed_at=now), provider),
            (ConfirmHandoff(referral=name, means="phone", confirmed_at=now), agency),
            (HoldReferral(referral=name, reason="in_custody", until=until), provider),
            (self._outcome(name), provider),
            (self._outcome(name), provider),
            (self._declined(task, gives_back=True), provider),
            (ProposeService(task=task, service=service_of(draw.choice(list(SERVICES)))), provider),
            *([(ResumeReferral(referral=name), provider)] * (4 if resting else 0)),
        ]
        return [lambda one=one: one for one in said]  # type: ignore[misc]

    def _taken_back(self, name: str, reports: Sequence[Report]) -> list[tuple[Submission, str]]:
        if not reports:
            return []
        said = self.draw.choice(reports)
        return [(RetractReport(referral=name, sequence=said.sequence), said.by)]

    def _outcome(self, name: str) -> ReportOutcome:
        result: Any = self.draw.choice(["need_met", "partly_met", "not_met", "no_show"])
        note = self.draw.choice([None, SEALED])
        return ReportOutcome(referral=name, result=result, sealed_note=note, cause="service_completed")

    def _afterwards(self, name: str) -> tuple[Submission, str]:
        """What is said of a referral that is closed, or was never opened."""
        draw, now = self.draw, self.world.now
        closed = self.world.state.closed.get(name)
        agency = draw.choice(AGENCIES) if closed is None else closed.agency
        served = None if closed is None else closed.served
        provider = draw.choice(PROVIDERS) if served is None else served.provider
        said: Sequence[tuple[Submission, str]] = [
            (
                ReopenReferral(referral=name, reason="need_returned", sealed_facts=self._facts_of(name)),
                agency,
            ),
            (self._outcome(name), provider),
            (ReportServiceStart(referral=name, started_at=now), provider),
            (ReportNoShow(referral=name, missed_at=now), provider),
            *self._taken_back(name, () if served is None else served.reports),
            (ReportContact(referral=name, tried_at=now, channel="visit", reached=True), provider),
            (
                ConfirmHandoff(referral=name, means="phone", confirmed_at=now),
                draw.choice([agency, provider]),
            ),
            (
                ReportFollowUp(referral=name, days=draw.choice([30, 90]), result="need_met"),
                draw.choice([agency, provider]),
            ),
            (WithdrawReferral(referral=name, reason=draw.choice(["other", "entered_in_error"])), agency),
        ]
        return draw.choice(said)
