"""Addresses that clients name and the service calls: only public ones, so that nobody reaches what is inside."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiodns

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOKUP_SECONDS, LOOKUPS = 2.0, 2
# What IANA reserves for special purposes. Of IPv6, only 2000::/3 is public at all: addresses with an IPv4 address in
# them (::ffff:0:0/96, 64:ff9b::/96) are not.
PUBLIC_IPV6 = IPv6Network("2000::/3")
RESERVED: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # Azure's own service, inside each of its networks
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
# Such a host is an IPv4 address for some libraries, and each reads it in its own way: 127.1, 0x7f.1, 2130706433.
NUMERIC = re.compile(r"(.*\.)?(\d+|0[xX][0-9a-fA-F]*)\.?")


class RefusedAddressError(Exception):
    """The service does not call this address. The message says why, and nothing of what is inside."""


class Addresses:
    """Which addresses may be called: public ones, and those of some networks. For use in one event loop."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = [ip_network(network) for network in allowed]
        self._resolver: aiodns.DNSResolver | None = None

    def check(self, address: str) -> None:
        """Raise RefusedAddressError unless this IP address may be called."""
        try:
            parsed = ip_address(address)
        except ValueError:
            raise RefusedAddressError("The address is not valid") from None
        if any(parsed in network for network in self._allowed):
            return
        is_public = parsed in PUBLIC_IPV6 if isinstance(parsed, IPv6Address) else True
        if not is_public or any(parsed in network for network in RESERVED):
            raise RefusedAddressError(
                "The address is not public: private networks are only called if WEBHOOK_ALLOWED_NETWORKS has them"
            )

    async def look_up(self, host: str, port: int) -> list[str]:
        """The IP addresses of a host. Raises RefusedAddressError unless there are some, and all may be called."""
        if NUMERIC.fullmatch(host) or ":" in host:
            self.check(host)
            return [host]
        # Inside the function, because most processes look up nothing.
        import aiodns

        if self._resolver is None:
            # No threads: names that take long would otherwise keep all others waiting.
            self._resolver = aiodns.DNSResolver(timeout=LOOKUP_SECONDS, tries=LOOKUPS)
        try:
            found = await self._resolver.getaddrinfo(host, socket.AF_UNSPEC, port, type=socket.SOCK_STREAM)
        except (aiodns.error.DNSError, UnicodeError):
            raise RefusedAddressError("The host has no address") from None
        addresses = [node.addr[0].decode() for node in found.nodes]
        if not addresses:
            raise RefusedAddressError("The host has no address")
        for address in addresses:
            self.check(address)
        return addresses

    async def check_url(self, url: str, *, https_only: bool) -> None:
        """Raise RefusedAddressError unless this is a URL that may be called."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise RefusedAddressError("The URL is not valid") from None
        schemes = ("https",) if https_only else ("https", "http")
        if parts.scheme not in schemes or not host:
            raise RefusedAddressError(f"The URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if parts.username is not None or parts.password is not None:
            raise RefusedAddressError("The URL must not have a user name or password: the signature proves who sends")
        if parts.fragment or port == 0:
            raise RefusedAddressError("The URL is not valid")
        await self.look_up(host, port or 443)
