"""Where webhooks may go: https, and public addresses only, unless the settings allow more.

The address that was checked is the one connected to, so a name that changes its answer in between gains nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from referral_bus.access.loopback import is_loopback
from services.notifier.names import Names

LONGEST_URL: Final = 2_000
_HTTPS_PORT: Final = 443
_HIGHEST_PORT: Final = 65_535
_GIVEN_OUT: Final = IPv6Network("2000::/3")
"""What there is of global unicast in IPv6. Outside it the standard library takes for global what is nobody's, site-local, or made of an
IPv4 address."""
_TUNNELS: Final = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))
"""Teredo and 6to4: they lead to the IPv4 address inside, and nobody who offers a webhook needs them."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""What a network without IPv4 makes of the address of a host that has nothing else (RFC 6052)."""
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]+")


class AddressRefused(Exception):
    """The bus does not send there. ``reason`` is a code; the message says what to change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What is allowed besides https to public addresses."""

    http_loopback: bool = False
    private: bool = False

    def check(self, url: str) -> httpx.URL:
        """The address, parsed. Raises AddressRefused for what can be seen to be wrong without looking it up."""
        try:
            parsed = httpx.URL(url)
            host = parsed.host
        except (httpx.InvalidURL, ValueError, TypeError):
            raise AddressRefused("bad_address", "The address is not a URL.") from None
        if len(url) > LONGEST_URL or not host or parsed.scheme not in ("http", "https"):
            raise AddressRefused("bad_address", "The address is not an http or https URL with a host.")
        if (
            not _HOST.fullmatch(host)
            or not 0 < (_HTTPS_PORT if parsed.port is None else parsed.port) <= _HIGHEST_PORT
        ):
            raise AddressRefused("bad_address", "The address has a host or a port that can't be.")
        if parsed.userinfo or parsed.fragment:
            raise AddressRefused(
                "bad_address", "The address has a user, a password or a fragment. Leave them out."
            )
        literal = _literal(host)
        if parsed.scheme == "http" and not (self.http_loopback and is_loopback(host)):
            raise AddressRefused("https_required", "Notices are sent by https only. Give an https address.")
        if literal is not None and not self._allowed(literal, parsed.scheme):
            raise AddressRefused("private_address", "The address is not a public one. Give one that is.")
        return parsed

    async def resolve(self, url: httpx.URL, names: Names, organisation: str) -> str:
        """The IP address to connect to, looked up for this organisation. Raises AddressRefused where the name has none, or any that is not
        allowed."""
        addresses = [ip_address(found) for found in await names.look_up(url.host, organisation)]
        if not addresses:
            raise AddressRefused("unknown_host", "The host's name could not be looked up.")
        if not all(self._allowed(address, url.scheme) for address in addresses):
            raise AddressRefused("private_address", "The host's name leads to an address that is not public.")
        return str(addresses[0])

    def _allowed(self, address: IPv4Address | IPv6Address, scheme: str) -> bool:
        real = _reached(address)
        if real.is_loopback:
            return self.private or self.http_loopback
        if scheme == "http":
            return False
        return _is_public(real) or self.private


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that packets come to: the IPv4 one inside, where they are taken there."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address not in _GIVEN_OUT or any(address in tunnel for tunnel in _TUNNELS)
    ):
        return False
    return address.is_global and not address.is_multicast


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None
