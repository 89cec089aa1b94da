"""Where a request comes from: the peer of its connection, or what proxies that are trusted say of it.

It reads addresses and decides nothing about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

EVERYBODY = "*"
"""In place of proxies: whoever connects is trusted, and the first address of the header is taken."""
UNKNOWN = "unknown"
"""In place of what is no address."""
_HOME_BITS = 64
"""Of an IPv6 address: what a provider gives to one customer, who may change the rest at will."""


class TrustedProxies:
    """The proxies whose ``X-Forwarded-For`` counts, as addresses and networks."""

    def __init__(self, proxies: Iterable[str]) -> None:
        words = set(proxies)
        self._everybody = EVERYBODY in words
        self._networks = [ip_network(word, strict=False) for word in words - {EVERYBODY}]

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address of the client behind ``peer``, given the lines of ``X-Forwarded-For``.

        That is the last one in the chain that no trusted proxy has; each proxy adds whom it heard at the end.
        What cannot be read ends the chain.
        """
        client = peer
        hops = [hop.strip() for line in forwarded for hop in line.split(",")]
        while hops and self.trust(client):
            hop = _address(hops.pop())
            if hop is None:
                break
            client = str(hop)
        return client

    def trust(self, address: str) -> bool:
        """Whether it is a proxy's."""
        if self._everybody:
            return True
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)


@lru_cache(maxsize=4096)  # asked at every request: reading an address takes 6 µs
def household(address: str) -> str:
    """What is counted as one place: an IPv4 address, or the network of an IPv6 one; `UNKNOWN` for what is none."""
    found = _address(address)
    if found is None:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _HOME_BITS), strict=False).network_address)
    return str(found)


def _address(text: str) -> Address | None:
    """Reads an address as proxies write it: bare, with a port, in brackets, or an IPv4 one within IPv6.

    A zone (RFC 4007), which means something only where it was written and may be of any length, is left out.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
