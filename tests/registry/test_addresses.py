"""Which addresses are on the public internet, however they are written."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ollamapy.registry.addresses import is_public, is_public_https


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("2606:4700::1111", True),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("::8.8.8.8", False),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::8.8.8.8", False),
        ("2002:808:808::1", True),
        ("2002:a00:1::1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::1", False),
    ],
)
def test_an_address(address: str, public: bool) -> None:
    assert is_public(address) is public


def names(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
    known = {
        "public.example": ["8.8.8.8", "2606:4700::1111"],
        "private.example": ["10.0.0.1"],
        "both.example": ["8.8.8.8", "::ffff:192.168.0.1"],
        "127.1": ["127.0.0.1"],
        "2130706433": ["127.0.0.1"],
        "8.8.8.8": ["8.8.8.8"],
    }
    if host not in known:
        raise socket.gaierror
    return [(0, 0, 0, "", (address, 0)) for address in known[host]]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://public.example/x", True),
        ("https://8.8.8.8:5000", True),
        ("http://public.example/x", False),
        ("https://private.example", False),
        ("https://both.example", False),
        ("https://10.0.0.1", False),
        ("https://[::127.0.0.1]/", False),
        ("https://[fec0::1]/", False),
        ("https://127.1/", False),
        ("https://2130706433/", False),
        ("https://user:password@public.example", False),
        ("ftp://public.example", False),
        ("https://", False),
        ("", False),
        ("https://nowhere.example", True),  # nothing to connect to, unless a proxy knows it
    ],
)
def test_a_public_https_address(url: str, allowed: bool) -> None:
    assert is_public_https(url, names) is allowed
