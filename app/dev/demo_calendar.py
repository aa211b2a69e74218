"""`crm demo-calendar`: the demo, with a calendar that is connected to it."""

from __future__ import annotations

import os
import secrets
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import msgspec

from app.access.permissions import Role
from app.cli.environment import data_dir_option, read_settings
from app.cli.serve import START_SECONDS, free_port, serve
from app.dev.calendar_server import CalendarServer
from app.dev.people import PEOPLE
from app.dev.servers import EmbeddedError
from app.dev.token import make_token
from app.settings import Settings

# The person whose token `crm serve --demo` prints.
PERSON = PEOPLE[Role.ADMIN]
USERNAME, CALENDAR, NAME = "ada", "work", "Work"
# So that changes are seen soon, and that a server on this machine may be called.
DEFAULTS = {"CALENDAR_SYNC_MINUTES": "0.05", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


@click.command("demo-calendar")
@click.option("--port", type=click.IntRange(0, 65535), help="Of the CRM.  [default: SERVER_PORT, 3000]")
@click.option("--calendar-port", type=click.IntRange(1, 65535), default=5232, show_default=True)
@data_dir_option
@click.pass_context
def demo_calendar(context: click.Context, port: int | None, calendar_port: int, data_dir: Path | None) -> None:
    """Serve the CRM with demo data, and beside it a CalDAV server with a calendar that is connected.

    Add the calendar (CalDAV) to a calendar program of this machine, such as Thunderbird. What you change there is in
    the CRM some seconds later, and what you change in the CRM is there.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    settings = read_settings(data_dir)
    if settings.production:
        raise click.ClickException("It is for development: ENVIRONMENT is production")
    port = free_port("127.0.0.1", settings.server_port if port is None else port)
    folder = Path(settings.crm_data_dir) / "calendar"
    password = _password(folder)
    try:
        with CalendarServer(folder, {USERNAME: password}, port=calendar_port) as server:
            url = server.make_calendar(USERNAME, CALENDAR, NAME)
            connecting = threading.Thread(target=_connect, args=(settings, port, url, password), daemon=True)
            connecting.start()
            context.invoke(serve, port=port, host="127.0.0.1", workers=1, migrate=False, demo=True, data_dir=data_dir)
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None


def _password(folder: Path) -> str:
    """The calendar's password: the same each time, since calendar programs remember it."""
    file = folder / "password"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(12))
    return file.read_text()


def _connect(settings: Settings, port: int, url: str, password: str) -> None:
    """Connect the calendar once the CRM accepts requests."""
    body = msgspec.json.encode({"url": url, "username": USERNAME, "password": password})
    token = make_token(settings, role=PERSON.role)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/admin/me/connections/caldav",
        body,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(request, timeout=START_SECONDS).close()  # noqa: S310 -- the service on this machine
        except urllib.error.HTTPError as error:
            click.echo(f"The calendar is not connected: {error.read().decode(errors='replace')}", err=True)
            return
        except OSError:
            time.sleep(0.2)
        else:
            click.echo(
                f"\n{PERSON.name}'s calendar is connected. In a calendar program of this machine:\n\n"
                f"  address    {url}\n  user name  {USERNAME}\n  password   {password}\n"
            )
            return
