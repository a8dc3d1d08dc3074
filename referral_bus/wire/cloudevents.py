"""CloudEvents 1.0 as parties send them: over HTTP (binary, structured, batched), and structured, sealed, in their outboxes.

Only JSON data is taken from parties. Messages of :class:`WireError` name the attribute and never repeat a value: it may concern a
person. Standard: CloudEvents 1.0.2, HTTP protocol binding, JSON event format. The headers of the bus's own records are read by
:mod:`referral_bus.wire.envelope`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from referral_bus.wire.errors import WireError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
REQUIRED = ("specversion", "id", "source", "type")

_NAME = re.compile(r"^[a-z0-9]{1,64}$")
_JSON_TYPE = re.compile(r"^[\w.+-]+/(?:[\w.-]+\+)?json$")
_LONGEST_VALUE = 2_048
_MOST_ATTRIBUTES = 64


class BatchTooLong(WireError):
    """A batch has more events than are taken at once."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event: its attributes as text, and its data as parsed JSON (None where there is none)."""

    attributes: dict[str, str]
    data: Any


def media_type(content_type: str) -> str:
    """The media type without parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()


def from_http(headers: Iterable[tuple[str, str]], body: bytes) -> CloudEvent:
    """One event out of an HTTP request in binary or structured mode. Raises WireError."""
    named = {name.lower(): value for name, value in headers}
    content_type = named.get("content-type", "")
    if media_type(content_type) == STRUCTURED:
        return from_structured(_json(body))
    given = {name[3:]: _unquoted(name[3:], value) for name, value in named.items() if name.startswith("ce-")}
    return _binary(given, content_type, body)


def from_structured(event: Any) -> CloudEvent:
    """One event out of its JSON form, already parsed. Raises WireError."""
    if not isinstance(event, dict):
        raise WireError("the event: expected a JSON object")
    if "data_base64" in event:
        raise WireError("data_base64: only JSON data is taken")
    given: dict[str, str] = {}
    for name, value in event.items():
        if name == "data" or value is None:
            continue
        if isinstance(value, bool):
            given[name] = "true" if value else "false"
        elif isinstance(value, int | str):
            given[name] = str(value)
        else:
            raise WireError(f"{_shown(name)}: expected text, a whole number or a boolean")
    return CloudEvent(_checked(given), event.get("data"))


def batch(body: bytes, most: int) -> list[Any]:
    """The events of a JSON batch, each still to go through :func:`from_structured`, so that a bad one does not take the others with
    it. Raises WireError where the batch itself is none, and BatchTooLong where it has more than ``most``."""
    events = _json(body)
    if not isinstance(events, list):
        raise WireError("the batch: expected a JSON array")
    if len(events) > most:
        raise BatchTooLong(f"the batch: {len(events)} events; at most {most} are taken at once")
    return events


def _binary(given: dict[str, str], content_type: str, body: bytes) -> CloudEvent:
    if not _JSON_TYPE.match(media_type(content_type)):
        raise WireError("content-type: only JSON data is taken")
    given["datacontenttype"] = content_type
    attributes = _checked(given)
    return CloudEvent(attributes, _json(body))


def _checked(given: dict[str, str]) -> dict[str, str]:
    if len(given) > _MOST_ATTRIBUTES:
        raise WireError(f"the event: more than {_MOST_ATTRIBUTES} attributes")
    for name, value in given.items():
        if not _NAME.match(name):
            raise WireError(f"{_shown(name)}: attribute names are lower-case letters and digits")
        if len(value) > _LONGEST_VALUE:
            raise WireError(f"{name}: longer than {_LONGEST_VALUE} characters")
    for name in REQUIRED:
        if not given.get(name):
            raise WireError(f"{name}: missing or empty")
    if given["specversion"] != "1.0":
        raise WireError("specversion: expected 1.0")
    return given


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise WireError("the body: not JSON") from None


def _unquoted(name: str, value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise WireError(f"{_shown(name)}: not percent-encoded UTF-8") from None


def _shown(name: str) -> str:
    """What is wrong is named before the first colon of an error: a name that somebody made up is, where it can stand there."""
    return name[:20] if name and name.isascii() and name.isprintable() and ":" not in name else "an attribute"
