"""The life of a referral, over HTTP, through the containers: the very tests that the processes of one machine pass."""

import pytest

from tests.e2e.one_bus import test_life_over_http as life

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

globals().update({name: test for name, test in vars(life).items() if name.startswith("test_")})
