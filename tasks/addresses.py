"""
Refuse to be sent to machines inside the house.

A name is resolved once, every address it has is judged, and the connection goes to an address that was judged: a name
server that answers differently the second time changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from celery_platform import Dead

__all__ = ["Target", "pinned"]

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A *url* that names an address, and the *host* (with port: *authority*) that its caller meant."""

    url: str
    host: str
    authority: str


def pinned(url: str, *, private: bool = False) -> Target:
    """
    Return *url* with its host replaced by an address that may be called; *private* allows all of them.

    Raises `Dead` for a URL that is not plain http or https, and for a host with any address that is not public;
    `OSError` for a name that cannot be resolved.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise Dead("the URL's port is not a number from 0 to 65535.") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise Dead("expected an http or https URL with a host and without a user name.")
    host, authority = (part.encode("idna").decode() for part in (parts.hostname, parts.netloc))
    address = _judged(host, port or _PORTS[parts.scheme], private=private)
    literal = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
    where = parts._replace(netloc=literal if port is None else f"{literal}:{port}", fragment="")
    return Target(where.geturl(), host, authority)


def _judged(host: str, port: int, *, private: bool) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not private and not _is_public(address):
            raise Dead(f"{host} is not a public address. TASKS_WEBHOOK_ALLOW_PRIVATE=1 allows it, for tests.")
    return addresses[0]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    judged = _as_ipv4(address) if isinstance(address, ipaddress.IPv6Address) else address
    return judged.is_global and not judged.is_multicast


def _as_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """
    Return what an IPv4 address in IPv6 clothes (mapped, 6to4, NAT64) really is.
    """
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
