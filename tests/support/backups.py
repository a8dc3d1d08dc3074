"""What backups are taken of, in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from referral_bus.backup.cluster import Cluster
from referral_bus.backup.folder import Manifest


class NoDatabase:
    """Stands for a database where Kafka is what is looked at: nothing is in it, and it takes whatever a restore puts there."""

    async def dump(self, schema: str, path: Path) -> None:
        path.write_text(f"-- {schema}\n", encoding="ascii")

    async def load(self, files: Iterable[Path]) -> None:
        assert all(file.exists() for file in files)

    async def ask(self, statement: str) -> list[str]:
        return []

    async def rights(self) -> list[str]:
        return []


async def lost(there: Cluster, backup: Manifest) -> None:
    """Delete all topics that are in a backup."""
    async with asyncio.timeout(30):
        for topic in backup.topics:
            await there.log.delete(topic)
        while await there.topics() & backup.topics.keys():
            await asyncio.sleep(0.1)
