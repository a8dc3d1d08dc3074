"""What a party is answered when its submission was admitted."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from referral_bus.contracts.ids import inbox_token


class Answer(BaseModel):
    """The submission is on the inbox, on all in-sync replicas, and will be decided. ``token`` is for ``?after=`` of the queries;
    ``follow`` is where what becomes of it is seen, on the query API: a link, or only the path there where intake is not told the query
    API's address (`REFBUS_QUERIES`). ``referral`` is what it opens or speaks of; ``parts`` are the referrals it is split into, in the
    order in which they were given."""

    model_config = ConfigDict(frozen=True)

    submission: str
    region: str
    token: str
    referral: str | None = None
    parts: tuple[str, ...] | None = None
    follow: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """An answer, and whether the same was answered before."""

    answer: Answer
    repeated: bool


def answer_of(
    submission: str,
    region: str,
    partition: int,
    offset: int,
    referral: str | None,
    parts: tuple[str, ...],
    queries: str,
) -> Answer:
    """The answer to a submission at this inbox position: the same whoever asks, and whenever. ``queries`` is the query API's address, or
    empty."""
    token = inbox_token(region, partition, offset)
    view = f"/v1/referrals/{referral}" if referral is not None else "/v1/capacity"
    return Answer(
        submission=submission,
        region=region,
        token=token,
        referral=referral,
        parts=parts or None,
        follow=f"{queries}{view}?after={token}",
    )
