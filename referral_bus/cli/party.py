"""``refbus token|submit|follow``: the bus as agencies and providers use it, from the command line."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer
from pydantic import ValidationError
from rich.console import Console

from referral_bus.access.tokens import issue_token
from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home, addresses
from referral_bus.client.answers import Answer, Heard
from referral_bus.client.errors import BusError
from referral_bus.client.notices import open_notice
from referral_bus.client.sync import SyncBus
from referral_bus.client.tokens import RenewedToken, TokenSource
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.vocabulary import Mode, Role, Urgency
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
    urgency: Annotated[Urgency, typer.Option(help="How soon help is needed.")] = "routine",
    mode: Annotated[
        Mode,
        typer.Option(
            help="The bus chooses; --service names it; several are asked at once; or the person waits for a place."
        ),
    ] = "match",
    service: Annotated[
        str | None,
        typer.Option(help="The service (sv-...) to ask, in mode direct, or to wait for."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="The procedure to follow. Left out: the region's usual one.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Left out: that of the service, else the agency's home region.")
    ] = None,
    id: Key = None,
    token: Token = None,
    intake: Intake = None,
    home: Home = Path(".refbus"),
) -> None:
    """Submit a referral, from a JSON file or from options."""
    if (file is None) == (not need):
        raise Rejected("Give either a file with the referral as JSON, or --need CODE with the other options.")
    content = (
        json_of(file)
        if file is not None
        else _content(
            need or [],
            subject,
            name,
            age,
            area,
            language,
            urgency=urgency,
            mode=mode,
            service=service,
            protocol=protocol,
            region=region,
        )
    )
    try:
        request = ReferralRequest.model_validate(content)
    except ValidationError as error:
        raise Rejected(
            f"This is not a referral: {faults(error)}. Correct it; intake's /docs shows the form."
        ) from None
    with connected(home, organisation, ("agency",), token, intake=intake) as bus:
        say(bus.submit(request, id=id))


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
    only = None if role is None else one_of(Role, "--role", role)
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
    name = notice.type.split(".")[-2] if notice.type.count(".") >= 2 else notice.type
    said, moment = _WORDS.get(name, (_words(name), "until"))
    at = local(notice.at)
    parts = [f"{at:%H:%M:%S}", f"[{heard.id}]", said, notice.unit or notice.task or notice.referral or ""]
    if name in _TAKEN_BACK:
        parts.append(f"event {notice.sequence}")
    if notice.reason is not None:
        parts.append(f"({notice.reason})")
    if notice.expires_at is not None:
        then = local(notice.expires_at)
        parts.append(
            f"{moment} {then:%H:%M:%S}" if then.date() == at.date() else f"{moment} {then:%Y-%m-%d %H:%M}"
        )
    if private_jwk is not None:
        try:
            shown = open_notice(notice, private_jwk)
        except JweError as error:
            parts.append(f"[sealed: {error}]")
        else:
            parts.append("" if shown is None else json.dumps(shown, ensure_ascii=False))
    return " ".join(part for part in parts if part)


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
    here = addresses(home)
    return issue_token(_text(path), "main" if here is None else here.bus, organisation, roles, seconds)


def roles_of(text: str) -> tuple[Role, ...]:
    """Roles out of a comma-separated list."""
    return tuple(one_of(Role, "--roles", role.strip()) for role in text.split(","))


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
    here = addresses(home)
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


def say(answer: Answer) -> None:
    """Print the bus's answer as JSON."""
    print(json.dumps(answer.model_dump(mode="json"), indent=2))


def _content(
    need: list[str],
    subject: str | None,
    name: str | None,
    age: int | None,
    area: str | None,
    language: list[str] | None,
    **how: str | None,
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
    content: dict[str, Any] = {"subject": subject, "facts": facts}
    if name is not None:
        content["identity"] = {"name": name}
    return content | {key: value for key, value in how.items() if value is not None}


def json_of(path: Path, longest: int = _LONGEST_FILE) -> Any:
    """What stands in a JSON file of so many bytes at most, or comes by standard input where it is called '-'. Raises Rejected."""
    text = sys.stdin.read(longest + 1) if str(path) == "-" else _text(path, longest)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected(f"{path} is not JSON.") from None


def _text(path: Path, longest: int = _LONGEST_FILE) -> str:
    try:
        if path.stat().st_size > longest:
            raise Rejected(f"{path} is longer than {longest} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(
            f"{path} can't be read: {type(error).__name__}. Check the name and its permissions."
        ) from None


def faults(error: ValidationError) -> str:
    """The fields that are wrong, without what stands in them: it may concern a person."""
    found = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    # What is wrong with the whole names its field in the sentence.
    return "; ".join(
        ": ".join(
            filter(None, (".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")))
        )
        for fault in found
    )


def one_of(literal: Any, option: str, value: str | int | None) -> Any:
    """The value, if it is one of a vocabulary's. Raises Rejected."""
    allowed = get_args(literal)
    if value not in allowed:
        raise Rejected(f"{option} takes one of: {', '.join(map(str, allowed))}.")
    return value


_WORDS: Final = {
    "CapacityDoubted": (
        "places are not offered, as one was declined for want of a place",
        "unless counted before, until",
    ),
    "CapacityTrusted": ("places are offered again", "until"),
    "OfferMade": ("offer made", "answer until"),
    "ReferralWaitlisted": ("referral waits for a place", "looked at anew"),
    "TaskCancelled": ("offer or acceptance ended", "until"),
    "TaskEnteredInError": ("offer or acceptance entered in error", "until"),
    "InformationAsked": ("the provider asks for more", "until"),
    "InformationGiven": ("the agency answered", "until"),
    "ServiceProposed": ("another service proposed", "until"),
    "TaskHeld": ("service put on hold", "until"),
    "TaskResumed": ("service goes on", "until"),
    "NoShowReported": ("the person did not come", "until"),
    "ContactReported": ("tried to reach the person", "until"),
    "HandoffConfirmed": ("handover confirmed", "until"),
    "ReportRetracted": ("a report of the person taken back", "until"),
    "HandoffRetracted": ("the handover is not confirmed any more", "until"),
    "FollowUpDue": ("time to ask how it is", "until"),
    "FollowedUp": ("how it is was reported", "until"),
    "Reminded": ("reminder: act", "before"),
    "AgencyReminded": ("reminder: nobody has accepted", "closed"),
    "Escalated": ("not done in time", "due"),
}
"""What is said of an event whose name isn't plain enough, and before its moment."""


_TAKEN_BACK: Final = frozenset({"NoShowReported", "ContactReported", "HandoffConfirmed"})
"""What can be taken back, which takes the sequence of the event."""


def _words(name: str) -> str:
    """``OfferAccepted`` as ``offer accepted``."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def local(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone()
