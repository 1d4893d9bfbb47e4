"""Whether an IP address is somebody's on the public Internet, and nothing of this machine, its network or its cloud.

`ipaddress.is_global` alone won't do: Python 3.11 calls multicast, 192.0.0.0/24, 6to4 and NAT64 for local use global, and what it
says changes between releases. Both it and the list below have to agree.

Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), as of June 2026.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' and clouds' own (Alibaba's metadata is 100.100.100.200)
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, which answers its guests alone
        "169.254.0.0/16",  # metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # Oracle's metadata is 192.0.0.192
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
    )
)
_UNICAST_6 = IPv6Network("2000::/3")
"""All that IANA has given out for global unicast: ::1, ::ffff:0:0/96, fc00::/7, fe80::/10 and ff00::/8 are outside."""
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo (which holds an IPv4 address) among them
        "2001:db8::/32",
        "2002::/16",  # 6to4 holds an IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""How a network without IPv4 reaches IPv4 (RFC 6052): the last four bytes say whom."""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The third quarter of an address whose last one is an IPv4 address within a site (RFC 5214 section 6.1)."""


def is_public(text: str) -> bool:
    """
    Args:
        text: an address as the socket library writes it. Whatever else is not public.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_4(address)
    if address in _NAT64:
        return address.scope_id is None and _is_public_4(IPv4Address(int(address) & 0xFFFFFFFF))
    return _is_public_6(address)


def _is_public_4(address: IPv4Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)


def _is_public_6(address: IPv6Address) -> bool:
    return (
        address.scope_id is None
        and address.is_global
        and address in _UNICAST_6
        and not any(address in network for network in _NOT_PUBLIC_6)
        and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP
    )
