"""Two addresses in turns, one request each: what disturbs the machine for a moment disturbs both."""

from __future__ import annotations

import re
import socket
import statistics
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.bench.load import NoAnswerError
from tests.bench.server import Bench

WARM_UP = 10


class Ask(NamedTuple):
    """An address of a tenant, by its size or name; `anew` goes past what is kept for a moment."""

    path: str
    size: int | str
    anew: bool = False


class _Line:
    """A kept connection. A library's client would take half as long as the service, and bring ratios nearer to one."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        address = urlsplit(bench.url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def request(self, ask: Ask) -> bytes:
        token = self._bench.token(ask.size)
        anew = "Cache-Control: no-cache\r\n" if ask.anew else ""
        return f"GET {ask.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{anew}\r\n".encode()

    def seconds(self, request: bytes) -> float:
        """Until the answer is here as a whole. Fails where it is no success."""
        began = time.perf_counter()
        self._socket.sendall(request)
        head, said = b"", b""
        while not head:
            received = self._socket.recv(65536)
            assert received, "the service hung up"
            said += received
            head, _, body = said.partition(b"\r\n\r\n") if b"\r\n\r\n" in said else (b"", b"", b"")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length, head
        missing = int(length[1]) - len(body)
        while missing > 0:
            missing -= len(self._socket.recv(65536))
        took = time.perf_counter() - began
        if head.startswith(b"HTTP/1.1 503"):
            raise NoAnswerError(head.decode())
        assert head.startswith(b"HTTP/1.1 200"), head
        return took


def ratio(bench: Bench, one: Ask, other: Ask, *, pairs: int) -> float:
    """The median time of one, as a multiple of the other's."""
    line = _Line(bench)
    try:
        requests = [line.request(one), line.request(other)]
        for _ in range(min(WARM_UP, pairs)):
            for request in requests:
                line.seconds(request)
        took = [[line.seconds(request) for request in requests] for _ in range(pairs)]
    finally:
        line.close()
    return statistics.median(first for first, _ in took) / statistics.median(second for _, second in took)
