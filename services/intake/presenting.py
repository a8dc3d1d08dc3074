"""From what a party sends to what it presents: a CloudEvent read as a request of the bus."""

from __future__ import annotations

import re
from typing import Final

from pydantic import TypeAdapter, ValidationError

from referral_bus.contracts.ids import SubmissionId
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import REQUESTS
from referral_bus.wire.cloudevents import CloudEvent
from referral_bus.wire.envelope import organisation_of, parse_time
from referral_bus.wire.errors import WireError
from services.intake.checks import Door, Presented
from services.intake.refusals import Refused, faults_of, invalid

_BY_TYPE: Final[dict[str, type[Part]]] = {
    submission.event_type(): request for request, submission in REQUESTS.items()
}
_ID: Final[TypeAdapter[str]] = TypeAdapter(SubmissionId)
_CORRELATION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def presented(event: CloudEvent, door: Door, now: int) -> Presented:
    """The request in an event. An event without a time is taken as sent ``now``. Raises Refused."""
    given = event.attributes
    id = submission_id(given["id"])
    request = _BY_TYPE.get(given["type"])
    if request is None:
        raise Refused("unknown_type", field="type")
    try:
        organisation = organisation_of(given["source"])
        sent_at = parse_time(given["time"]) if "time" in given else now
    except WireError as error:
        raise unreadable(error) from None
    try:
        content = request.model_validate(event.data)
    except ValidationError as error:
        raise invalid(faults_of(error), "data.") from None
    return Presented(id, organisation, sent_at, content, door)


def submission_id(given: str) -> str:
    """A submission's id, checked. Raises Refused."""
    try:
        return _ID.validate_python(given)
    except ValidationError:
        raise Refused(
            "invalid", "id: expected 1 to 128 visible ASCII characters without spaces.", field="id"
        ) from None


def correlation_of(event: CloudEvent) -> str | None:
    """What the event is to be followed by: its extension attribute ``correlationid``, where that is fit for a log."""
    given = event.attributes.get("correlationid", "")
    return given if _CORRELATION.fullmatch(given) else None


def unreadable(error: WireError) -> Refused:
    """The refusal of what is no CloudEvent intake takes. The error's text names the attribute before its colon."""
    field, _, _ = str(error).partition(":")
    if field in ("content-type", "data_base64"):
        return Refused("unsupported_media_type", f"{error}.", field=field)
    return Refused("malformed", f"{error}.", field=field)
