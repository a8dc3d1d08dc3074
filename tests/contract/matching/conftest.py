"""A region to decide in."""

from __future__ import annotations

import pytest

from referral_bus.wire.codec import Codec
from tests.support.deciding import World


@pytest.fixture
def world(codec: Codec) -> World:
    """Agencies, providers, a protocol and a policy are adopted; nothing is published."""
    return World(codec)
