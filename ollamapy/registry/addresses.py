"""Addresses of other machines: their parts, and whether they are on the public internet."""

from __future__ import annotations

import ipaddress
import socket
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
    return origin(url)[1] or "the server"


def is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


def is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return False  # a name: judged when connected


def resolves_to_private(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(is_private_literal(str(each[4][0])) for each in found)
