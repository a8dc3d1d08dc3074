"""Whether a host is this machine, so that nobody sits in between."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether it is ``localhost`` or a loopback address, which IPv6 may have in brackets. No name is looked up."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
