"""The reference page of what parties can do: who may, what it takes, when, what it makes and how it is refused.

Told by the routes, the requests, the roles intake asks for, the commands, and by what the core really does (see
:mod:`tests.support.tables`).
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from itertools import takewhile
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import MaxLen, MinLen
from fastapi import FastAPI
from pydantic import BaseModel

from referral_bus.access.caller import Caller
from referral_bus.cli import saying
from referral_bus.cli.main import OWN
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.inbox import SUBMISSIONS, AdoptReference, ForgetSubject, Submission
from referral_bus.contracts.ledger import (
    EVENTS,
    Event,
    ReferralCalled,
    ReferralClosed,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from referral_bus.contracts.message import Millis, Part
from referral_bus.contracts.requests import REQUESTS, FreeText
from referral_bus.contracts.vocabulary import BusinessStatus, CloseReason, Role
from services.intake.api import Doors, ForgetRequest, PublicationRequest
from services.intake.checks import ROLES
from services.intake.forgetting import Forgetting
from services.intake.publishing import Publishing
from services.intake.refusals import Refused
from tests.support.admitting import ROUTES
from tests.support.standings import Party, Standing, Stood
from tests.support.tables import Seen

_PARTIES: Final[dict[Party, tuple[str, str]]] = {
    "follows": ("A", "the agency that follows the referral"),
    "offered": ("P", "the provider the offer was made to"),
    "serves": ("P", "the provider that has accepted the person"),
    "served": ("P", "a provider whose service of the person is over"),
    "owns": ("P", "the provider whose service it is"),
}
"""The letter by which each stands in the table of what can be said when, and who it is."""

_BY_ITSELF: Final[dict[type[Submission], tuple[type[BaseModel], tuple[str, ...]]]] = {
    AdoptReference: (PublicationRequest, ("POST /v1/reference",)),
    ForgetSubject: (ForgetRequest, ("POST /v1/subjects/forget", "DELETE /v1/subjects/{}")),
}
"""What is put to every region, and by no event: what is said, and by which routes."""

_CLOSES: Final[dict[CloseReason, str]] = {
    "outcome_reported": "its provider says what came of it",
    "withdrawn": "its agency takes it back; of a service that had begun, once its provider says what came of it or gives the person back",
    "no_match": "it is matched, and nobody was asked since it was opened or reopened, or is to be",
    "offers_exhausted": "it is matched, and nobody is left to ask, or it was offered as often as its protocol allows",
    "facts_unavailable": "it is to be matched, and its facts can't be opened",
    "time_over": "it went without an acceptance for as long as its protocol allows",
    "parts_closed": "the last of its parts is closed; revoked where all of them were withdrawn",
}

_STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)
_NO_ANSWER: Final = (SubmissionRefused, SubmissionParked, SubmissionRepeated)
_ANOTHER: Final = (ReferralCalled, SubmissionResumed)
"""With these begins what follows as a decision of its own."""


class Route(NamedTuple):
    """Where something is said over HTTP, what its function is called and says it does, and whom the OpenAPI page lists it for."""

    way: str
    name: str
    does: str
    tags: tuple[str, ...]


class Action(NamedTuple):
    """What a party can do. ``request`` is what it says, ``roles`` are those of which it takes one."""

    submission: type[Submission]
    request: type[BaseModel]
    routes: tuple[Route, ...]
    roles: tuple[Role, ...]

    @property
    def title(self) -> str:
        return re.sub(r"(?<!^)([A-Z])", r" \1", self.submission.__name__).capitalize()

    @property
    def link(self) -> str:
        return f"[{self.title}](#{self.title.lower().replace(' ', '-')})"


class Met(NamedTuple):
    """What was seen of an action where it was taken: how things stood, and the events that answered, in their order."""

    stood: set[Stood]
    answers: set[tuple[type[Event], ...]]

    @property
    def standings(self) -> set[tuple[Standing, Party]]:
        return {(one.standing, one.party) for one in self.stood if one.standing and one.party}

    @property
    def made(self) -> set[type[Event]]:
        """Those that tell it: one of them is in each answer, and each of them is in one without the others."""
        firsts = {answer[0] for answer in self.answers}
        return {
            one for answer in self.answers if len(alone := firsts.intersection(answer)) == 1 for one in alone
        }

    @property
    def besides(self) -> set[type[Event]]:
        """Those that come with them."""
        return {one for answer in self.answers for one in answer} - self.made

    @property
    def repeated(self) -> set[type[Event]]:
        """Those that tell it of several at once."""
        return {one for one in self.made for answer in self.answers if answer.count(one) > 1}


def actions() -> list[Action]:
    """In the order of the submissions."""
    routes = _routes()
    found: dict[type[Submission], Action] = {}
    for request, submission in REQUESTS.items():
        method, path = ROUTES[request.__name__].split(" ")
        found[submission] = Action(submission, request, (routes[f"{method} /v1{path}"],), ROLES[request])
    for submission, (body, ways) in _BY_ITSELF.items():
        found[submission] = Action(
            submission, body, tuple(routes[way] for way in ways), _roles_for(submission)
        )
    return [found[one] for one in SUBMISSIONS if one in found]


def _routes() -> dict[str, Route]:
    """Intake's routes, by method and path without the names of what is in it."""
    app = FastAPI()
    nothing: Any = None
    Doors(
        admission=nothing,
        publishing=nothing,
        forgetting=nothing,
        quotas=nothing,
        reach=nothing,
        clock=nothing,
        public_key="{}",
        maximum_batch=0,
    ).install(app)
    found = {}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            way = f"{method.upper()} {path}"
            name = operation["summary"].lower().replace(" ", "_")
            found[re.sub(r"{\w+}", "{}", way)] = Route(
                way, name, _plain(operation["description"]), tuple(operation["tags"])
            )
    return found


def _roles_for(submission: type[Submission]) -> tuple[Role, ...]:
    """Which roles are not turned away for want of another."""
    view: Any = SimpleNamespace(ready=False)
    secrets: Any = SimpleNamespace(pseudonym_key=bytes(32))
    nothing: Any = None
    publishing = Publishing(
        log=nothing, appender=nothing, view=view, codec=nothing, clock=nothing, bus="", replication=1
    )
    forgetting = Forgetting(
        view=view, keys=nothing, appender=nothing, codec=nothing, secrets=secrets, clock=nothing, topic=""
    )
    asks: dict[type[Submission], Callable[[Caller], object]] = {
        AdoptReference: lambda caller: asyncio.run(publishing.publish("policy", {}, caller)),
        ForgetSubject: lambda caller: forgetting.subject_of("case-1", None, caller),
    }

    def may(role: Role) -> bool:
        try:
            asks[submission](Caller("somebody", frozenset({role})))
        except Refused as refused:
            return refused.reason != "role_missing"
        return True

    return tuple(filter(may, get_args(Role)))


# What it takes


def _needs(action: Action) -> str:
    fields = _fields(action.request, action.submission.model_fields)
    path = re.findall(r"{(\w+)}", action.routes[0].way)
    fields.sort(key=lambda one: one[0] not in path)
    required = ", ".join(told for _, needed, told in fields if needed)
    optional = ", ".join(told for _, needed, told in fields if not needed)
    listed = "; ".join(filter(None, (required, f"optional: {optional}" if optional else "")))
    if len(fields) == len(path):
        return listed
    said = next(one for one in (action.request.__mro__[1], action.request) if one not in (Part, BaseModel))
    return f"{listed}. {_plain(said.__doc__)}"


def _fields(model: type[BaseModel], sealed_in: Any) -> list[tuple[str, bool, str]]:
    """Each field with whether it is required, and what is said there. What is sealed on its way is called so in the submission."""
    found = []
    for name, hint in get_type_hints(model, include_extras=True).items():
        field = model.model_fields.get(name)
        if field is None:
            continue
        words = [*_values(hint, sealed_in.get(name))]
        words += ["sealed"] if f"sealed_{name}" in sealed_in else []
        if not field.is_required() and field.default is not None:
            words.append(f"else {'no' if field.default is False else f'`{field.default}`'}")
        found.append((name, field.is_required(), f"`{name}`" + (f" ({'; '.join(words)})" if words else "")))
    return found


def _values(hint: Any, in_submission: Any) -> Iterator[str]:
    kinds = (hint, *get_args(hint))
    if Millis in kinds:
        yield "a time"
    elif FreeText in kinds:
        yield "text"
    elif bool in kinds:
        yield "yes or no"
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield ", ".join(f"`{value}`" for value in get_args(kind))
        elif get_origin(kind) is list:
            bounds = {type(one): one for one in get_args(hint)[1:][0].metadata}
            [part], [inner] = get_args(kind), get_args(in_submission.annotation)
            each = ", ".join(told for _, _, told in _fields(part, inner.model_fields))
            yield f"{bounds[MinLen].min_length} to {bounds[MaxLen].max_length}, each with {each}"
        elif inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield f"`{kind.__name__}`"


def _plain(said: str | None) -> str:
    """What a docstring says, as a page says it."""
    return " ".join((said or "").split()).replace("``", "`")


# By which commands


@cache
def _commands() -> dict[str, list[str]]:
    """The commands that say something, by what the SDK calls it."""
    found: dict[str, list[str]] = {}
    for group in ("referral", "respond"):
        for command in getattr(saying, group).registered_commands:
            action = inspect.getclosurevars(command.callback).nonlocals["action"]
            for name in _named(action):
                found.setdefault(name, []).append(f"refbus {group} {command.name}")
    for name, where in OWN.items():
        module, _, attribute = where.partition(":")
        function = getattr(import_module(f"referral_bus.cli.{module}"), attribute)
        if inspect.isfunction(function):
            for said in _named(function, only="connected"):
                found.setdefault(said, []).append(f"refbus {name}")
    return found


def _named(function: Any, only: str = "") -> set[str]:
    """What of the SDK a function names; of one that is to name something else too, or by which of its module it does."""
    ours = [function, *(function.__globals__.get(name) for name in function.__code__.co_names)]
    codes = [
        one.__code__
        for one in ours
        if inspect.isfunction(one)
        and one.__module__ == function.__module__
        and (not only or only in one.__code__.co_names)
    ]
    return {
        name
        for code in codes
        for name in code.co_names
        if not name.startswith("_") and hasattr(SyncBus, name)
    }


def said_by(action: Action) -> list[str]:
    """The commands that say it."""
    return sorted({command for route in action.routes for command in _commands().get(route.name, ())})


# What the core does


def taken(seen: Seen) -> dict[type[Submission], Met]:
    found: dict[type[Submission], Met] = {}
    for one in seen:
        if not one.events or isinstance(one.events[0], _NO_ANSWER):
            continue
        met = found.setdefault(type(one.received.body), Met(set(), set()))
        met.stood.add(one.stood)
        met.answers.add(
            tuple(map(type, takewhile(lambda event: not isinstance(event, _ANOTHER), one.events)))
        )
    return found


def _when(met: Met) -> dict[str, str]:
    """How the referral may stand, by who says it; and the task it is about."""
    told = {}
    for party, (_, words) in _PARTIES.items():
        if any(one.party == party for one in met.stood):
            standings = [one for one in _STANDINGS if (one, party) in met.standings]
            left = [one for one in _STANDINGS if one not in standings]
            told[words] = (
                f"any but {', '.join(left)}" if 0 < len(left) < 3 else ", ".join(standings) or "at any time"
            )
    tasks = [f"`{one}`" for one in get_args(BusinessStatus) if any(one == stood.task for stood in met.stood)]
    return told | ({"the task is": ", ".join(tasks)} if tasks else {})


def _makes(met: Met) -> str:
    more = [*_in_order(met.besides), *(f"more {one}" for one in _in_order(met.repeated))]
    words = " or ".join(_in_order(met.made))
    return f"{words}; with it, as it may be: {', '.join(more)}" if more else words


def _in_order(events: set[type[Event]]) -> list[str]:
    return [f"`{one.__name__}`" for one in EVENTS if one in events]


def _refused(named: str, refusals: list[str]) -> list[str]:
    """The reasons of the rows that name it."""
    rows = [row.strip("| ").split(" | ") for row in refusals[2:]]
    return [reason for reason, _, who in rows if named in who.split(", ")]


# The page


def _overview(met: dict[type[Submission], Met]) -> list[str]:
    rows = [
        (
            one.link,
            ", ".join(one.roles),
            _code(_ways(one)),
            _code(said_by(one)),
            ", ".join(_in_order(met[one.submission].made)),
        )
        for one in actions()
    ]
    return _table(("action", "role", "over HTTP", "command", "event"), rows)


def _matrix(met: dict[type[Submission], Met]) -> list[str]:
    rows = []
    for one in actions():
        standings = met[one.submission].standings
        letters = [
            " ".join(sorted({_PARTIES[party][0] for standing, party in standings if standing == column}))
            for column in _STANDINGS
        ]
        if any(letters):
            rows.append((one.link, *letters))
    return _table(("action", *_STANDINGS), rows)


def _closings(seen: Seen) -> list[str]:
    closed = [event for one in seen for event in one.events if isinstance(event, ReferralClosed)]
    rows = []
    for reason in get_args(CloseReason):
        statuses = sorted({event.status for event in closed if event.reason == reason})
        rows.append((f"`{reason}`", _code(statuses), _CLOSES[reason]))
    return _table(("reason", "FHIR status", "when"), rows)


def _section(action: Action, met: Met, refusals: list[str]) -> list[str]:
    name = f"`{action.submission.__name__}`"
    event = [action.submission.event_type()] if action.submission not in _BY_ITSELF else []
    rows = {
        "role": " or ".join(action.roles),
        **_when(met),
        "needs": _needs(action),
        "said by": _code([*_ways(action), *event, *said_by(action)]),
        "makes": _makes(met),
        "refused as": ", ".join(_refused(name, refusals)) or "nothing of its own",
    }
    return [
        "",
        f"## {action.title}",
        "",
        action.routes[0].does,
        "",
        *_table(("submission", name), list(rows.items())),
    ]


def _ways(action: Action) -> list[str]:
    return [route.way for route in action.routes]


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def rewritten(page: str, seen: Seen, refusals: list[str]) -> str:
    """The page, with all from its first heading on made anew. ``refusals`` is the table of the page of refusals."""
    met = taken(seen)
    lines = [
        page.partition("\n## ")[0],
        "## All actions",
        "",
        *_overview(met),
        "",
        f"Whatever is said can also be refused as {', '.join(_refused('any', refusals))}.",
        "",
        "## When",
        "",
        "A: by the agency that follows the referral. P: by a provider that has the offer or the person, or had the person.",
        "",
        *_matrix(met),
        "",
        "## How a referral is closed",
        "",
        *_closings(seen),
        *(line for one in actions() for line in _section(one, met[one.submission], refusals)),
        "",
    ]
    return "\n".join(lines)
