"""`crm identity`: letting people log in, where there is no CMS."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
from msgspec import json

from app.access.permissions import Role
from app.cli.environment import Environment, TenantName, data_dir_option, environment
from app.cli.serve import free_port, prepare, run_server
from app.identity import commands
from app.identity.database import UnsafeLoginError, check_login
from app.settings import Settings
from app.web.email import check_email
from app.web.fields import Refused
from app.web.text import name as checked_name
from app.web.text import trimmed

PORT = 3001
LONGEST_NAME = 255
T = TypeVar("T")


class EmailAddress(click.ParamType[str]):
    """An email address."""

    name = "email"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the address and return it."""
        try:
            return check_email(trimmed(str(value)))
        except Refused as refused:
            self.fail(f"{value!r} {refused}", param, ctx)


class Name(click.ParamType[str]):
    """One line with something to see."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name and return it."""
        try:
            text = checked_name(str(value))
        except Refused as refused:
            self.fail(str(refused), param, ctx)
        if len(text) > LONGEST_NAME:
            self.fail(f"must have at most {LONGEST_NAME} characters", param, ctx)
        return text


@contextmanager
def _environment(data_dir: Path | None) -> Iterator[Environment]:
    """The configured database, or the embedded one with the login of `crm identity`."""
    if find_spec("argon2") is None:
        raise click.ClickException("crm identity needs more packages: uv sync --extra identity")
    with environment(data_dir) as env:
        if not env.has_embedded_database:
            yield env
            return
        # Inside the function, because a production image does not contain it.
        from app.dev.identity import with_identity_login

        yield env._replace(settings=with_identity_login(env.settings))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Do what a command does. What can't be done becomes one line."""
    try:
        return asyncio.run(work)
    except commands.CommandError as error:
        raise click.ClickException(str(error)) from None


@click.group()
def identity() -> None:
    """Let people log in and issue tokens, where there is no CMS.

    It is a program of its own, with its own login in DATABASE_URL, and the same JWT_SECRET as the service.
    """


@identity.command()
@click.option("--port", type=click.IntRange(0, 65535), help="0 picks a free one.  [default: SERVER_PORT, 3001]")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for every address of the machine.")
@click.option("--migrate", is_flag=True, help="Upgrade the database first. The embedded one is always upgraded.")
@click.option("--demo", is_flag=True, help="Add the people who own the demo's records, and print how they log in.")
@click.option("--demo-password", help="Their password, if they are not there yet.  [default: a random one]")
@click.option("--until-input-ends", is_flag=True, hidden=True, help="For the process that starts this one.")
@data_dir_option
def serve(
    port: int | None,
    host: str,
    migrate: bool,
    demo: bool,
    demo_password: str | None,
    until_input_ends: bool,
    data_dir: Path | None,
) -> None:
    """Serve logins, on port 3001. One process is enough: hashing passwords uses all cores.

    \b
    Examples:
      crm identity serve --demo
      ENVIRONMENT=production DATABASE_URL=postgresql://login@db/crm JWT_SECRET=... crm identity serve --host 0.0.0.0
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _environment(data_dir) as env, tempfile.TemporaryDirectory(prefix="crm-run-") as run_dir:
        prepare(env.settings)
        if port is None:
            port = env.settings.server_port if os.environ.get("SERVER_PORT") or os.environ.get("PORT") else PORT
        listening_port = free_port(host, port)
        if migrate or env.has_embedded_database:
            _upgrade(env.settings)
        try:
            check_login(env.settings.database_dsn, production=env.settings.production)
        except UnsafeLoginError as error:
            raise click.ClickException(str(error)) from None
        if demo:
            _show_people(env.settings, demo_password, host, listening_port)
        if until_input_ends:
            threading.Thread(target=_stop_at_the_end_of_input, daemon=True).start()
        run_server(env, "identity_app", host, listening_port, 1, Path(run_dir), share=False)


def _show_people(settings: Settings, password: str | None, host: str, port: int) -> None:
    if settings.production:
        raise click.ClickException("--demo: in production, crm identity user add makes the first person")
    try:
        # Inside the function, because a production image does not contain it.
        from app.dev.identity import add_people
    except ModuleNotFoundError:
        raise click.ClickException("--demo is for development, and needs a checkout") from None
    people = add_people(settings, password)
    click.echo(f"\nLog in by POST http://{host}:{port}/auth/login, with the email and the password of one of these:\n")
    for line in people:
        click.echo(line)
    click.echo("")


def _stop_at_the_end_of_input() -> None:
    """Whoever started this process has died, or wants it to stop."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _upgrade(settings: Settings) -> str | None:
    # Inside the function, because the tools for migrations take longer to load than the rest of the start.
    from app.db.migrations import MigrationError, Migrations
    from app.identity.migrations import IDENTITY

    try:
        work = Migrations(settings.migration_dsn, settings.database_dsn, line=IDENTITY)
        work.upgrade()
        return work.current()
    except MigrationError as error:
        raise click.ClickException(str(error)) from None


@identity.command()
@data_dir_option
def upgrade(data_dir: Path | None) -> None:
    """Create or upgrade the tables, in the schema `identity`. It needs the owner's login: MIGRATION_DATABASE_URL."""
    with _environment(data_dir) as env:
        click.echo(f"The schema identity is at revision {_upgrade(env.settings)}.")


@identity.group()
def user() -> None:
    """Add, list and disable people, and let them set a new password."""


@user.command()
@click.argument("email", type=EmailAddress())
@click.option("--name", type=Name(), required=True, help="What the person is called.")
@click.option("--organization", type=Name(), required=True, help="Its id or its name. If there is none, it is made.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.ADMIN.value, show_default=True)
@click.option("--id", "user_id", type=click.UUID, help="Of somebody who has records already.  [default: a random one]")
@click.option("--organization-id", type=TenantName(), help="Of a new one that has records.  [default: a random one]")
@data_dir_option
def add(
    email: str,
    name: str,
    organization: str,
    role: str,
    user_id: UUID | None,
    organization_id: str | None,
    data_dir: Path | None,
) -> None:
    """Add a person. The password is the first line of standard input.

    \b
    Example:
      crm identity user add ada@example.com --name Ada --organization Engines < password.txt
    """
    with _environment(data_dir) as env:
        password = sys.stdin.readline().rstrip("\r\n")
        new = commands.New(
            email=email,
            name=name,
            role=Role(role),
            organization=organization,
            password=password,
            user_id=user_id,
            organization_id=organization_id,
        )
        _run(commands.add_users(env.settings, [new]))
    click.echo(f"{email} can log in.")


@user.command("list")
@data_dir_option
def list_users(data_dir: Path | None) -> None:
    """Print everybody: id, email, name, whether they may log in, and the organizations with the roles there."""
    with _environment(data_dir) as env:
        for user_id, email, name, is_active, places in _run(commands.list_users(env.settings)):
            click.echo("\t".join((str(user_id), email, name, "active" if is_active else "disabled", places or "")))


@user.command()
@click.argument("email")
@data_dir_option
def disable(email: str, data_dir: Path | None) -> None:
    """Let a person log in no more, and end all sessions, also in a CRM that uses the same database."""
    with _environment(data_dir) as env:
        _run(commands.set_active(env.settings, email, active=False))
    click.echo(f"{email} can't log in any more.")


@user.command()
@click.argument("email")
@data_dir_option
def enable(email: str, data_dir: Path | None) -> None:
    """Let a person log in again."""
    with _environment(data_dir) as env:
        _run(commands.set_active(env.settings, email, active=True))
    click.echo(f"{email} can log in.")


@user.command()
@click.argument("email")
@data_dir_option
def reset(email: str, data_dir: Path | None) -> None:
    """Print a secret with which a person sets a new password: POST /auth/password/reset, within 30 minutes."""
    with _environment(data_dir) as env:
        click.echo(_run(commands.reset(env.settings, email)))


@identity.group()
def organization() -> None:
    """Look at the organizations."""


@organization.command("list")
@data_dir_option
def list_organizations(data_dir: Path | None) -> None:
    """Print all organizations: id, name, the owner's email, since when, and how many members."""
    with _environment(data_dir) as env:
        for number, name, owner, since, members in _run(commands.list_organizations(env.settings)):
            click.echo("\t".join((number, name, owner, f"{since:%Y-%m-%dT%H:%M:%SZ}", str(members))))


@identity.command()
@click.option("--email", help="Only of this person.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@data_dir_option
def events(email: str | None, limit: int, data_dir: Path | None) -> None:
    """Print what happened, newest first, as JSON Lines."""
    with _environment(data_dir) as env:
        for event in _run(commands.events(env.settings, email, limit)):
            click.echo(json.encode(event).decode())
