"""Embedded servers for development and tests, from wheels: nothing to install, nothing on the network.

Several processes may use one data directory: the first one starts the server, the last one stops it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar, TypeVar

START_SECONDS = 120.0  # recovery after a crash of a large database takes a while
STOP_SECONDS = 120.0  # so does its last checkpoint

Self = TypeVar("Self", bound="EmbeddedServer")


class EmbeddedError(Exception):
    """An embedded server can't be started; the message says why and what to do."""


class EmbeddedServer(ABC):
    """The server of a data directory. Call `start` and `stop`, or use it as a context manager."""

    name: ClassVar[str]

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._home = data_dir.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._in_use: IO[str] | None = None
        self._watching = threading.Event()

    def __enter__(self: Self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create missing files, and launch the server unless it answers. Raises EmbeddedError."""

    @abstractmethod
    def _shut_down(self) -> None:
        """Stop the server, also if another process launched it."""

    def start(self) -> None:
        """Launch the server, unless another process did, and wait until it answers. Raises EmbeddedError."""
        if self._in_use is None:
            self._in_use = (self._home / f"{self.name}.users").open("w")
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
        with self._locked():
            self._prepare()

    def watch(self) -> None:
        """Restart the server whenever it dies, until `stop`."""
        threading.Thread(target=self._keep_alive, name=f"embedded-{self.name}", daemon=True).start()

    def stop(self) -> None:
        """Stop using the server. The last process to do so stops it."""
        self._watching.set()
        if self._in_use is None:
            return
        with self._locked():
            try:
                fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self._shut_down()
            self._in_use.close()
            self._in_use = None

    def _end(self, pid: int, *signals: int) -> None:
        """Send the signals in turn, each when the one before has ended nothing, and SIGKILL at last."""
        for number in (*signals, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            until = time.monotonic() + STOP_SECONDS
            while running(pid) and time.monotonic() < until:
                time.sleep(0.02)
            if not running(pid):
                break
        if self._process is not None:
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._home / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # also where a worker that was forked meanwhile has the file open

    def _keep_alive(self) -> None:
        while not self._watching.wait(0.25):
            if self._process is not None:
                self._process.poll()  # collects its exit status, so that its id becomes free
            if not running(self.pid) and not self._watching.is_set():
                with contextlib.suppress(EmbeddedError):
                    self.start()


def running(pid: int | None) -> bool:
    """Whether a process of this id is running, and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] if pid else "gone"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        # No /proc, as on macOS.
        return subprocess.run(["/bin/kill", "-0", str(pid)], check=False, capture_output=True).returncode == 0  # noqa: S603
    return state not in {"gone", "Z", "X"}


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
