"""The notifier's settings."""

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr

from referral_bus.access.tokens import KeySetSource
from referral_bus.runtime.settings import Settings

_Seconds = Annotated[float, Field(gt=0, le=2_592_000)]


class NotifierSettings(Settings):
    """What the notifier needs besides what all services share."""

    service: ClassVar[str] = "notifier"

    database_url: SecretStr
    master_key: SecretStr
    """The bus's master secret, 32 bytes in base64: opens what may be disclosed, and seals webhook secrets."""
    jwks: KeySetSource
    """Path of the JWKS that bearer tokens are verified with, or its address: by https, or on this machine."""
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long one attempt may take, from looking up the address to the status line."""
    webhook_first_retry_seconds: _Seconds = 5.0
    """About how long after the first failure the second attempt is made; it doubles from there."""
    webhook_longest_retry_seconds: _Seconds = 3600.0
    webhook_give_up_seconds: _Seconds = 259_200.0
    """A delivery that is not done by then is given up, and said to be so on the delivery topic."""
    resend_pause_seconds: _Seconds = 60.0
    """How long after an organisation had its deliveries sent again it may once more, which does away with the pauses between attempts."""
    webhook_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    """Attempts under way at once to one subscriber, so that a slow one holds up nobody else."""
    webhook_total_concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Attempts under way at once in all, from one process; where there is not room for all, each subscriber has its turn."""
    webhook_allow_http_loopback: bool = False
    """Take http addresses on this machine: for development only."""
    webhook_allow_private: bool = False
    """Take addresses that are not public: only where every subscriber is trusted with this network."""
    stream_heartbeat_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How often a silent event stream says that it is alive."""
    keep_days: Annotated[int, Field(ge=1, le=365)] = 30
    """How long notices and finished deliveries are kept, and so how far back a stream can resume."""
