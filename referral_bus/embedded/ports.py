"""Free TCP ports for servers that are about to start."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

from referral_bus.embedded.errors import EmbeddedError

_FIRST, _BEYOND = 20_000, 32_768
"""From 32768 on a client's outgoing connection may be given the very port that a server is about to bind."""

_kept: dict[int, int] = {}
"""The ports this process has given out, each with the descriptor of the locked file that keeps other processes of the user off it."""


def free_ports(count: int) -> list[int]:
    """``count`` different ports that can be bound on 127.0.0.1 now, none of them given to another running process that asked here.

    Raises EmbeddedError when there are not so many.
    """
    candidates = list(range(_FIRST, _BEYOND))
    random.SystemRandom().shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        if port not in _kept and is_free(port) and _keep(port):
            found.append(port)
    if len(found) < count:
        raise EmbeddedError(
            f"Only {len(found)} of the {count} ports needed are free between {_FIRST} and {_BEYOND - 1}. Stop some servers and try again."
        )
    return found


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could bind this port on ``host``, an address of this machine, now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _keep(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"refbus-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _kept[port] = file
    return True
