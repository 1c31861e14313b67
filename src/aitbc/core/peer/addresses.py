"""Addresses of nodes, and which of them lie so near each other that one owner may hold them all.
docs/spec/p2p.md "Addresses"
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

GIVEN_OUT = IPv6Network("2000::/3")
"""All of IPv6 that anybody has been given for use in public."""
REMEMBERED = 8_192
"""Addresses whose network need not be worked out again: more than a book holds."""
LOCAL = "local"
"""The group of everything that is not routed in public: one machine, one house, one test."""


def split_where(where: str) -> tuple[str, int] | None:
    """Host and port of `host:port`; IPv6 hosts stand in brackets. None for anything else."""
    host, colon, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
        return None
    number = int(port)
    return (host, number) if 0 < number < 65_536 else None


def join_where(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def numeric_where(where: str) -> str | None:
    """The one spelling of one machine's address; None for names and nonsense: nobody makes us ask a name server."""
    parts = split_where(where)
    address = _address(parts[0]) if parts else None
    if parts is None or address is None or address.is_unspecified or address.is_multicast:
        return None
    return join_where(str(address), parts[1])


@lru_cache(REMEMBERED)
def group_of(where: str) -> str:
    """The /16 of an IPv4 and the /32 of an IPv6 address: one owner has few of them."""
    address = _address_of(where)
    if address is None:
        return f"name {where}"
    if not address.is_global:
        return LOCAL
    if isinstance(address, IPv4Address):
        return "v4 " + ".".join(str(address).split(".")[:2])
    return "v6 " + address.exploded[:9]


def is_public(where: str) -> bool:
    """Whether connections to it leave for the open network, whoever asks for them. Of IPv6 that is 2000::/3 without
    6to4: an address with an IPv4 address inside may end at a neighbour's door."""
    address = _address_of(where)
    if address is None or not address.is_global or address.is_multicast:
        return False
    return isinstance(address, IPv4Address) or (address in GIVEN_OUT and address.sixtofour is None)


@lru_cache(REMEMBERED)
def owner_of(where: str) -> str:
    """What is banned with a peer: its IPv4 address, or the /64 of its IPv6 address; empty for local ones, which many
    share. A whole /24 would let one rented machine cut off its honest neighbours."""
    address = _address_of(where)
    if address is None or not address.is_global:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    return address.exploded[:19]


def _address_of(where: str) -> IPv4Address | IPv6Address | None:
    parts = split_where(where)
    return _address(parts[0]) if parts else None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address
