"""Connected calendars as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from app.calendars.adapters import CalendarProvider
from app.web.structs import Body, View
from app.web.text import EXACT, LINE

Url = Annotated[str, Meta(min_length=1, max_length=2000, **LINE, examples=["https://cloud.example.com/remote.php/dav"])]
Username = Annotated[str, Meta(min_length=1, max_length=320, **LINE, examples=["ada@example.com"])]
Password = Annotated[str, Meta(min_length=1, max_length=1000, **EXACT)]


class ConnectionStatus(StrEnum):
    """Whether it is synced: it waits for its person to connect it again, or to say what becomes of what vanished."""

    ACTIVE = "active"
    NEEDS_RECONNECT = "needs_reconnect"
    NEEDS_CONFIRMATION = "needs_confirmation"


class Connection(View):
    """A calendar elsewhere that is kept equal to what I have to do. `vanished` is how many entries were gone there at
    once, of which I am asked; `last_error` says in words what did not work last.
    """

    id: int
    provider: CalendarProvider
    account: str
    calendar_name: str
    status: ConnectionStatus
    vanished: int | None
    last_error: str | None
    last_synced_at: datetime | None
    next_sync_at: datetime
    created_at: datetime


class AuthorizeUrl(Struct):
    """Where I consent. It is shown once, good for 10 minutes, and for me alone."""

    authorize_url: str | None


class CalDavConnect(Body, kw_only=True):
    """A calendar on a CalDAV server: its address, or the account's, whose first calendar it is then. Where there are
    passwords for apps, it takes one of those.
    """

    url: Url
    username: Username
    password: Password


class ConnectionFinish(Body, kw_only=True):
    """What the provider's page has sent me back with."""

    code: Annotated[str, Meta(min_length=1, max_length=4096, **EXACT)]
    state: Annotated[str, Meta(min_length=1, max_length=200, **EXACT)]


class ConnectionConfirm(Body, kw_only=True):
    """What becomes of the activities whose entries have vanished: they are cancelled, or else written there again."""

    apply: bool
