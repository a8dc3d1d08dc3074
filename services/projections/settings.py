"""The settings of projections."""

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr

from referral_bus.access.tokens import KeySetSource
from referral_bus.runtime.settings import Settings


class ViewsSettings(Settings):
    """What ``rebuild`` and ``check-views`` need: where the ledger and its views are. They take the service's own settings, and do
    without its secrets."""

    service: ClassVar[str] = "projections"

    database_url: SecretStr
    master_key: SecretStr | None = None
    """The bus's master secret, 32 bytes in base64: opens what may be disclosed."""
    jwks: KeySetSource | None = None
    """Path of the JWKS that bearer tokens are verified with, or its address: by https, or on this machine."""
    batch_records: Annotated[int, Field(ge=1, le=10_000)] = 8_000
    """The most ledger records that are reflected in one round, over all partitions."""


class ProjectionsSettings(ViewsSettings):
    """What the service needs."""

    master_key: SecretStr
    jwks: KeySetSource
