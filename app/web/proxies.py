"""The client's address behind proxies. Only our own proxies are believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import structlog
from litestar.types import HTTPScope
from prometheus_client import Counter

log = structlog.get_logger("proxies")

NOT_BELIEVED = Counter(
    "crm_forwarded_not_believed", "Requests whose X-Forwarded-For is from an address that is not in TRUSTED_PROXIES"
)
# A line for each of the first addresses only: anybody who reaches the service can send the header.
MAX_TOLD = 8
_told: set[str] = set()

Address = IPv4Address | IPv6Address
# A client can send a list of any length.
MAX_HOPS = 32
MAX_ADDRESS_LENGTH = 64


class Proxies:
    """The networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def apply_forwarded_headers(self, scope: HTTPScope) -> None:
        """Put the client's address and scheme into the scope, in place of the nearest proxy's.

        The hops are read from the nearest one on, as long as they are our proxies. The first other one is the client:
        what is further away may be forged.
        """
        peer = parse_address(scope["client"][0]) if self._networks and scope["client"] else None
        if peer is None or not self._ours(peer):
            self._note_if_forwarded(scope)
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

    def _note_if_forwarded(self, scope: HTTPScope) -> None:
        """Tell monitors that a header is not believed: a proxy that TRUSTED_PROXIES lacks shows by nothing else."""
        if not scope["client"] or all(name != b"x-forwarded-for" for name, _ in scope["headers"]):
            return
        NOT_BELIEVED.inc()
        peer = scope["client"][0]
        if peer not in _told and len(_told) < MAX_TOLD:
            _told.add(peer)
            log.warning("X-Forwarded-For is not believed: if this is your proxy, name it in TRUSTED_PROXIES", peer=peer)

    def _ours(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(scope: HTTPScope) -> Iterator[Address | None]:
    """The hops in X-Forwarded-For, the nearest first. None stands for what is not an address."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for hop in reversed(",".join(lines).rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        yield parse_address(hop.strip())


def parse_address(text: str) -> Address | None:
    """The address, without a port. IPv4 inside IPv6 becomes IPv4. None if it is not an address."""
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
    """The part of an address that a client can't change at will: all of IPv4, the /64 network of IPv6."""
    address = parse_address(text)
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else text
