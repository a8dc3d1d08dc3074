"""Ids that tell the way: the region stands in each, so a response is routed without asking anyone.

Referral ids follow from what was submitted (bus, source, submission id), so a repeated submission is answered with the
same id by any intake process, from no memory at all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Annotated

from pydantic import Field

_REGION = r"[a-z][a-z0-9]{0,23}"
_KEY = r"[a-z2-7]{20}"
_LOCAL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

Region = Annotated[str, Field(pattern=rf"^{_REGION}$")]
ReferralId = Annotated[str, Field(pattern=rf"^rf-{_REGION}-{_KEY}$")]
TaskId = Annotated[str, Field(pattern=rf"^tk-{_REGION}-{_KEY}-[1-9][0-9]{{0,3}}$")]
ServiceId = Annotated[str, Field(pattern=rf"^sv-{_REGION}-{_LOCAL}$")]
UnitId = Annotated[str, Field(pattern=rf"^un-{_REGION}-{_LOCAL}$")]
SubjectId = Annotated[str, Field(pattern=r"^sj-[a-z2-7]{26}$")]
OrganisationId = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$")]
SubmissionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
OF_THE_BUS = frozenset({"matching", "relay"})
"""The sources the bus itself puts submissions to its inbox under: no organisation may have these ids, and use up theirs."""
Token = Annotated[str, Field(pattern=rf"^{_REGION}\.[0-9]{{1,6}}\.[0-9]{{1,19}}$")]
LocalId = Annotated[str, Field(pattern=rf"^{_LOCAL}$")]

_ROUTED = re.compile(rf"^(?:rf|tk|sv|un)-({_REGION})-")


def short_hash(*parts: str, length: int = 20) -> str:
    """A lower-case base32 digest of the parts; parts are length-prefixed, so no two lists collide by joining."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    # No more of it is encoded than is kept: a letter has five bits.
    kept = digest.digest()[: length * 5 // 8 + 1]
    return base64.b32encode(kept).decode().lower()[:length]


def referral_id(region: str, bus: str, source: str, submission: str) -> str:
    """The id of the referral that a submission opens."""
    return f"rf-{region}-{short_hash(bus, source, submission)}"


def part_id(region: str, bus: str, source: str, submission: str, number: int) -> str:
    """The id of the ``number``-th part (1, 2, ...) that a submission splits a referral into."""
    return f"rf-{region}-{short_hash(bus, source, submission, str(number))}"


def task_id(referral: str, attempt: int) -> str:
    """The id of the ``attempt``-th task (1, 2, ...) of a referral."""
    return f"tk-{referral[3:]}-{attempt}"


def referral_of(task: str) -> str:
    """The referral a task belongs to."""
    return f"rf-{task[3:].rpartition('-')[0]}"


def service_id(region: str, local: str) -> str:
    """A service's id on the bus from the directory's own id for it."""
    return f"sv-{region}-{local}"


def unit_id(region: str, local: str) -> str:
    """A unit's id on the bus from the directory's own id for it."""
    return f"un-{region}-{local}"


def region_of(identifier: str) -> str:
    """The home region written in a referral, task, service or unit id. Raises ValueError where there is none."""
    found = _ROUTED.match(identifier)
    if found is None:
        raise ValueError(f"{identifier[:80]!r} is not a referral, task, service or unit id")
    return found.group(1)


def inbox_token(region: str, partition: int, offset: int) -> str:
    """The token intake returns; views answer ``?after=TOKEN`` once they reflect that inbox position."""
    return f"{region}.{partition}.{offset}"


def parse_token(token: str) -> tuple[str, int, int]:
    """Region, partition and offset of an inbox token. Raises ValueError on anything else."""
    if re.fullmatch(rf"{_REGION}\.[0-9]{{1,6}}\.[0-9]{{1,19}}", token) is None:
        raise ValueError("not an inbox token: expected <region>.<partition>.<offset>")
    region, partition, offset = token.split(".")
    return region, int(partition), int(offset)
