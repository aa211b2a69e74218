"""The service and its commands as real processes."""

from __future__ import annotations

import itertools
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import httpx
from click.testing import CliRunner, Result

from app.cli import crm as commands
from app.dev.postgres import BINARIES, EmbeddedPostgres
from app.settings import Settings

CRM = str(Path(sys.executable).with_name("crm"))
CONFIGURED = """
    DATABASE_URL MIGRATION_DATABASE_URL DB_HOST ENVIRONMENT JWT_SECRET PORT SERVER_PORT S3_BUCKET S3_ENDPOINT_URL
    S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY
""".split()
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
# For what is measured elsewhere and works hard: measuring it once more would double its time.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


def wait_until(true: Callable[[], bool], what: str, *, at_most: float = 60) -> None:
    """Until something has happened; a test goes on at once then, and fails where it never does."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        assert waited < at_most, f"not within {at_most:.0f} s: {what}"
        # Who has waited for long is asked less often: to look is work, too.
        time.sleep(min(max(0.02, waited / 20), 0.1))


# Without one, each client reads all certificates anew, which takes longer than most requests.
TLS = ssl.create_default_context()


def fetch(url: str, method: str = "GET", **more: Any) -> httpx.Response:
    """One request over a connection of its own; `more` as httpx takes it."""
    return httpx.request(method, url, verify=TLS, **more)


def crm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CRM, *arguments], env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=120, check=False
    )


def results_suffix() -> str:
    """Of the names of files with results: none for the wheel's server, "-15" for /usr/lib/postgresql/15/bin."""
    installed = os.environ.get(BINARIES)
    return f"-{Path(installed).parent.name}" if installed else ""


one_command = Lock()


def crm_here(*arguments: str, typed: str = "", **environment: str) -> Result:
    """A command in this process, which saves the second that a process takes to start.

    Its output and environment are the whole process's meanwhile, so that threads take turns.
    """
    with one_command:
        return CliRunner(env=dict.fromkeys(CONFIGURED) | environment).invoke(commands, arguments, input=typed)


def crm_on(settings: Settings, *arguments: str, **environment: str) -> Result:
    """The same, on the database and the store of these settings."""
    servers = {
        "DATABASE_URL": settings.database_dsn,
        "MIGRATION_DATABASE_URL": settings.migration_dsn,
        "JWT_SECRET": settings.jwt_secret,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_BUCKET": settings.s3_bucket,
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key,
    }
    return crm_here(*arguments, **servers | environment)


def beside(settings: Settings) -> dict[str, str]:
    """What a service is told that answers requests on a database that others use, too, and does nothing by itself."""
    return {"DATABASE_URL": settings.database_dsn, "JOBS_IN_SERVICE": "false", "UPKEEP_SECONDS": "0"}


class Service:
    """A running `crm serve`: on the embedded servers of its folder, or on those that are configured."""

    command: ClassVar[tuple[str, ...]] = ("serve",)

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}{'-'.join(self.command[:-1])}.log"
        embedded = [] if environment.get("DATABASE_URL") else ["--data-dir", str(data_dir)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [CRM, *self.command, "--port", "0", *embedded, *arguments],
                env=ENVIRONMENT | {"DRAIN_SECONDS": "1", "CRM_DATA_DIR": str(data_dir)} | environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("ready "):
                break
        assert self.said, self.log.read_text()
        assert self.said[-1].startswith("ready "), self.log.read_text()
        self.url = self.said[-1].removeprefix("ready ")

    def token(self, role: str, *more: str) -> str:
        return crm_here("token", "--role", role, "--data-dir", str(self.data_dir), *more).stdout.strip()

    def call(self, method: str, path: str, token: str, **more: Any) -> httpx.Response:
        return fetch(self.url + path, method, headers={"Authorization": f"Bearer {token}"}, timeout=60, **more)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    @property
    def workers(self) -> list[int]:
        """The processes that answer requests."""
        pid = self.process.pid
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        # Forked from this one, or spawned.
        return [int(child) for child, its in commands.items() if its == command or b"spawn_main" in its]

    @property
    def postgres_pid(self) -> int | None:
        return EmbeddedPostgres(self.data_dir).pid


class IdentityService(Service):
    """A running `crm identity serve`."""

    command: ClassVar[tuple[str, ...]] = ("identity", "serve")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *itertools.chain.from_iterable(family(int(child)) for child in children)]


class Worker:
    """A running `crm worker`."""

    def __init__(self, data_dir: Path | None = None, **environment: str) -> None:
        embedded = [] if data_dir is None else ["--data-dir", str(data_dir)]
        self.process = subprocess.Popen(
            [CRM, "worker", "--port", "0", *embedded],
            env=ENVIRONMENT | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        ready = next((line for line in self.process.stdout if line.startswith("ready ")), "")
        assert ready, "crm worker did not start"
        self.url = ready.split()[1]

    def kill(self) -> None:
        """As a machine that loses its power."""
        for pid in reversed(family(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Let its jobs come to the end of their steps."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
