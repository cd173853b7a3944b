"""HTTP responses with whatever is to go wrong with them: cut off, slow, corrupt, without a length."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.registry.faults import Fault, Record

REQUEST_ID = "Root=1-fake"
LIMIT = '"api";r=499;t=200'
_CHUNK = 16 * 1024


class Pace:
    """What the connections of all handlers share: the end of the servers, and the bytes that they may send together, which is
    unlimited once they are hurried."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.hurried = threading.Event()
        self.lock = threading.Lock()
        self.free_at = 0.0

    def due(self, size: int, cap: float) -> float:
        """When so many bytes may have been sent, at ``cap`` bytes a second over all connections."""
        with self.lock:
            self.free_at = max(self.free_at, time.monotonic()) + size / cap
            return self.free_at


class FaultyHandler(BaseHTTPRequestHandler):
    """Sends responses; ``fault`` and ``record`` are those of the current request."""

    pace: Pace
    fault: Fault
    record: Record
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        # small buffers: what is sent is what is received, near enough to be counted
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def json(self, value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> None:  # noqa: B006
        body = json.dumps(value).encode()
        told = {"RateLimit": LIMIT, "X-Request-Id": REQUEST_ID, **headers}
        if "gzip" in self.record.headers.get("accept-encoding", ""):
            body, told["Content-Encoding"] = gzip.compress(body), "gzip"
        self.reply(status, {"Content-Type": "application/json", **told}, body=body)

    def errors(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] = {},  # noqa: B006
    ) -> None:
        self.json({"errors": [{"code": code, "message": message}]}, status, headers)

    def refuse(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] = {},  # noqa: B006
    ) -> None:
        told = {"X-Error-Message": message, **headers}
        if code:
            told["X-Error-Code"] = code
        self.json({"error": message}, status, told)

    def ranged(self, data: bytes, headers: Mapping[str, str]) -> None:
        """A file, or the part of it that is asked for, with whatever is wrong with it."""
        fault, size = self.fault, len(data)
        told = dict(headers)
        if fault.corrupt is not None and fault.corrupt < size:
            at = fault.corrupt
            data = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
        if not fault.no_accept_ranges:
            told["Accept-Ranges"] = "bytes"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.record.range)
        if not asked or fault.ignore_range:
            body, status = data, 200
        else:
            start, end = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            if start >= size:
                return self.reply(416, {"Content-Range": f"bytes */{size}"})
            moved = start + fault.shift
            body, status = data[moved : end + 1 + fault.shift], 206
            total = size + 1 if fault.wrong_total else size
            told["Content-Range"] = f"bytes {moved}-{end + fault.shift}/{total}"
        if fault.packed:
            body, told["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        body += b"+" * fault.extra
        return self.reply(status, told, body=body)

    def reply(
        self,
        status: int,
        headers: Mapping[str, str] = {},  # noqa: B006
        *,
        text: str = "",
        body: bytes = b"",
    ) -> None:
        body = body or text.encode()
        fault = self.fault
        self.record.status = status
        self.send_response_only(status)
        self.send_header("Date", formatdate(usegmt=True))
        for key, value in headers.items():
            self.send_header(key, value)
        if fault.no_length:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body)

    def send_body(self, body: bytes) -> None:
        fault, pace = self.fault, self.pace
        ends = [each for each in (fault.stall, fault.truncate, fault.reset) if each is not None]
        stop_at = min(ends, default=len(body))
        begun, sent = time.monotonic(), 0
        while sent < min(len(body), stop_at) and not pace.closing.is_set():
            size = fault.drip or _CHUNK
            chunk = body[sent : min(sent + size, stop_at)]
            self.wfile.write(chunk)
            sent += len(chunk)
            self.record.sent += len(chunk)
            if fault.drip:
                time.sleep(0.01)
            if fault.slow:
                time.sleep(max(0.0, begun + sent / fault.slow - time.monotonic()))
            if fault.cap and not pace.hurried.is_set():
                time.sleep(max(0.0, pace.due(len(chunk), fault.cap) - time.monotonic()))
        if not ends or stop_at >= len(body):
            return
        self.close_connection = True
        if stop_at == fault.stall:
            pace.closing.wait(30)
        elif stop_at == fault.reset:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.request.detach())
