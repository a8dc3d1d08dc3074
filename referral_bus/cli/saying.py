"""``refbus respond ...`` and ``refbus referral ...``: what a provider says of an offer, and an agency of its referral, a command each."""

import inspect
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home
from referral_bus.cli.party import (
    Intake,
    Key,
    Organisation,
    Token,
    connected,
    faults,
    json_of,
    one_of,
    say,
)
from referral_bus.client.answers import Answer
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.requests import AmendBody, ReopenBody, SplitBody
from referral_bus.contracts.vocabulary import (
    DECLINES,
    Channel,
    DeclineReason,
    FollowUpDay,
    HoldReason,
    Means,
    OutcomeCause,
    OutcomeResult,
    ReopenReason,
    Role,
    Urgency,
    WithdrawReason,
)

P = ParamSpec("P")
Body = TypeVar("Body", bound=BaseModel)

respond = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Say something as a provider: of an offer (tk-...), of a referral it has accepted (rf-...), or of its places (un-...).",
)
referral = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Change a referral (rf-...) as its agency, or answer what was asked of an offer (tk-...).",
)

Action = Callable[Concatenate[SyncBus, str | None, P], Answer]
"""Says one thing to the bus under an id, or under a new one."""

_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
_PARKING: Final = ", ".join(reason for reason, meant in DECLINES.items() if meant.dated)

Task = Annotated[str, typer.Argument(help="The offer (tk-...).")]
Referral = Annotated[str, typer.Argument(help="The referral (rf-...).")]
Until = Annotated[
    datetime | None, typer.Option(formats=_FORMATS, help="Until when, in local time.", show_default=False)
]
At = Annotated[
    datetime | None,
    typer.Option(formats=_FORMATS, help="When it was, in local time; left out: now.", show_default=False),
]
Note = Annotated[str | None, typer.Option(help="Free text; it travels and rests sealed.")]
Result = Annotated[OutcomeResult, typer.Option(help="What came of it.")]


def saying(commands: typer.Typer, *roles: Role, name: str | None = None) -> Callable[[Action[P]], Action[P]]:
    """Make a command of an action: its own arguments, and those that say who speaks to which bus under which id."""

    def add(action: Action[P]) -> Action[P]:
        def command(
            *,
            organisation: Organisation,
            id: Key = None,
            token: Token = None,
            intake: Intake = None,
            home: Home = Path(".refbus"),
            **said: Any,
        ) -> None:
            with connected(home, organisation, roles, token, intake=intake) as bus:
                try:
                    answer = action(bus, id, **said)  # type: ignore[call-arg]
                except ValidationError as error:
                    raise Rejected(f"This can't be said: {faults(error)}.") from None
            say(answer)

        own = list(inspect.signature(action).parameters.values())[2:]
        shared = list(inspect.signature(command).parameters.values())[:-1]
        every = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__doc__ = action.__doc__
        commands.command(name or action.__name__.replace("_", "-"))(command)
        return action

    return add


@saying(respond, "provider")
def acknowledge(bus: SyncBus, id: str | None, task: Task) -> Answer:
    """An offer was seen, and will be answered."""
    return bus.acknowledge(task, id=id)


@saying(respond, "provider")
def ask(
    bus: SyncBus,
    id: str | None,
    task: Task,
    question: Annotated[str, typer.Argument(help="Free text; it travels and rests sealed.")],
) -> Answer:
    """Ask the agency for more before an offer is answered."""
    return bus.ask(task, question, id=id)


@saying(respond, "provider")
def accept(
    bus: SyncBus,
    id: str | None,
    task: Task,
    starts: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="When the service begins, in local time.", show_default=False),
    ] = None,
) -> Answer:
    """Accept an offer."""
    return bus.accept(task, _millis(starts), id=id)


@saying(respond, "provider")
def decline(
    bus: SyncBus,
    id: str | None,
    task: Task,
    reason: Annotated[DeclineReason, typer.Option(help=f"Why; --until goes with {_PARKING}.")],
    until: Until = None,
    gives_back: Annotated[
        bool, typer.Option("--give-back", help="The person was accepted, and is given back.")
    ] = False,
) -> Answer:
    """Decline an offer, or give back a person who was accepted."""
    return bus.decline(task, reason, _millis(until), gives_back=gives_back, id=id)


@saying(respond, "provider")
def propose(
    bus: SyncBus,
    id: str | None,
    task: Task,
    service: Annotated[str, typer.Argument(help="The service (sv-...) that is to be asked.")],
) -> Answer:
    """Propose another service."""
    return bus.propose(task, service, id=id)


@saying(respond, "provider")
def contact(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    by: Annotated[Channel, typer.Option(help="How it was tried.")],
    reached: Annotated[bool, typer.Option("--reached/--not-reached", help="Whether it succeeded.")],
    at: At = None,
) -> Answer:
    """It was tried to reach the person."""
    return bus.contact(referral, by, reached, _millis(at) or _now(), id=id)


@saying(respond, "provider")
def no_show(bus: SyncBus, id: str | None, referral: Referral, at: At = None) -> Answer:
    """The person did not come."""
    return bus.no_show(referral, _millis(at) or _now(), id=id)


@saying(respond, "provider")
def start(bus: SyncBus, id: str | None, referral: Referral, at: At = None) -> Answer:
    """The service began. Said again with another time, it corrects what was said before."""
    return bus.start(referral, _millis(at) or _now(), id=id)


@saying(respond, "provider")
def outcome(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    result: Result = "need_met",
    cause: Annotated[OutcomeCause | None, typer.Option(help="Why it came to that.")] = None,
    note: Note = None,
    at: At = None,
) -> Answer:
    """What came of it, and when the service ended. Said again, it corrects what was said before."""
    return bus.outcome(referral, result, note, cause, ended_at=_millis(at), id=id)


@saying(respond, "provider")
def capacity(
    bus: SyncBus,
    id: str | None,
    unit: Annotated[str, typer.Argument(help="The unit of places (un-...).")],
    total: Annotated[int, typer.Option(help="How many places it has.")],
    available: Annotated[int, typer.Option(help="How many of them are free.")],
    at: At = None,
) -> Answer:
    """How many places a unit has, and how many are free. The bus goes on from when they were counted."""
    return bus.report_capacity(unit, total, available, _millis(at) or _now(), id=id)


@saying(referral, "agency")
def amend(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    file: Annotated[
        Path | None,
        typer.Argument(help="JSON with urgency, facts or identity, whichever changes ('-': standard input)."),
    ] = None,
    urgency: Annotated[Urgency | None, typer.Option(help="The urgency alone, instead of a file.")] = None,
) -> Answer:
    """Correct a referral: what is given replaces what was said before."""
    if (file is None) == (urgency is None):
        raise Rejected("Give either a file with the corrections as JSON, or --urgency.")
    body = AmendBody(urgency=urgency) if file is None else _read(AmendBody, file)
    return bus.amend(referral, urgency=body.urgency, facts=body.facts, identity=body.identity, id=id)


@saying(referral, "agency")
def transfer(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    agency: Annotated[str, typer.Argument(help="The organisation that follows it from then on.")],
) -> Answer:
    """Hand a referral to another agency."""
    return bus.transfer(referral, agency, id=id)


@saying(referral, "agency")
def split(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    file: Annotated[
        Path,
        typer.Argument(
            help='JSON: {"parts": [{"urgency": ..., "facts": ...}, ...]} (\'-\': standard input).'
        ),
    ],
) -> Answer:
    """Split a referral whose needs no one service meets."""
    return bus.split(referral, _read(SplitBody, file).parts, id=id)


@saying(referral, "agency")
def reopen(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    file: Annotated[Path, typer.Argument(help="The facts anew, as JSON ('-': standard input).")],
    reason: Annotated[ReopenReason, typer.Option(help="Why.")],
) -> Answer:
    """Take a closed referral up again."""
    body = _read(ReopenBody, file, lambda facts: {"reason": reason, "facts": facts})
    return bus.reopen(referral, reason, body.facts, id=id)


@saying(referral, "agency")
def withdraw(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    reason: Annotated[WithdrawReason, typer.Option(help="Why.")],
) -> Answer:
    """Take a referral back; one that is closed only as entered in error."""
    return bus.withdraw(referral, reason, id=id)


@saying(referral, "agency", name="answer")
def answer_question(
    bus: SyncBus,
    id: str | None,
    task: Task,
    answer: Annotated[str, typer.Argument(help="Free text; it travels and rests sealed.")],
) -> Answer:
    """Answer what a provider asked about its offer."""
    return bus.answer(task, answer, id=id)


@saying(respond, "provider")
@saying(referral, "agency")
def hold(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    reason: Annotated[HoldReason, typer.Option(help="Why.")],
    until: Until = None,
) -> Answer:
    """Let it rest until a date, else for as long as its protocol lets it, or until it is resumed."""
    return bus.hold(referral, reason, _millis(until), id=id)


@saying(respond, "provider")
@saying(referral, "agency")
def resume(bus: SyncBus, id: str | None, referral: Referral) -> Answer:
    """Go on with what was put on hold."""
    return bus.resume(referral, id=id)


@saying(respond, "provider")
@saying(referral, "agency")
def handoff(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    by: Annotated[Means, typer.Option(help="How agency and provider met.")],
    at: At = None,
) -> Answer:
    """Confirm that the person was handed over."""
    return bus.confirm_handoff(referral, by, _millis(at) or _now(), id=id)


@saying(respond, "provider")
@saying(referral, "agency")
def follow_up(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    days: Annotated[int, typer.Option(help="How long after: 30 or 90.")],
    result: Result,
    note: Note = None,
) -> Answer:
    """How it is some time after a referral was completed. Said again, it corrects what was said before."""
    return bus.follow_up(referral, one_of(FollowUpDay, "--days", days), result, note, id=id)


@saying(respond, "provider")
@saying(referral, "agency")
def retract(
    bus: SyncBus,
    id: str | None,
    referral: Referral,
    sequence: Annotated[
        int, typer.Argument(help="The number of its event, as the notice and the timeline have it.")
    ],
) -> Answer:
    """Take back a no-show, a contact or a handoff that one reported by mistake."""
    return bus.retract(referral, sequence, id=id)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _millis(local: datetime | None) -> int | None:
    """Epoch milliseconds of a moment by the clock of this machine."""
    return None if local is None else int(local.astimezone().timestamp() * 1000)


def _read(body: type[Body], file: Path, within: Callable[[Any], Any] = lambda content: content) -> Body:
    return body.model_validate_json(json.dumps(within(json_of(file))))
