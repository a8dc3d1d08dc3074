"""Intake's settings."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from referral_bus.access.tokens import KeySetSource
from referral_bus.runtime.settings import Settings


class IntakeSettings(Settings):
    """What intake needs besides what all services share."""

    service: ClassVar[str] = "intake"

    database_url: SecretStr
    master_key: SecretStr
    """The bus's master secret, 32 bytes in base64: seals what concerns a person."""
    intake_key: SecretStr
    """Intake's private JWK, to whose public part outboxes are sealed."""
    operations_public_key: str
    """The public JWK of operations: dead letters are sealed to it."""
    jwks: KeySetSource
    """Path of the JWKS that bearer tokens are verified with, or its address: by https, or on this machine."""
    replication: Annotated[int, Field(ge=1, le=10)] = 1
    """Replicas of the topics that are made for a new organisation."""
    maximum_body: Annotated[int, Field(ge=1024, le=16_777_216)] = 3_145_728
    """Bytes of the body of a batch, a service or reference data over HTTP; what says one thing has 256 KiB at the most."""
    maximum_batch: Annotated[int, Field(ge=1, le=5000)] = 500
    """CloudEvents in one HTTP batch."""
    queries: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$", max_length=200)] | None = None
    """Where parties reach the query API, ``https://queries.example``: answers link to it. Without it the links are paths on it."""
    quota_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 500.0
    """Submissions a second that one organisation may send for long."""
    quota_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Submissions one organisation may send at once, having sent none for a while."""

    @model_validator(mode="after")
    def _a_batch_fits_the_quota(self) -> Self:
        if self.maximum_batch > self.quota_burst:
            raise ValueError("quota_burst is below maximum_batch: a whole batch could never be taken")
        return self
