"""``refbus publish``: reference data and services put on the bus from JSON files, in the form the HTTP routes take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args

import typer
from pydantic import BaseModel, ValidationError

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home
from referral_bus.cli.party import Intake, Token, connected, faults, json_of
from referral_bus.contracts.message import Message
from referral_bus.contracts.published import PUBLISHED, PublishedKind
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.directory.publish import OPERATIONS

Kind = Literal[PublishedKind, "service"]

_NAMED_BY_OTHERS: Final = ("organisation", "calendar")
_TOLD_BY: Final[dict[Kind, str]] = {
    kind: "partitions" if kind == "regions" else kind
    for kind in sorted(get_args(Kind), key=_NAMED_BY_OTHERS.__contains__)
}
"""The field by which each kind is told. A service names an organisation too, and that a calendar: these are looked for last."""

_IMPORTED: Final[dict[str, Kind]] = {
    "organisations": "organisation",
    "taxonomies": "taxonomy",
    "services": "service",
}
"""The lists that ``refbus directory import --output`` writes, in the order in which they are published."""

_LONGEST_FILE: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Publication:
    """One thing to publish, and what it is called."""

    kind: Kind
    message: BaseModel

    @property
    def name(self) -> str:
        """Kind, id and version, as far as it has them."""
        words = (
            self.kind,
            getattr(self.message, self.kind, None),
            getattr(self.message, "version", None),
        )
        return " ".join(str(word) for word in words if word is not None)


def publish(
    files: Annotated[
        list[Path], typer.Argument(help="JSON files, published in this order ('-': standard input).")
    ],
    kind: Annotated[
        Kind | None, typer.Option(help="What they are, where that can't be told by what stands in them.")
    ] = None,
    token: Token = None,
    intake: Intake = None,
    home: Home = Path(".refbus"),
) -> None:
    """Publish reference data as operations, and services as the organisations that offer them, from JSON files.

    A file holds one of them or a list: as it is, as {"kind": ..., "content": ...}, or as 'refbus directory import --output' writes it.
    Nothing is sent unless all of it can be read; the first that is refused ends it.
    """
    found = [one for file in files for one in publications(json_of(file, _LONGEST_FILE), kind, str(file))]
    for one in found:
        try:
            _put(one, token, intake, home)
        except Rejected as error:
            raise Rejected(f"{one.name} was not published: {error}") from None
        print(f"published {one.name}")


def publications(content: Any, kind: Kind | None, file: str) -> Iterator[Publication]:
    """What a file's content holds. Raises Rejected for what is none of it."""
    match content:
        case list():
            for one in content:
                yield from publications(one, kind, file)
        case {"kind": str(said), "content": inner, **more} if not more:
            if said not in get_args(Kind):
                raise Rejected(f"{file}: the kind must be one of {', '.join(get_args(Kind))}.")
            yield _read(cast(Kind, said), inner, file)
        case dict() if kind is None and content and content.keys() <= _IMPORTED.keys():
            for name, of_it in _IMPORTED.items():
                yield from publications(
                    [{"kind": of_it, "content": one} for one in content.get(name) or ()], None, file
                )
        case dict():
            told = kind or next((one for one, field in _TOLD_BY.items() if field in content), None)
            if told is None:
                raise Rejected(f"{file} doesn't say what it is: name it with --kind.")
            yield _read(told, content, file)
        case _:
            raise Rejected(f"{file} holds something that is neither a JSON object nor a list of them.")


def _read(kind: Kind, content: Any, file: str) -> Publication:
    form: type[BaseModel] = ServiceDefinition if kind == "service" else PUBLISHED[kind]
    try:
        return Publication(kind, form.model_validate(content))
    except ValidationError as error:
        raise Rejected(f"{file} is no {kind}: {faults(error)}.") from None


def _put(one: Publication, token: str | None, intake: str | None, home: Path) -> None:
    message = one.message
    if isinstance(message, ServiceDefinition):
        with connected(home, message.organisation, ("provider",), token, intake=intake) as bus:
            bus.publish_service(message)
    elif isinstance(message, Message):
        with connected(home, OPERATIONS, ("operations",), token, intake=intake) as bus:
            bus.publish(message)
