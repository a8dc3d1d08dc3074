"""Matching's settings."""

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr

from referral_bus.runtime.settings import Settings


class LookSettings(Settings):
    """What ``verify``, ``explain`` and ``whatif`` need: to read the ledger and open facts. They take the service's own settings, and do
    without those it alone needs."""

    service: ClassVar[str] = "matching"

    database_url: SecretStr
    """Where the keys of the facts are kept; matching keeps nothing there itself."""
    facts_key: SecretStr
    """Unwraps the keys of facts, 32 bytes in base64. Matching is given no key of identities."""
    operations_public_key: str | None = None
    """The public JWK that dead letters are sealed to."""
    batch_records: Annotated[int, Field(ge=1, le=10_000)] = 500
    """The most submissions decided in one transaction."""
    snapshot_events: Annotated[int, Field(ge=100)] = 50_000
    """A partition's state is kept in a file each time its ledger got so many events."""


class MatchingSettings(LookSettings):
    """What the service needs."""

    operations_public_key: str
