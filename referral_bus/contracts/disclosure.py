"""The record of releases: who was shown what, when, why, and under which grant."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from referral_bus.contracts.ids import OrganisationId, ReferralId, SubjectId
from referral_bus.contracts.message import Code, Message, Millis
from referral_bus.contracts.vocabulary import DataClass, Purpose

Channel = Literal["api", "web", "webhook", "sse", "email", "feed", "cli"]


class Disclosed(Message):
    """Data of a person was about to be shown; it is written before anything leaves."""

    folder = "disclosure"

    subject: SubjectId
    referral: ReferralId
    recipient: OrganisationId
    data_classes: Annotated[list[DataClass], Field(min_length=1, max_length=5)]
    purpose: Purpose
    grant: Code
    """Why it was allowed: ``own_referral``, ``offered``, ``was_offered``, ``accepted``, ``asked``, ``escalated``, ``was_own``, or
    ``agreement:<id>``."""
    channel: Channel
    at: Millis
