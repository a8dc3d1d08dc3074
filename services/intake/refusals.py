"""Why something is refused at the border, in the words and with the HTTP status the sender gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic import ValidationError

from referral_bus.contracts.vocabulary import REFUSALS
from referral_bus.web.bodies import MOST_FAULTS, TOO_MANY
from referral_bus.web.problems import Problem
from referral_bus.wire.inbox import LARGEST_CONTENT

_LONGEST_DETAIL = 500

REASONS: Final[dict[str, tuple[int, str]]] = {
    "malformed": (400, "This is not a request intake can read."),
    "not_sealed": (400, "Seal the event to intake's public key (GET /v1/keys) before it goes to the outbox."),
    "not_yourself": (
        403,
        "An organisation speaks only for itself. Send it with that organisation's own token.",
    ),
    "role_missing": (403, "The organisation does not have the role this takes. Ask operations for it."),
    "unknown_organisation": (403, REFUSALS["unknown_organisation"]),
    "id_reused": (409, REFUSALS["id_reused"]),
    "subject_erased": (
        409,
        "The person was forgotten on request. Use a new subject reference if they come again.",
    ),
    "version_not_risen": (
        409,
        "The same or a later version is published already. Publish it with a higher version.",
    ),
    "too_large": (413, "Send less at once."),
    "unsupported_media_type": (415, "Send JSON, or a CloudEvent in binary, structured or batch mode."),
    "invalid": (422, "Correct the field and send it again with the same id."),
    "too_old": (422, REFUSALS["too_old"]),
    "in_future": (422, "The time of the event is in the future. Set the sender's clock and send it again."),
    "unknown_type": (422, "Intake takes no events of this type. GET /openapi.json lists what it takes."),
    "unknown_region": (422, "There is no such region on this bus. Operations publish the table of regions."),
    "unknown_referral": (422, "No such referral was admitted on this bus."),
    "region_mismatch": (422, "A service and its units have the same region in their ids."),
    "quota_exceeded": (429, "Wait as Retry-After says and send it again with the same id."),
    "internal": (
        500,
        "The fault is ours, and operations can see it. Send it again later, with the same id.",
    ),
    "unavailable": (503, "Nothing was lost. Send it again, with the same id, after Retry-After."),
}
"""Reason codes with their HTTP status and what the sender does next."""


class Refused(Exception):
    """The border refuses something. ``field`` names what is wrong, dotted; ``detail`` never repeats a value."""

    def __init__(
        self, reason: str, detail: str | None = None, *, field: str | None = None, retry_after: int = 0
    ) -> None:
        self.reason = reason
        self.status, advice = REASONS[reason]
        self.detail = (f"{detail} {advice}" if detail else advice)[:_LONGEST_DETAIL]
        self.field = field
        self.retry_after = retry_after
        """Seconds after which trying again makes sense; 0 where it does not."""
        super().__init__(f"{reason}: {self.detail}")


class Counted(Problem):
    """A refusal that was counted when it was decided."""


def too_large(field: str) -> Refused:
    """The refusal of what no region could take: it would not fit on its ledger."""
    return Refused(
        "too_large",
        f"As the bus writes it this may have at most {LARGEST_CONTENT} bytes, to fit on the ledger.",
        field=field,
    )


def holds_nul(field: str) -> Refused:
    """The refusal of a text that no view could show."""
    return Refused("invalid", f"{field}: holds the character NUL (U+0000), which is in no text.", field=field)


def problem(refused: Refused, kind: type[Problem] = Problem) -> Problem:
    """The refusal as HTTP answers it."""
    return kind(
        refused.status,
        refused.reason,
        refused.detail,
        field=refused.field,
        retry_after=refused.retry_after or None,
    )


def invalid(errors: Iterable[Any], prefix: str = "") -> Refused:
    """The refusal of a body that does not fit its model: names the first wrong field and how many more there are."""
    faults = [
        (".".join(str(part) for part in fault["loc"]), str(fault["type"]), str(fault["msg"]))
        for fault in errors
    ]
    where, kind, message = faults[0]
    name = f"{prefix}{where}".rstrip(".")[:200] or "the body"
    more = f" {len(faults) - 1} more fields are wrong." if len(faults) > 1 else ""
    said = "is not a field of this request" if kind == "extra_forbidden" else _without_values(kind, message)
    return Refused("invalid", f"{name}: {said}.{more}", field=name)


def faults_of(error: ValidationError) -> list[Any]:
    """The faults without the values that caused them; of very many a single one, which counts them."""
    count = error.error_count()
    if count > MOST_FAULTS:
        return [{"loc": (), "type": "too_many_faults", "msg": f"{count} {TOO_MANY}"}]
    return list(error.errors(include_url=False, include_input=False, include_context=False))


def _without_values(kind: str, message: str) -> str:
    return "is missing" if kind == "missing" else message[:200].rstrip(".")
