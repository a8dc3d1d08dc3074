"""``refbus token|submit|respond|follow``: the bus as agencies and providers use it, from the command line."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from rich.console import Console

from referral_bus.access.tokens import issue_token
from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home
from referral_bus.client.answers import Answer, Heard
from referral_bus.client.errors import BusError
from referral_bus.client.notices import open_notice
from referral_bus.client.sync import SyncBus
from referral_bus.client.tokens import RenewedToken, TokenSource
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.vocabulary import DeclineReason, OutcomeResult, Role, WithdrawReason
from referral_bus.embedded.secrets import key_of
from referral_bus.sealing.jwe import JweError

_TOKEN_SECONDS = 3600
_RENEW_SECONDS = 3000.0
_LONGEST_FILE = 1_048_576
_PATIENCE_SECONDS = 10.0

console = Console(soft_wrap=True)

Organisation = Annotated[
    str, typer.Option("--as", envvar="REFBUS_ORGANISATION", help="The organisation that speaks.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="REFBUS_TOKEN", help="Its bearer token. Left out: the local bus issues one."
    ),
]
Intake = Annotated[str | None, typer.Option("--intake", envvar="REFBUS_INTAKE", help="Address of intake.")]
Queries = Annotated[
    str | None, typer.Option("--queries", envvar="REFBUS_QUERIES", help="Address of the query API.")
]
Notifier = Annotated[
    str | None, typer.Option("--notifier", envvar="REFBUS_NOTIFIER", help="Address of the notifier.")
]
Key = Annotated[
    str | None, typer.Option("--id", help="Id of this submission. Give the same again to repeat it safely.")
]


class Action(StrEnum):
    """What can be said about an offer or a referral."""

    accept = "accept"
    decline = "decline"
    start = "start"
    outcome = "outcome"
    withdraw = "withdraw"


def token(
    organisation: Annotated[str, typer.Argument(help="The organisation the token is for.")],
    roles: Annotated[
        str, typer.Option(help="Comma-separated: agency, provider, operations.")
    ] = "agency,provider",
    seconds: Annotated[
        int, typer.Option(help="How long it is good for.", min=1, max=86_400)
    ] = _TOKEN_SECONDS,
    home: Home = Path(".refbus"),
) -> None:
    """Issue a development token, signed with the local bus's own key."""
    print(development_token(home, organisation, roles_of(roles), seconds))


def submit(
    file: Annotated[
        Path | None, typer.Argument(help="A referral as JSON ('-' for standard input); see intake's /docs.")
    ] = None,
    organisation: Organisation = "line-211",
    need: Annotated[
        list[str] | None,
        typer.Option("--need", help="Open Eligibility code, instead of a file; may be repeated."),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The agency's own reference for the person.")] = None,
    name: Annotated[str | None, typer.Option(help="The person's name; it travels and rests sealed.")] = None,
    age: Annotated[int | None, typer.Option(help="Age in years.", min=0, max=150)] = None,
    area: Annotated[str | None, typer.Option(help="The area, as the region names it.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="BCP 47 tag; may be repeated.")] = None,
    urgency: Annotated[str, typer.Option(help="crisis, urgent or routine.")] = "routine",
    region: Annotated[str | None, typer.Option(help="Left out: the agency's home region.")] = None,
    id: Key = None,
    token: Token = None,
    intake: Intake = None,
    home: Home = Path(".refbus"),
) -> None:
    """Submit a referral, from a JSON file or from options."""
    if (file is None) == (not need):
        raise Rejected("Give either a file with the referral as JSON, or --need CODE with the other options.")
    content = (
        _file(file)
        if file is not None
        else _content(need or [], subject, name, age, area, language, urgency, region)
    )
    try:
        request = ReferralRequest.model_validate(content)
    except ValidationError as error:
        raise Rejected(
            f"This is not a referral: {_faults(error)}. Correct it; intake's /docs shows the form."
        ) from None
    with connected(home, organisation, ("agency",), token, intake=intake) as bus:
        _say(bus.submit(request, id=id))


def respond(
    action: Annotated[Action, typer.Argument(help="What to say.")],
    about: Annotated[
        str, typer.Argument(help="The offer (tk-...) to accept or decline, else the referral (rf-...).")
    ],
    organisation: Organisation,
    reason: Annotated[str | None, typer.Option(help="Why, for decline and withdraw.")] = None,
    result: Annotated[str, typer.Option(help="What came of it, for outcome.")] = "need_met",
    note: Annotated[
        str | None, typer.Option(help="Free text with an outcome; it travels and rests sealed.")
    ] = None,
    id: Key = None,
    token: Token = None,
    intake: Intake = None,
    home: Home = Path(".refbus"),
) -> None:
    """Answer an offer, report the start or the outcome of a service, or withdraw a referral."""
    role: Role = "agency" if action is Action.withdraw else "provider"
    with connected(home, organisation, (role,), token, intake=intake) as bus:
        match action:
            case Action.accept:
                answer = bus.accept(about, id=id)
            case Action.decline:
                answer = bus.decline(about, _one_of(DeclineReason, "--reason", reason), id=id)
            case Action.start:
                answer = bus.start(about, time.time_ns() // 1_000_000, id=id)
            case Action.outcome:
                answer = bus.outcome(about, _one_of(OutcomeResult, "--result", result), note, id=id)
            case Action.withdraw:
                answer = bus.withdraw(about, _one_of(WithdrawReason, "--reason", reason), id=id)
        _say(answer)


def follow(
    organisation: Organisation,
    role: Annotated[str | None, typer.Option(help="Only what concerns it as agency or as provider.")] = None,
    after: Annotated[
        str | None, typer.Option(help="Id of the last notice that was seen; go on after it.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="File with the organisation's private JWK, to show what is disclosed to it. "
            "Left out: the one the local bus made for it."
        ),
    ] = None,
    token: Token = None,
    notifier: Notifier = None,
    home: Home = Path(".refbus"),
) -> None:
    """Print an organisation's notices as they happen, until Ctrl-C."""
    only = None if role is None else _one_of(Role, "--role", role)
    own = key_of(home, organisation)
    private = _text(key) if key is not None else _text(own) if own.exists() else None
    try:
        with connected(home, organisation, ("agency", "provider"), token, notifier=notifier) as bus:
            for heard in bus.follow(only, last_event_id=after):
                console.print(line_of(heard, private), markup=False, highlight=False)
    except KeyboardInterrupt:
        return


def line_of(heard: Heard, private_jwk: str | None = None) -> str:
    """A notice as a line for people: local time, what happened, to which referral; what is disclosed where
    there is a key for it."""
    notice = heard.notice
    parts = [
        datetime.fromtimestamp(notice.at / 1000, UTC).astimezone().strftime("%H:%M:%S"),
        f"[{heard.id}]",
        _words(notice.type),
        notice.task or notice.referral or "",
    ]
    if notice.reason is not None:
        parts.append(f"({notice.reason})")
    if notice.expires_at is not None:
        until = datetime.fromtimestamp(notice.expires_at / 1000, UTC).astimezone()
        parts.append(f"answer until {until:%H:%M:%S}")
    if private_jwk is not None:
        try:
            shown = open_notice(notice, private_jwk)
        except JweError as error:
            parts.append(f"[sealed: {error}]")
        else:
            parts.append("" if shown is None else json.dumps(shown, ensure_ascii=False))
    return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Known:
    """What a home knows of the bus that runs or ran in it."""

    bus: str
    intake: str
    queries: str
    notifier: str


def known(home: Path) -> Known | None:
    """The addresses of the local bus; None where none ever ran in this home."""
    path = home / "addresses.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Known(content["bus"], content["intake"], content["queries"], content["notifier"])
    except (ValueError, KeyError, TypeError):
        raise Rejected(f"{path} is not readable as the addresses of a bus. Run 'refbus up' again.") from None


def development_token(
    home: Path, organisation: str, roles: tuple[Role, ...], seconds: int = _TOKEN_SECONDS
) -> str:
    """A token signed with the key of the bus in this home."""
    path = home / "secrets" / "token_key"
    if not path.exists():
        raise Rejected(
            f"{home} holds no bus, so no token can be issued. Run 'refbus up', name its folder with --home, "
            "or give a token with --token."
        )
    here = known(home)
    return issue_token(_text(path), "main" if here is None else here.bus, organisation, roles, seconds)


def roles_of(text: str) -> tuple[Role, ...]:
    """Roles out of a comma-separated list."""
    return tuple(_one_of(Role, "--roles", role.strip()) for role in text.split(","))


@contextmanager
def connected(
    home: Path,
    organisation: str,
    roles: tuple[Role, ...],
    token: str | None,
    *,
    intake: str | None = None,
    queries: str | None = None,
    notifier: str | None = None,
) -> Iterator[SyncBus]:
    """The bus to speak to, its errors as sentences."""
    here = known(home)
    if here is None and intake is None and queries is None and notifier is None:
        raise Rejected(f"No bus has run in {home}. Start one with 'refbus up', or give its address.")
    source: TokenSource = (
        RenewedToken(lambda: development_token(home, organisation, roles), _RENEW_SECONDS)
        if token is None
        else lambda: token
    )
    with SyncBus(
        source,
        intake=intake or (here.intake if here else None),
        queries=queries or (here.queries if here else None),
        notifier=notifier or (here.notifier if here else None),
        patience=_PATIENCE_SECONDS,
    ) as bus:
        try:
            yield bus
        except BusError as error:
            where = f" Look at the field {error.field!r}." if error.field else ""
            raise Rejected(f"{error.detail}{where} ({error.code})") from None


def _say(answer: Answer) -> None:
    print(json.dumps(answer.model_dump(mode="json"), indent=2))


def _content(
    need: list[str],
    subject: str | None,
    name: str | None,
    age: int | None,
    area: str | None,
    language: list[str] | None,
    urgency: str,
    region: str | None,
) -> dict[str, Any]:
    if subject is None:
        raise Rejected("Give --subject: the agency's own reference for the person.")
    facts: dict[str, Any] = {"needs": [{"code": code} for code in need]}
    if age is not None:
        facts["age"] = {"status": "stated", "value": age}
    if area is not None:
        facts["area"] = {"status": "stated", "value": area}
    if language:
        facts["languages"] = {"status": "stated", "values": language}
    content: dict[str, Any] = {"subject": subject, "urgency": urgency, "facts": facts}
    if name is not None:
        content["identity"] = {"name": name}
    if region is not None:
        content["region"] = region
    return content


def _file(path: Path) -> Any:
    text = sys.stdin.read(_LONGEST_FILE + 1) if str(path) == "-" else _text(path)
    try:
        return json.loads(text)
    except ValueError:
        raise Rejected(f"{path} is not JSON.") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise Rejected(f"{path} is longer than {_LONGEST_FILE} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(
            f"{path} can't be read: {type(error).__name__}. Check the name and its permissions."
        ) from None


def _faults(error: ValidationError) -> str:
    """The fields that are wrong, without what stands in them: it may concern a person."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:5])


def _one_of(literal: Any, option: str, value: str | None) -> Any:
    allowed = get_args(literal)
    if value not in allowed:
        raise Rejected(f"{option} takes one of: {', '.join(allowed)}.")
    return value


def _words(event_type: str) -> str:
    """``org.referralbus.ledger.OfferMade.v1`` as ``offer made``."""
    name = event_type.split(".")[-2] if event_type.count(".") >= 2 else event_type
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
