"""Server-sent events (WHATWG HTML, section 9.2) as they come off a response, line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

_LONGEST_EVENT = 4_194_304


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One event. ``id`` is the last id seen, which is what a resume names."""

    id: str
    event: str
    data: str


async def server_sent(lines: AsyncIterator[str]) -> AsyncIterator[ServerSent]:
    """The events in ``lines``. Comments keep the connection alive and are passed over; an event cut off at
    the end is none.

    Raises ValueError where one event is longer than 4 MiB.
    """
    last_id, event, length = "", "", 0
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield ServerSent(last_id, event or "message", "\n".join(data))
            event, data, length = "", [], 0
            continue
        if line.startswith(":"):
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                length += len(value)
                if length > _LONGEST_EVENT:
                    raise ValueError("an event of the stream is longer than 4 MiB")
                data.append(value)
            case "event":
                event = value
            case "id" if "\0" not in value:
                last_id = value
