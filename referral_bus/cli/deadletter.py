"""``refbus deadletter``: what could not be handled, looked at, sent again and put away."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home, OperationsSettings, local_settings
from referral_bus.cli.telling import FOUND, tell
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Log
from referral_bus.runtime.clock import SystemClock
from referral_bus.runtime.metrics import LETTERS, LETTERS_LOOKED, LETTERS_OPEN
from referral_bus.runtime.resending import (
    MEANINGS,
    Content,
    Kept,
    NotOpened,
    NotResendable,
    Place,
    kept,
    note,
    opened,
    resend,
    way_back,
)
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import format_time
from referral_bus.wire.errors import WireError

console = Console(soft_wrap=True)

commands = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Dead letters: list, show, send again, discard."
)

Letters = Annotated[list[str] | None, typer.Argument(help="Letters, by the first column of the list.")]
Reason = Annotated[
    str | None, typer.Option(help="All letters with this reason that nobody has resent or discarded.")
]


@dataclass(frozen=True, slots=True)
class _Desk:
    bus: str
    key: str | None
    log: Log
    codec: Codec
    letters: dict[Place, Kept]

    def chosen(self, names: list[str] | None, reason: str | None) -> list[Kept]:
        """The letters that are named, or that are open for a reason. Raises Rejected."""
        if bool(names) == (reason is not None):
            raise Rejected("Name letters, or give --reason.")
        if reason is not None:
            return [one for one in self.letters.values() if one.is_open and one.letter.reason == reason]
        places = {self.named(name).place for name in names or ()}
        return [one for one in self.letters.values() if one.place in places]

    def named(self, name: str) -> Kept:
        """Raises Rejected."""
        try:
            return self.letters[Place.read(name)]
        except (ValueError, KeyError):
            raise Rejected(
                f"There is no dead letter {name[:40]!r}. Look at 'refbus deadletter list --all'."
            ) from None

    def opening(self) -> str:
        """The private key. Raises Rejected."""
        if self.key is None:
            raise Rejected(
                "This needs the private key of operations: set REFBUS_OPERATIONS_KEY_FILE to the file that holds it."
            )
        return self.key


@asynccontextmanager
async def _desk(home: Path) -> AsyncIterator[_Desk]:
    settings = OperationsSettings.load(**local_settings(home, "operations_key"))
    key = settings.operations_key.get_secret_value() if settings.operations_key else None
    log, codec = KafkaLog(settings.kafka_access()), Codec.load()
    try:
        try:
            letters = await kept(log, settings.bus, codec)
        except WireError as error:
            raise Rejected(
                f"A dead letter can't be read; is this refbus older than the bus? {error}"
            ) from None
        yield _Desk(settings.bus, key, log, codec, letters)
    finally:
        await log.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except NotOpened as error:
        raise Rejected(f"The letter can't be opened: {error}") from None


@commands.command("list")
def list_letters(
    everything: Annotated[bool, typer.Option("--all", help="Also those resent or discarded.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="Also write how many nobody has resent or discarded to this file (.prom), for Prometheus' node exporter."
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 where any is neither resent nor discarded.")
    ] = False,
    home: Home = Path(".refbus"),
) -> None:
    """List the letters nobody has resent or discarded: where from and why. Nothing is opened."""

    async def work() -> None:
        async with _desk(home) as desk:
            letters = desk.letters.values()
        still_open = [one for one in letters if one.is_open]
        shown = list(letters) if everything else still_open
        if as_json:
            print(json.dumps([_outside(one) for one in shown], indent=2))
        else:
            for one in shown:
                state = f"  ({', '.join(one.handled)})" if one.handled else ""
                _say(
                    f"{one.place!s:<10} {format_time(one.letter.at)}  {one.letter.reason:<12} {one.origin}{state}"
                )
            _say(f"{len(shown)} dead letters." if shown else "No dead letters.")
        if metrics is not None:
            LETTERS_OPEN.set(len(still_open))
            LETTERS_LOOKED.set_to_current_time()
            tell(metrics, LETTERS, "The letters were looked for")
        if exit_code and still_open:
            raise typer.Exit(FOUND)

    _run(work())


@commands.command()
def show(
    letter: Annotated[str, typer.Argument(help="The letter, by the first column of the list.")],
    with_content: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Also what is in it, which may tell of a person. Needs operations' key; is recorded.",
        ),
    ] = False,
    home: Home = Path(".refbus"),
) -> None:
    """Say where a letter came from, why, and what can be done with it."""

    async def work() -> None:
        async with _desk(home) as desk:
            one = desk.named(letter)
            for name, value in _outside(one).items():
                _say(f"{name:<8} {', '.join(value) if isinstance(value, list) else value}")
            _say(f"{'means':<8} {MEANINGS.get(one.letter.reason, 'see the log of the service of that time')}")
            _say(f"{'to do':<8} {_advice(one, desk.bus)}")
            if with_content:
                content = opened(one.letter, desk.opening())
                await note(await desk.log.appender(), one, "opened", desk.bus, desk.codec, SystemClock())
                for line in _content(content, desk.codec):
                    _say(line)

    _run(work())


@commands.command("resend")
def resend_letters(letters: Letters = None, reason: Reason = None, home: Home = Path(".refbus")) -> None:
    """Put letters back to where they came from, as they were: each is decided once, however often it is resent. Exit code 1 where one
    was not."""

    async def work() -> None:
        async with _desk(home) as desk:
            chosen, key = desk.chosen(letters, reason), desk.opening()
            appender, failed = await desk.log.appender(), 0
            for one in chosen:
                try:
                    await resend(appender, one, key, desk.bus, desk.codec, SystemClock())
                    _say(f"{one.place} is on {one.letter.topic}/{one.letter.partition} again.")
                except (NotResendable, NotOpened) as error:
                    failed += 1
                    _say(f"{one.place} was not resent: {error}.")
            _say(f"{len(chosen) - failed} of {len(chosen)} were resent.")
            if failed:
                raise typer.Exit(1)

    _run(work())


@commands.command()
def discard(
    letters: Letters = None,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = Path(".refbus"),
) -> None:
    """Put letters away for good: they are listed no more, and go when the topic's time is over."""

    async def work() -> None:
        async with _desk(home) as desk:
            chosen = desk.chosen(letters, reason)
            for one in chosen:
                _say(f"{one.place}  {one.letter.reason}  {one.origin}")
            if not yes and not typer.confirm(f"Nobody will answer these {len(chosen)}. Go on?"):
                raise Rejected("Nothing was discarded.")
            appender = await desk.log.appender()
            for one in chosen:
                await note(appender, one, "discarded", desk.bus, desk.codec, SystemClock())
            _say(f"{len(chosen)} were discarded.")

    _run(work())


def _outside(one: Kept) -> dict[str, Any]:
    """What may be on anybody's screen."""
    letter = one.letter
    return {
        "letter": str(one.place),
        "from": one.origin,
        "reason": letter.reason,
        "tries": letter.tries,
        "kept by": letter.service,
        "at": format_time(letter.at),
        "handled": list(one.handled) or ["not yet"],
    }


def _advice(one: Kept, bus: str) -> str:
    try:
        return way_back(one.letter, bus)
    except NotResendable as error:
        return str(error)


def _content(content: Content, codec: Codec) -> list[str]:
    lines = [f"key      {_text(content.key)}"]
    lines += [f"header   {name}: {_text(value)}" for name, value in content.headers]
    if content.cut is not None:
        lines.append(f"cut      the value had {content.cut} bytes; what was kept follows")
    try:
        lines.append(codec.decode(content.value).model_dump_json(indent=2))
    except WireError:
        lines.append(f"value    {_text(content.value)}")
    return lines


def _text(data: bytes | None) -> str:
    """Bytes as text where they are printable, else in base64: nothing a sender wrote must steer a terminal."""
    if data is None:
        return "none"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return text if text.isprintable() else f"base64 {base64.b64encode(data).decode()}"


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False)
