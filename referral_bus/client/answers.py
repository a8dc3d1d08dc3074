"""What the bus answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from referral_bus.contracts.feed import Notice

Row = dict[str, Any]
"""One row of a view, as the query API's OpenAPI page describes it."""


class Answer(BaseModel):
    """A submission was taken: it is on the log and will be decided. ``token`` is for ``after=`` of the
    queries, ``follow`` the path on the query API where what becomes of it can be seen, ``referral`` the id of
    the referral it opens or speaks of, ``parts`` those of the referrals it is split into."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    submission: str
    region: str
    token: str
    referral: str | None = None
    parts: tuple[str, ...] = ()
    follow: str | None = None


class Page(BaseModel):
    """Some rows of a view; ``cursor`` asks for the next ones and is None on the last page."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    items: list[Row] = Field(default_factory=list)
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A notice from the stream. ``id`` is what to resume after."""

    id: str
    notice: Notice
