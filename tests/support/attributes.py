"""What CloudEvents 1.0.2 says of the attributes of an event, to hold what the bus writes against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from referral_bus.log.port import Headers

_CHARACTER = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_CHARACTER}+")
_RELATIVE = re.compile(rf"(?![^/?#]*:){_CHARACTER}+")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_NO_STRING = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def in_headers(headers: Headers) -> dict[str, str]:
    """The attributes of a Kafka record in binary mode."""
    return {name.removeprefix("ce_"): value.decode() for name, value in headers if name.startswith("ce_")}


def faults(attributes: Mapping[str, object]) -> list[str]:
    """The attributes that are missing, or not of the type the specification gives them."""
    found = [name for name in ("specversion", "id", "source", "type") if not attributes.get(name)]
    for name, value in attributes.items():
        if not re.fullmatch("[a-z0-9]{1,20}", name) or not isinstance(value, str) or not _fits(name, value):
            found.append(name)
    return found


def _fits(name: str, value: str) -> bool:
    if not value or _NO_STRING.search(value):
        return False
    match name:
        case "specversion":
            return value == "1.0"
        case "source":
            return bool(_URI.fullmatch(value) or _RELATIVE.fullmatch(value))
        case "dataschema":
            return bool(_URI.fullmatch(value))
        case "time":
            return bool(_TIMESTAMP.fullmatch(value)) and datetime.fromisoformat(value).tzinfo is not None
        case "datacontenttype":
            return bool(_MEDIA_TYPE.fullmatch(value))
    return True
