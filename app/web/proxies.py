"""Who a request came from, where proxies stand in between: their word counts only if they are ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from litestar.types import HTTPScope

Address = IPv4Address | IPv6Address
# A client may send as long a list as it likes.
MAX_HOPS = 32
MAX_ADDRESS_LENGTH = 64


class Proxies:
    """The networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def apply_forwarded_headers(self, scope: HTTPScope) -> None:
        """Put the client's own address and scheme into the scope, in place of the nearest proxy's.

        From the nearest hop on, each of our proxies tells of the one before it; what stands further away than the
        first stranger may be made up.
        """
        peer = parse_address(scope["client"][0]) if self._networks and scope["client"] else None
        if peer is None or not self._ours(peer):
            return
        client = peer
        for hop in _hops(scope):
            if hop is None:
                break
            client = hop
            if not self._ours(hop):
                break
        scope["client"] = (str(client), 0)
        schemes = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
        if schemes and schemes[-1].rsplit(b",", 1)[-1].strip().lower() == b"https":
            scope["scheme"] = "https"

    def _ours(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(scope: HTTPScope) -> Iterator[Address | None]:
    """What the proxies say, the nearest first; None where it is no address."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for hop in reversed(",".join(lines).rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        yield parse_address(hop.strip())


def parse_address(text: str) -> Address | None:
    """An address, perhaps with a port; IPv4 inside IPv6 is IPv4."""
    return _parse_address(text) if len(text) <= MAX_ADDRESS_LENGTH else None


@lru_cache(maxsize=10_000)
def _parse_address(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def rate_limit_key(text: str) -> str:
    """What one client can't change at will: an IPv4 address, or the /64 of an IPv6 address."""
    address = parse_address(text)
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else text
