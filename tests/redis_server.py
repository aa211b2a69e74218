"""A Redis of our own: Debian's server, on this machine only."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import wait_until
from tests.programs import program


class RedisServer:
    """A server that can be paused, killed and started again under the same address."""

    def __init__(self, directory: Path) -> None:
        self._program = program("redis-server", "valkey-server", package="redis-server")
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty."""
        options = ("--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory), "--logfile", "redis.log")
        self._process = subprocess.Popen([self._program, "--port", str(self.port), *options])
        wait_until(self._answers, "Redis")

    def signal(self, number: int) -> None:
        """Pause it, let it go on, or kill it."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it, however it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, *words: str) -> bytes:
        """Redis' own answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\nQUIT\r\n")
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer

    def _answers(self) -> bool:
        with suppress(OSError):
            return b"PONG" in self.command("PING")
        return False


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """A running server, which is ended with the block."""
    server = RedisServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.signal(signal.SIGCONT)
        server.stop()
