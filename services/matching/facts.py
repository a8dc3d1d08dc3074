"""Opening the facts a decision reads. Matching holds the key of the facts alone: it could not open an identity."""

from __future__ import annotations

from collections.abc import Iterable

from referral_bus.sealing.port import Destroyed, Keys
from referral_bus.sealing.sections import Erased, OpenError, Sealer
from services.matching.core.decide import AllOpened, Opened, WantedFacts


class FactsOpener:
    """Opens facts with the keys of ``keys``. One for each partition: what it expects is one batch's."""

    def __init__(self, keys: Keys, sealer: Sealer) -> None:
        self._keys = keys
        self._sealer = sealer
        self._expected: dict[str, bytes | Destroyed] = {}

    async def expect(self, subjects: Iterable[str]) -> None:
        """Fetch the keys of these subjects at once, so that opening their facts asks nobody. Raises KeyStoreError."""
        wanted = list(subjects)
        self._expected = await self._keys.fetch(wanted, "facts") if wanted else {}

    async def open(self, wanted: Iterable[WantedFacts]) -> AllOpened:
        """The facts by referral, or why they can't be had. Raises KeyStoreError where the key store can't be asked."""
        return {one.referral: await self._open(one) for one in wanted}

    async def _open(self, wanted: WantedFacts) -> Opened:
        key = self._expected.get(wanted.subject)
        if key is None:
            key = (await self._keys.fetch([wanted.subject], "facts")).get(wanted.subject)
        try:
            return self._sealer.open_facts(key, wanted.subject, wanted.sealed)
        except Erased:
            return "erased"
        except OpenError:
            return "unreadable"

    def forget(self, subject: str) -> None:
        """The person's keys were destroyed."""
        self._expected.pop(subject, None)
        self._keys.forget(subject)
