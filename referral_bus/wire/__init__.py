"""From messages to bytes and back: Avro, Confluent's framing, CloudEvents headers, and the schemas' append-only ids."""

from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope
from referral_bus.wire.errors import WireError

__all__ = ["Codec", "Envelope", "WireError"]
