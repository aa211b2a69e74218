"""A CalDAV server of one's own, for development and tests: Radicale keeps calendars in a folder."""

from __future__ import annotations

import base64
import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote
from xml.sax.saxutils import escape

from app.dev.servers import START_SECONDS, EmbeddedError, free_port

CONFIGURATION = """\
[server]
hosts = 127.0.0.1:{port}
max_connections = 20
[auth]
type = htpasswd
htpasswd_filename = {folder}/people
htpasswd_encryption = plain
delay = 0
[rights]
type = owner_only
[storage]
filesystem_folder = {folder}/calendars
[logging]
level = warning
"""
NEW_CALENDAR = """\
<?xml version="1.0" encoding="utf-8"?>
<C:mkcalendar xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:set><D:prop>
<D:displayname>{name}</D:displayname>
<C:supported-calendar-component-set><C:comp name="VEVENT"/></C:supported-calendar-component-set>
</D:prop></D:set></C:mkcalendar>
"""


class CalendarServer:
    """Radicale, on this machine only, for these people: their user names and passwords."""

    def __init__(self, folder: Path, people: Mapping[str, str], *, port: int | None = None) -> None:
        if importlib.util.find_spec("radicale") is None:
            raise EmbeddedError("The calendar server is not installed: uv sync --extra embedded")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self.people = people
        self.port = port or free_port()
        # What Python runs.
        self.program: tuple[str, ...] = ("-m", "radicale")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of everybody's account."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers. Raises EmbeddedError."""
        passwords = self._folder / "people"
        passwords.touch(mode=0o600)
        passwords.write_text("".join(f"{name}:{password}\n" for name, password in self.people.items()))
        settings = CONFIGURATION.format(port=self.port, folder=self._folder)
        (self._folder / "radicale.conf").write_text(settings)
        log = self._folder / "radicale.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- a module of our own, with arguments of our own
                [sys.executable, *self.program, "--config", str(self._folder / "radicale.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise EmbeddedError(f"The calendar server does not start; its log is {log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it. Its calendars stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def make_calendar(self, person: str, calendar: str, name: str) -> str:
        """A new calendar of a person's, unless it is there: its address."""
        url = f"{self.url}{quote(person)}/{calendar}/"
        if not (self._folder / "calendars" / "collection-root" / person / calendar).exists():
            login = base64.b64encode(f"{person}:{self.people[person]}".encode()).decode()
            request = urllib.request.Request(  # noqa: S310 -- the address of our own server
                url,
                NEW_CALENDAR.format(name=escape(name)).encode(),
                {"Authorization": f"Basic {login}", "Content-Type": "application/xml"},
                method="MKCALENDAR",
            )
            urllib.request.urlopen(request, timeout=START_SECONDS).close()  # noqa: S310 -- likewise
        return url

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True
