"""`crm identity` on a developer's machine: its login in the embedded database, and the example people."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from msgspec.structs import replace

from app.dev.demo import TENANT
from app.dev.people import PEOPLE
from app.dev.postgres import IDENTITY_LOGIN, EmbeddedPostgres
from app.identity.commands import New, add_users, known_emails
from app.settings import Settings

ORGANIZATION = "Demo"
STOP_SECONDS = 10


def with_identity_login(settings: Settings) -> Settings:
    """The same settings, with the login of `crm identity` in the embedded database, which runs."""
    postgres = EmbeddedPostgres(Path(settings.crm_data_dir))
    return replace(settings, database_url=postgres.dsn(user=IDENTITY_LOGIN))


def add_people(settings: Settings, password: str | None) -> list[str]:
    """Add the people who own the demo's records, unless they are there; returns lines that say how they log in."""
    password = password or _password(Path(settings.crm_data_dir))
    there = asyncio.run(known_emails(settings))
    new = [
        New(
            email=person.email,
            name=person.name,
            role=person.role,
            organization=ORGANIZATION,
            password=password,
            user_id=UUID(person.user_id),
            organization_id=TENANT,
        )
        for person in PEOPLE.values()
        if person.email not in there
    ]
    asyncio.run(add_users(settings, new))
    return [f"{person.email}  {password}" for person in PEOPLE.values()]


def _password(folder: Path) -> str:
    """The password of this folder: made once, and nobody else's."""
    path = folder / "demo-password"
    with suppress(FileExistsError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(12))
    return path.read_text()


class Logins:
    """A `crm identity serve` beside this process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines(self) -> list[str]:
        """What it says of itself and of its people, once it accepts requests."""
        assert self._process.stdout is not None  # noqa: S101 -- a pipe
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith("ready "):
                return said
            said.append(line.rstrip("\n"))
        return []


@contextmanager
def logins_beside(settings: Settings, host: str, port: int) -> Iterator[Logins]:
    """Let the demo's people log in on this port while the block runs, or this process lives."""
    command = ["-c", "from app.cli import crm; crm()", "identity", "serve", "--demo", "--until-input-ends"]
    with subprocess.Popen(  # noqa: S603 -- our own program, with arguments of our own
        [sys.executable, *command, "--host", host, "--port", str(port), "--data-dir", settings.crm_data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"JWT_SECRET": settings.jwt_secret},
    ) as process:
        try:
            yield Logins(process)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()
