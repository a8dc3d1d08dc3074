"""What the query API reads of the views. Each call is one question; pages go by key, latest first unless said otherwise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, literal_column, or_, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import URGENCIES, OrganisationKind
from referral_bus.wording.certificates import Scoring
from services.projections.cursors import Key
from services.projections.tables import SERVING

Found = dict[str, Any]
"""A row by column; beside a task, or what waits, those columns of its referral that say who may see it."""

_NEVER: Final = 2**63 - 1
"""In the order of the queue, the due time of what has none."""

_referrals, _tasks, _waits, _units, _submissions, _adopted = (
    SERVING.referrals.c,
    SERVING.tasks.c,
    SERVING.waits.c,
    SERVING.units.c,
    SERVING.submissions.c,
    SERVING.adopted.c,
)
_BESIDE: Final = (
    _referrals.subject,
    _referrals.erased,
    _referrals.agency,
    _referrals.urgency,
    _referrals.purpose,
    _referrals.accepted_by,
    _referrals.outcome,
)


class Order(NamedTuple):
    """How a view is paged: the key's columns, the kinds of its parts, and the key of a row that was found."""

    columns: tuple[ColumnElement[Any], ...]
    kinds: tuple[type[Key], ...]
    key: Callable[[Found], list[Key]]
    latest_first: bool = False


CASELOAD: Final = Order(
    (_referrals.agency, _referrals.opened_at, _referrals.referral),
    (str, int, str),
    lambda row: [row["agency"], row["opened_at"], row["referral"]],
    latest_first=True,
)
INBOX: Final = Order(
    (_tasks.provider, _tasks.offered_at, _tasks.task),
    (str, int, str),
    lambda row: [row["provider"], row["offered_at"], row["task"]],
    latest_first=True,
)
QUEUE: Final = Order(
    (func.coalesce(_waits.due_at, literal_column(str(_NEVER))), _waits.since, _waits.wait),
    (int, int, str),
    lambda row: [_NEVER if row["due_at"] is None else row["due_at"], row["since"], row["wait"]],
)
CAPACITY: Final = Order((_units.unit,), (str,), lambda row: [row["unit"]])
SUBMISSIONS: Final = Order(
    (_submissions.at, _submissions.place),
    (int, str),
    lambda row: [row["at"], row["place"]],
    latest_first=True,
)
REFERENCE: Final = Order(
    (_adopted.region, _adopted.kind, _adopted.name, _adopted.version),
    (str, str, str, int),
    lambda row: [row["region"], row["kind"], row["name"], row["version"]],
)


class Whose(NamedTuple):
    """Whose queue is asked for: an organisation's, in the roles it has; ``mine``: only what the organisation itself must do."""

    organisation: str
    agency: bool
    provider: bool
    mine: bool = False

    def condition(self) -> ColumnElement[bool]:
        """What of the queue that is. An escalation waits for whom it was escalated to, and is nobody else's."""
        name, of = self.organisation, []
        if self.agency:
            own = _waits.whose == "agency" if self.mine else _waits.whose != "target"
            of.append(and_(_referrals.agency == name, own))
        if self.provider:
            own = _waits.whose == "provider" if self.mine else _waits.whose != "target"
            of.append(and_(_waits.provider == name, own))
        return or_(and_(_waits.whose == "target", _waits.target == name), *of)


class Queries:
    """Reads the views that serve."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def referral(self, referral: str) -> Found | None:
        """Where one referral stands."""
        found = await self._all(select(SERVING.referrals).where(_referrals.referral == referral))
        return found[0] if found else None

    async def tasks(self, referrals: Collection[str]) -> list[Found]:
        """The tasks of these referrals, each referral's in order."""
        if not referrals:
            return []
        return await self._all(
            select(SERVING.tasks)
            .where(_tasks.referral.in_(referrals))
            .order_by(_tasks.referral, _tasks.offered_at, _tasks.task)
        )

    async def events(self, referral: str, through: int) -> list[Found]:
        """What happened to a referral, in order, up to a sequence."""
        events = SERVING.events.c
        return await self._all(
            select(SERVING.events)
            .where(events.referral == referral, events.sequence <= through)
            .order_by(events.sequence)
        )

    async def scorings(self, region: str) -> dict[tuple[str, int], Scoring]:
        """What each policy that a region adopted says of a score, by its id and version."""
        policies = SERVING.policies.c
        rows = await self._all(select(SERVING.policies).where(policies.region == region))
        return {(row["policy"], row["version"]): Scoring(row["rank_by"], bool(row["trust"])) for row in rows}

    async def service_names(self, services: Collection[str]) -> dict[str, str]:
        """The name of each of these services, where it is known."""
        if not services:
            return {}
        rows = await self._all(
            select(_units.service, func.max(_units.service_name).label("name"))
            .where(_units.service.in_(sorted(services)))
            .group_by(_units.service)
        )
        return {row["service"]: row["name"] for row in rows}

    async def sections(self, referral: str, part_of: str | None) -> list[Found]:
        """What is sealed of a referral's person, in the order in which it was given: each with the attempt it is about, and whose that is.
        The identity of a part may stand with the whole it is ``part_of``."""
        sections = SERVING.sections.c
        wanted = (
            select(sections.referral, sections.section, sections.task, sections.sealed, _tasks.provider)
            .join(SERVING.tasks, _tasks.task == sections.task, isouter=True)
            .where(
                or_(
                    sections.referral == referral,
                    and_(sections.referral == part_of, sections.section == "identity"),
                )
            )
        )
        return await self._all(wanted)

    async def caseload(self, agency: str | None, behind: Sequence[Key] | None, limit: int) -> list[Found]:
        """The referrals of an agency, or of all."""
        wanted = select(SERVING.referrals)
        if agency is not None:
            wanted = wanted.where(_referrals.agency == agency)
        return await self._page(wanted, CASELOAD, behind, limit)

    async def waiting_list(self, agency: str | None, behind: Sequence[Key] | None, limit: int) -> list[Found]:
        """The referrals of an agency, or of all, that wait for a place to come free."""
        wanted = select(SERVING.referrals).where(_referrals.waits_for.is_not(None))
        if agency is not None:
            wanted = wanted.where(_referrals.agency == agency)
        return await self._page(wanted, CASELOAD, behind, limit)

    async def places(self, referrals: Collection[str]) -> dict[tuple[str, str], int]:
        """How many are before each of these in line at each service it waits for, and it: 1 is who comes next."""
        if not referrals:
            return {}
        lined_up = (
            func.jsonb_array_elements_text(_referrals.waits_for).table_valued("service").render_derived()
        )
        urgency = case({name: number for number, name in enumerate(URGENCIES)}, value=_referrals.urgency)
        # As matching lines them up: by urgency, then by how long ago each was taken up, or the one it is a part of.
        whole = SERVING.referrals.alias("whole")
        taken_up = func.coalesce(
            _referrals.reopened_at, whole.c.reopened_at, whole.c.opened_at, _referrals.opened_at
        )
        order = (urgency, taken_up, _referrals.referral)
        lines = (
            select(
                _referrals.referral,
                lined_up.c.service,
                func.row_number().over(partition_by=lined_up.c.service, order_by=order).label("place"),
            )
            .select_from(SERVING.referrals)
            .join(lined_up, literal(True))
            .outerjoin(whole, whole.c.referral == _referrals.part_of)
            .where(_referrals.waits_for.is_not(None))
            .subquery()
        )
        rows = await self._all(select(lines).where(lines.c.referral.in_(referrals)))
        return {(row["referral"], row["service"]): row["place"] for row in rows}

    async def inbox(self, provider: str | None, behind: Sequence[Key] | None, limit: int) -> list[Found]:
        """The tasks that are offered to a provider or that it accepted, or all providers' such."""
        wanted = (
            select(SERVING.tasks, *_BESIDE)
            .join(SERVING.referrals, _referrals.referral == _tasks.referral)
            .where(
                or_(
                    and_(_tasks.status == "requested", _tasks.business_status != "reserving"),
                    _tasks.accepted_at.is_not(None),
                )
            )
        )
        if provider is not None:
            wanted = wanted.where(_tasks.provider == provider)
        return await self._page(wanted, INBOX, behind, limit)

    async def queue(
        self,
        whose: Whose | None,
        behind: Sequence[Key] | None,
        limit: int,
        *,
        to_operations: bool = False,
    ) -> list[Found]:
        """What waits for somebody, earliest due first, then what has no limit, longest waiting first. Of all, unless said whose;
        ``to_operations``: only what was escalated to operations."""
        wanted = (
            select(SERVING.waits, *_BESIDE)
            .join(SERVING.referrals, _referrals.referral == _waits.referral)
            .where(_waits.done_at.is_(None))
        )
        if whose is not None:
            wanted = wanted.where(whose.condition())
        if to_operations:
            wanted = wanted.where(_waits.whose == "target", _waits.target.is_(None))
        return await self._page(wanted, QUEUE, behind, limit)

    async def capacity(
        self, organisation: str | None, behind: Sequence[Key] | None, limit: int
    ) -> list[Found]:
        """Units with their places, by id, those of one organisation or all; how their services answered so far, and how the region's policy
        trusts a count by its age."""
        reliability, policies = SERVING.reliability.c, SERVING.policies.c
        answers = (
            select(
                reliability.service,
                func.sum(reliability.kept).label("kept"),
                func.sum(reliability.broken).label("broken"),
            )
            .group_by(reliability.service)
            .subquery()
        )
        in_force = (
            select(policies.region, policies.trust)
            .ext(distinct_on(policies.region))
            .order_by(policies.region, policies.sequence.desc())
            .subquery()
        )
        wanted = (
            select(
                SERVING.units,
                func.coalesce(answers.c.kept, 0).label("kept"),
                func.coalesce(answers.c.broken, 0).label("broken"),
                in_force.c.trust,
            )
            .join(answers, answers.c.service == _units.service, isouter=True)
            .join(in_force, in_force.c.region == _units.region, isouter=True)
        )
        if organisation is not None:
            wanted = wanted.where(_units.organisation == organisation)
        return await self._page(wanted, CAPACITY, behind, limit)

    async def submissions(self, organisation: str, behind: Sequence[Key] | None, limit: int) -> list[Found]:
        """What an organisation sent that was refused or had to wait."""
        wanted = select(SERVING.submissions).where(_submissions.organisation == organisation)
        return await self._page(wanted, SUBMISSIONS, behind, limit)

    async def references(
        self, kind: str | None, region: str | None, behind: Sequence[Key] | None, limit: int
    ) -> list[Found]:
        """What regions decide by and which services are published in them, without the content."""
        wanted = select(*(column for column in _adopted if column.name != "content"))
        if kind is not None:
            wanted = wanted.where(_adopted.kind == kind)
        if region is not None:
            wanted = wanted.where(_adopted.region == region)
        return await self._page(wanted, REFERENCE, behind, limit)

    async def reference(self, kind: str, name: str, region: str, version: int | None) -> Found | None:
        """One of it with its content: that version, or the latest."""
        wanted = select(SERVING.adopted).where(
            _adopted.region == region, _adopted.kind == kind, _adopted.name == name
        )
        if version is not None:
            wanted = wanted.where(_adopted.version == version)
        found = await self._all(wanted.order_by(_adopted.version.desc()).limit(1))
        return found[0] if found else None

    async def answer_about(self, organisation: str, referral: str, type: str) -> Found | None:
        """The latest refusal or parking of what an organisation sent of this type about this referral."""
        found = await self._all(
            select(SERVING.submissions)
            .where(
                _submissions.organisation == organisation,
                _submissions.about == referral,
                _submissions.type == type,
            )
            .order_by(_submissions.at.desc(), _submissions.place.desc())
            .limit(1)
        )
        return found[0] if found else None

    async def kinds(self, agencies: Collection[tuple[str, str]]) -> dict[tuple[str, str], OrganisationKind]:
        """The kind of each (region, organisation) that the region adopted."""
        if not agencies:
            return {}
        organisations = SERVING.organisations.c
        rows = await self._all(
            select(organisations.region, organisations.organisation, organisations.kind).where(
                tuple_(organisations.region, organisations.organisation).in_(sorted(agencies))
            )
        )
        return {(row["region"], row["organisation"]): row["kind"] for row in rows}

    async def agreements(self, recipient: str) -> dict[str, list[Agreement]]:
        """What was agreed to show to a recipient, by the region that adopted it."""
        agreements = SERVING.agreements.c
        rows = await self._all(
            select(agreements.region, agreements.content).where(agreements.recipient == recipient)
        )
        found: dict[str, list[Agreement]] = {}
        for row in rows:
            found.setdefault(row["region"], []).append(Agreement.model_validate(row["content"]))
        return found

    async def _page(
        self, wanted: Select[Any], order: Order, behind: Sequence[Key] | None, limit: int
    ) -> list[Found]:
        if behind is not None:
            place, there = tuple_(*order.columns), tuple_(*(literal(part) for part in behind))
            wanted = wanted.where(place < there if order.latest_first else place > there)
        ordered = [column.desc() if order.latest_first else column for column in order.columns]
        return await self._all(wanted.order_by(*ordered).limit(limit))

    async def _all(self, wanted: Select[Any]) -> list[Found]:
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(wanted)).mappings()]
