"""The one admission all doors pass: check, seal, reserve, append, place, answer.

Each step can be repeated: what died half-way is taken up by the sender's repeat, and matching recognises a second append by
(source, id, digest of the body). Answered is only what all in-sync replicas have.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from referral_bus.contracts.inbox import PublishService
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import REQUESTS, ReferralRequest, ServiceRequest
from referral_bus.log.port import Appender, LogError, LogUnavailable, Outgoing, Position
from referral_bus.runtime import metrics, tracing
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.logs import correlated, told
from referral_bus.sealing.digest import body_digest, same_digest
from referral_bus.sealing.port import Destroyed, Keys
from referral_bus.sealing.pseudonym import subject_id
from referral_bus.sealing.secrets import Secrets
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import can_be_taken, submission_record
from services.intake.answers import Admitted, answer_of
from services.intake.checks import Presented, Routed, check
from services.intake.counting import count
from services.intake.outages import OUTAGES, RETRY_SECONDS, away
from services.intake.reference import ReferenceView
from services.intake.refusals import Refused, too_large
from services.intake.repeats import Admissions, Reservation, Standing
from services.intake.submissions import Person, concerns_a_person, submission_of
from services.intake.together import Crowded, Together

logger = logging.getLogger(__name__)

MOST_A_ROUND = 500
ROUNDS = 2
"""Rounds under way at once: while one waits for Kafka or PostgreSQL the next is sealed. More make each smaller, and cost more."""
MOST_WAITING = 10_000

Key = tuple[str, str]
"""Source and submission id."""
Result = Admitted | Refused


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that passed the checks. ``correlation`` is what it is followed by through the bus; ``asked`` is for its trace."""

    routed: Routed
    digest: bytes
    correlation: str | None
    asked: tracing.Asked | None = None

    @property
    def key(self) -> Key:
        return self.routed.presented.organisation, self.routed.presented.id


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who stands at the door, with the roles it may speak in."""

    organisation: str
    roles: frozenset[str]


class Admission:
    """Admits what parties present. ``topic`` is the inbox, ``queries`` the query API's address. One for a process: concurrent requests
    share its rounds."""

    def __init__(
        self,
        *,
        view: ReferenceView,
        admissions: Admissions,
        keys: Keys,
        appender: Appender,
        sealer: Sealer,
        codec: Codec,
        secrets: Secrets,
        clock: Clock,
        bus: str,
        topic: str,
        queries: str = "",
    ) -> None:
        self._view = view
        self._admissions = admissions
        self._keys = keys
        self._appender = appender
        self._sealer = sealer
        self._codec = codec
        self._secrets = secrets
        self._clock = clock
        self._bus = bus
        self._topic = topic
        self._queries = queries.rstrip("/")
        self._together: Together[Wanted, Result] = Together(
            self._round, most=MOST_A_ROUND, rounds=ROUNDS, waiting=MOST_WAITING, away=away
        )

    async def admit(
        self, presented: Sequence[Presented], speaker: Speaker, correlations: Sequence[str | None]
    ) -> list[Result]:
        """What becomes of each, in order; a bad one takes no other along. Nothing is raised for what is refused, nor while Kafka or
        PostgreSQL is away: each is answered ``unavailable`` then."""
        began = time.perf_counter()
        results: list[Result | None] = [None] * len(presented)
        wanted: list[Wanted] = []
        places: list[int] = []
        for place, (one, correlation) in enumerate(zip(presented, correlations, strict=True)):
            checked = self._checked(one, speaker, correlation)
            if isinstance(checked, Refused):
                results[place] = checked
            else:
                wanted.append(checked)
                places.append(place)
        for place, result in zip(places, await self._admitted(wanted), strict=True):
            results[place] = result
        elapsed = time.perf_counter() - began
        done = [result for result in results if result is not None]
        for one, result in zip(presented, done, strict=True):
            count(one.door, speaker.organisation, result)
            if isinstance(result, Admitted):
                metrics.ADMISSION_SECONDS.observe(elapsed)
        return done

    async def close(self) -> None:
        """Finish what is under way."""
        await self._together.close()

    def _checked(self, one: Presented, speaker: Speaker, correlation: str | None) -> Wanted | Refused:
        if not self._view.ready:
            return _unavailable("Intake has not read the reference data yet.")
        try:
            routed = check(
                one,
                speaker.organisation,
                sorted(speaker.roles),
                self._view.reference,
                self._bus,
                self._clock.now(),
            )
            if not _fits(one.request, self._codec):
                raise too_large("body" if one.door == "api" else "data.definition")
        except Refused as refused:
            return refused
        kind = REQUESTS[type(one.request)].event_type()
        digest = body_digest(self._secrets.digest_key, kind, one.request)
        return Wanted(routed, digest, correlation, tracing.tracer().asked(routed.about))

    async def _admitted(self, wanted: list[Wanted]) -> Sequence[Result]:
        try:
            return await self._together.do(wanted)
        except Crowded:
            return [_unavailable("Too much waits to be admitted.")] * len(wanted)
        except OUTAGES as error:
            return _not_now(wanted, error)

    async def _round(self, wanted: list[Wanted]) -> list[Result]:
        """One round to each of keys, reservations, inbox and places."""
        with tracing.tracer().together("admit", [one.asked for one in wanted]):
            return await self._in_turn(wanted)

    async def _in_turn(self, wanted: list[Wanted]) -> list[Result]:
        """Of those under the same key the first goes first, alone."""
        results: list[Result | None] = [None] * len(wanted)
        left = list(range(len(wanted)))
        while left:
            firsts: dict[Key, int] = {}
            for place in left:
                firsts.setdefault(wanted[place].key, place)
            turn = sorted(firsts.values())
            not_now: dict[Key, Result] = {}
            for place, result in zip(turn, await self._turn([wanted[p] for p in turn]), strict=True):
                results[place] = result
                if isinstance(result, Refused) and result.reason == "unavailable":
                    not_now[wanted[place].key] = result
            for place in left:
                results[place] = results[place] or not_now.get(wanted[place].key)
            left = [place for place in left if results[place] is None]
        return [result for result in results if result is not None]

    async def _turn(self, wanted: list[Wanted]) -> list[Result]:
        results: dict[Key, Result] = {}
        people = await self._people(wanted, results)
        reserved = await self._reserved([one for one in wanted if one.key not in results], people)
        unplaced: list[Wanted] = []
        for one in wanted:
            if one.key in results:
                continue
            standing = reserved.get(one.key)
            if standing is None:
                results[one.key] = Refused(
                    "too_old", "This id opened a referral before.", field=one.routed.presented.id_field
                )
                continue
            answered = self._answered_before(one, standing)
            if answered is None:
                unplaced.append(one)
            else:
                results[one.key] = answered
        results.update(await self._appended(unplaced, reserved, people))
        return [results[one.key] for one in wanted]

    async def _people(self, wanted: list[Wanted], results: dict[Key, Result]) -> dict[Key, Person]:
        """Whom each concerns, with keys. Those that concern somebody forgotten, or nobody known, get their result."""
        subjects = await self._subjects([one for one in wanted if concerns_a_person(one.routed)], results)
        if not subjects:
            return {}
        keys = await self._keys.ensure(set(subjects.values()))
        people: dict[Key, Person] = {}
        erased: list[Key] = []
        for key, subject in subjects.items():
            found = keys[subject]
            if isinstance(found, Destroyed):
                erased.append(key)
            else:
                people[key] = Person(subject, found)
        if erased:
            # What was admitted before the person was forgotten is still answered like the first time.
            before = await self._admissions.find(erased)
            by_key = {one.key: one for one in wanted}
            for key in erased:
                standing = before.get(key)
                answered = None if standing is None else self._answered_before(by_key[key], standing)
                results[key] = answered or Refused(
                    "subject_erased", field=by_key[key].routed.presented.field("subject")
                )
        return people

    async def _subjects(self, wanted: list[Wanted], results: dict[Key, Result]) -> dict[Key, str]:
        """Of a new referral the agency's own reference says whose it is. Of another the referral itself does, whoever speaks: it may
        have been handed to another agency."""
        subjects: dict[Key, str] = {}
        others: list[tuple[Key, str, str]] = []
        for one in wanted:
            presented, about, referral = one.routed.presented, one.routed.about, one.routed.referral
            if isinstance(presented.request, ReferralRequest):
                subjects[one.key] = subject_id(
                    self._secrets.pseudonym_key, presented.organisation, presented.request.subject
                )
            elif referral is not None:
                others.append(
                    (one.key, referral, presented.field("referral" if about == referral else "task"))
                )
        if others:
            known = await self._admissions.subjects_of(sorted({referral for _, referral, _ in others}))
            for key, referral, field in others:
                if referral in known:
                    subjects[key] = known[referral]
                else:
                    results[key] = Refused("unknown_referral", field=field)
        return subjects

    async def _reserved(self, wanted: list[Wanted], people: dict[Key, Person]) -> dict[Key, Standing]:
        if not wanted:
            return {}
        return await self._admissions.reserve(
            [
                Reservation(
                    *one.key,
                    digest=one.digest,
                    region=one.routed.region,
                    referral=one.routed.referral,
                    subject=people[one.key].subject
                    if isinstance(one.routed.presented.request, ReferralRequest)
                    else None,
                )
                for one in wanted
            ]
        )

    async def _appended(
        self, wanted: list[Wanted], reserved: dict[Key, Standing], people: dict[Key, Person]
    ) -> dict[Key, Result]:
        if not wanted:
            return {}
        parts = {part: people[one.key].subject for one in wanted for part in one.routed.parts}
        if parts:
            # Before they can be heard of: what is said of a part is sealed for the same person.
            await self._admissions.remember(parts)
        records = [
            self._record(one, self._as_reserved(one.routed, reserved[one.key]), people.get(one.key))
            for one in wanted
        ]
        positions, results = await self._put(wanted, records)
        there = [one for one in wanted if one.key in positions]
        if not there:
            return results
        placed = await self._admissions.place(
            [(*one.key, positions[one.key].partition, positions[one.key].offset) for one in there]
        )
        for one in there:
            standing = reserved[one.key]
            answer = answer_of(
                one.key[1],
                standing.region,
                *placed[one.key],
                standing.referral,
                one.routed.parts,
                self._queries,
            )
            results[one.key] = Admitted(answer, repeated=False)
        return results

    async def _put(
        self, wanted: list[Wanted], records: list[Outgoing]
    ) -> tuple[dict[Key, Position], dict[Key, Result]]:
        """Append what is for each partition by itself: one that is away alone has no other region's refused. Returns where each is then,
        and what is answered to those whose partition does not answer."""
        of: dict[int | None, list[int]] = {}
        for place, record in enumerate(records):
            of.setdefault(record.partition, []).append(place)

        async def put(places: list[int]) -> list[Position]:
            asked = [wanted[place].asked for place in places]
            with tracing.tracer().appending([records[place] for place in places], asked) as traced:
                return await self._appender.append(traced)

        done = await asyncio.gather(*map(put, of.values()), return_exceptions=True)
        positions: dict[Key, Position] = {}
        results: dict[Key, Result] = {}
        for places, result in zip(of.values(), done, strict=True):
            keys = [wanted[place].key for place in places]
            if isinstance(result, LogUnavailable):
                results.update(zip(keys, _not_now([wanted[place] for place in places], result), strict=True))
            elif isinstance(result, BaseException):
                raise result
            else:
                positions.update(zip(keys, result, strict=True))
        return positions, results

    def _answered_before(self, one: Wanted, standing: Standing) -> Result | None:
        """The answer that was given to the first, or the refusal of another body; None where none was given yet."""
        if not same_digest(standing.digest, one.digest):
            return Refused("id_reused", field=one.routed.presented.id_field)
        if standing.partition is None or standing.offset is None:
            return None
        answer = answer_of(
            one.key[1],
            standing.region,
            standing.partition,
            standing.offset,
            standing.referral,
            one.routed.parts,
            self._queries,
        )
        return Admitted(answer, repeated=True)

    def _as_reserved(self, routed: Routed, standing: Standing) -> Routed:
        """Where the first of its repeats was to go: the agency may have moved to another home region since."""
        if standing.region == routed.region:
            return routed
        partition = self._view.reference.partition_of(standing.region)
        return replace(
            routed,
            region=standing.region,
            partition=routed.partition if partition is None else partition,
            about=standing.referral or routed.about,
            referral=standing.referral,
        )

    def _record(self, one: Wanted, routed: Routed, person: Person | None) -> Outgoing:
        return submission_record(
            submission_of(routed, person, self._sealer),
            codec=self._codec,
            topic=self._topic,
            partition=routed.partition,
            region=routed.region,
            id=routed.presented.id,
            organisation=routed.presented.organisation,
            sent_at=routed.presented.sent_at,
            digest=one.digest,
            about=routed.about,
            correlation=one.correlation,
        )


def _fits(request: Part, codec: Codec) -> bool:
    """Whether what becomes of it fits on a ledger. Nothing else that parties say can be so long, sealed or not."""
    if not isinstance(request, ServiceRequest):
        return True
    return can_be_taken(PublishService(definition=request.definition), codec)


def _not_now(wanted: Sequence[Wanted], error: BaseException) -> list[Result]:
    """What is answered where something is away; it is logged by the correlation of each."""
    for correlation, number in Counter(one.correlation for one in wanted).items():
        with correlated(correlation):
            logger.warning("%d submissions were not admitted: %s", number, told(error))
    return [_unavailable(_what_is_away(error))] * len(wanted)


def _unavailable(what: str) -> Refused:
    return Refused("unavailable", what, retry_after=RETRY_SECONDS)


def _what_is_away(error: BaseException) -> str:
    return "The log does not answer." if isinstance(error, LogError) else "The database does not answer."
