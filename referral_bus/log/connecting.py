"""A client of aiokafka (0.14) connects to one broker at a time: whoever wants another one waits. A broker that hangs takes connections
and says nothing, so each knock at it lasts as long as a request may, and whatever the client does with the brokers that live waits
behind all of them (decision 0043).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import nullcontext
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiokafka.client import AIOKafkaClient, ConnectionGroup


class _Door:
    """A connection that is wanted, and how many knocks for it came to an end."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.heard = 0


_alone: Final = AIOKafkaClient._get_conn
_doors: Final[WeakKeyDictionary[Any, dict[Any, _Door]]] = WeakKeyDictionary()


def connect_apart() -> None:
    """Have every client of this process, Faust's too, connect to each broker by itself: only who wants the same connection waits."""
    AIOKafkaClient._get_conn = _apart


async def _apart(
    client: Any, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False
) -> Any:
    wanted = node_id, group
    if _is_open(client, wanted):
        return client._conns[wanted]
    door = _doors.setdefault(client, defaultdict(_Door))[wanted]
    heard_before = door.heard
    async with door.lock:
        if door.heard > heard_before and not _is_open(client, wanted):
            # Whoever knocked meanwhile was not let in. To find that out again would take as long again.
            return None
        client._get_conn_lock_value = nullcontext()
        connection = await _alone(client, node_id, group=group, no_hint=no_hint)
        door.heard += 1
        return connection


def _is_open(client: Any, wanted: Any) -> bool:
    connection = client._conns.get(wanted)
    return connection is not None and connection.connected()
