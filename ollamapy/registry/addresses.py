"""Addresses of other machines: their parts, and whether they are on the public internet."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address; what has none equals nothing that is asked."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        return parts.scheme, (parts.hostname or "").lower(), port
    except ValueError:
        return "", "", 0


def split(url: str) -> tuple[str, str] | None:
    """Scheme and host of an address that can be asked, without credentials or odd characters."""
    scheme, host, _ = origin(url)
    printable = all("!" <= each <= "~" for each in url)
    if scheme not in ("http", "https") or not host or not printable or "@" in urlsplit(url).netloc:
        return None
    return scheme, host


def host_of(url: str) -> str:
    """The host of an address, for messages."""
    return origin(url)[1] or "the server"


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet. Raises ValueError if it is not an IP address.

    An IPv6 address that embeds an IPv4 address is judged by the embedded one.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        embedded = _embedded(found)
        if embedded is None:
            return found in _GLOBAL_UNICAST and found not in _TEREDO and found.is_global
        found = embedded
    return found.is_global and not found.is_multicast and not found.is_reserved


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # not fc00::, fe80::, fec0::, ff00::, ::/96
_TEREDO = ipaddress.IPv6Network("2001::/32")  # leads to whatever IPv4 address its server likes
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052; the local-use 64:ff9b:1::/48 is private


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped (::ffff:a.b.c.d), NAT64 or 6to4 address leads to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_private_literal(host: str) -> bool:
    """Whether a host is written as an IP address, and not one of the public internet."""
    try:
        return not is_public(host)
    except ValueError:
        return False  # a host name: judged by what it resolves to


Resolve = Callable[..., Sequence[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""


def resolves_to_private(host: str, resolve: Resolve = socket.getaddrinfo) -> bool:
    """Whether any address of a host is not on the public internet. Asks the name server."""
    try:
        found = resolve(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # nothing to connect to
    return any(is_private_literal(str(each[4][0])) for each in found)


def is_public_https(url: str, resolve: Resolve = socket.getaddrinfo) -> bool:
    """Whether an address is https on the public internet. Asks the name server.

    What a name resolves to can change before it is connected to: `http.Session` judges again then.
    """
    parts = split(url)
    if parts is None or parts[0] != "https":
        return False
    return not is_private_literal(parts[1]) and not resolves_to_private(parts[1], resolve)
