"""A receiver of webhooks in a process of its own: `python -m tests.bench.receiver FILE`. It says its port, and writes a
line for each delivery: when it came, the path that it came to, and its sequence.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import TextIO

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
SEQUENCE = re.compile(rb'"sequence":(\d+)')
ANSWER = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


class Receiver(asyncio.Protocol):
    """Does as little as it can, since it shares the processors with what is measured."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        self._said += data
        head, _, body = self._said.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        sequence = SEQUENCE.search(body)
        assert sequence is not None, body
        self._file.write(f"{time.time()} {head.split(b' ', 2)[1].decode()} {sequence[1].decode()}\n")
        self._transport.write(ANSWER)
        self._transport.close()


async def _serve(file: TextIO) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(file), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- this is its output
    while True:
        await asyncio.sleep(0.2)
        file.flush()


if __name__ == "__main__":
    with open(sys.argv[1], "w") as kept:  # noqa: PTH123 -- a path of a command line
        asyncio.run(_serve(kept))
