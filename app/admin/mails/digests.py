"""Digests: what a person has to do today or this week, what is late, and what they have not read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Select, Text, bindparam, func, select

from app.admin.calendar.queries import SOURCES, Found
from app.admin.calendar.schemas import CalendarKind
from app.admin.mails.links import link_to
from app.admin.mails.notifications import said
from app.admin.mails.readers import Reader, find_reader
from app.admin.notifications.queries import COLUMNS, Told
from app.db.database import Database
from app.mail.messages import Recipient, Written
from app.mail.outbox import Mail
from app.mail.sender import DropError
from app.mail.templates import as_text, render
from app.mail.unsubscribing import DIGEST, Stop, stop_link
from app.models import Notification, NotificationSettings
from app.records.calendar import first_moment, last_moment, midnight
from app.records.json_columns import selected
from app.records.transaction import Transaction, reading
from app.settings import Settings

# Of each kind so many are read, and of each part so many shown.
MOST_READ, MOST_SHOWN, MOST_UNREAD = 100, 12, 5
# What is late for longer is left to the console.
LATE_DAYS = timedelta(days=60)
OPEN = frozenset({"scheduled", "overdue"})

c = Notification.__table__.c
preferences = NotificationSettings.__table__.c

_unread = (c.user_id == bindparam("me", type_=Text), c.in_app, c.read_at.is_(None))
UNREAD: Select[Any] = select(*selected(COLUMNS)).where(*_unread).order_by(c.at.desc(), c.id.desc()).limit(MOST_UNREAD)
COUNT: Select[Any] = select(func.count()).where(*_unread)
WANTED: Select[Any] = select(preferences.digest).where(preferences.user_id == bindparam("me", type_=Text))


class Item(Struct, frozen=True):
    """A line of a digest."""

    when: str | None
    what: str | None
    title: str
    customer: str | None = None
    link: str | None = None


class Part(Struct, frozen=True):
    """Lines under a title, of so many in all."""

    title: str
    entries: list[Item]
    total: int
    is_late: bool = False


class DigestMails:
    """Writes them, as the person who gets them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def write(self, tenant: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where there is nothing to tell, or the person is not to get it any more; and AppError."""
        async with self._database.in_tenant(tenant) as session:
            reader = await find_reader(session, user_id=mail.user_id)
        if reader is None or reader.email is None:
            raise DropError("The person is shut out, or has no address")
        first = date.fromisoformat(mail.about["day"])
        weekly = mail.about["digest"] == "weekly"
        async with reading(self._database, reader.actor(tenant)) as tx:
            wanted = (await tx.connection.execute(WANTED, {"me": str(reader.user_id)})).scalar_one_or_none()
            if wanted in {None, "none"}:
                raise DropError("The person wants no digests any more")
            parts = await self._parts(tx, reader, first, weekly=weekly)
        if not parts:
            raise DropError("There is nothing to tell")
        return self._written(tenant, reader, first, parts, weekly=weekly), Recipient(reader.email, reader.name)

    async def _parts(self, tx: Transaction, reader: Reader, first: date, *, weekly: bool) -> list[Part]:
        say = reader.say
        last = first + timedelta(days=6) if weekly else first
        late = await _entries(tx, reader.zone, first - LATE_DAYS, first - timedelta(days=1))
        coming = await _entries(tx, reader.zone, first, last)
        late = [each for each in late if each.found.status == "overdue"]
        coming = [each for each in coming if each.found.status in OPEN]
        me = {"me": str(reader.user_id)}
        unread = [Told(*row) for row in await tx.connection.execute(UNREAD, me)]
        count = int((await tx.connection.execute(COUNT, me)).scalar_one())
        told = [
            Item(
                when=None,
                what=None,
                title=said(reader, each),
                link=link_to(self._settings, each.resource_type, each.resource_id),
            )
            for each in unread
        ]
        parts = [
            Part(
                say("digest_week" if weekly else "digest_today"),
                self._items(reader, coming, days=weekly),
                len(coming),
            ),
            Part(say("digest_late"), self._items(reader, late, days=True), len(late), is_late=True),
            Part(say("digest_unread"), told, count),
        ]
        return [part for part in parts if part.entries]

    def _items(self, reader: Reader, entries: Sequence[_Entry], *, days: bool) -> list[Item]:
        return [
            Item(
                when=_when(reader, entry.found, days=days),
                what=reader.say(f"entry.{entry.found.activity_type or entry.kind}"),
                title=entry.found.title,
                customer=entry.found.customer_name if entry.kind is not CalendarKind.FOLLOW_UP else None,
                link=link_to(self._settings, entry.resource, entry.found.id),
            )
            for entry in entries[:MOST_SHOWN]
        ]

    def _written(self, tenant: str, reader: Reader, first: date, parts: Sequence[Part], *, weekly: bool) -> Written:
        locale, say = reader.locale, reader.say
        title = say("digest_weekly" if weekly else "digest_daily", day=locale.day(first))
        stop = stop_link(self._settings, Stop(tenant, user=reader.user_id, what=DIGEST))
        values = {
            "subject": title,
            "title": title,
            "hello": reader.greeting(),
            "parts": parts,
            "console": self._settings.console_url or None,
            "why": say("why_digest"),
            "unsubscribe": stop,
        }
        return Written(
            subject=title,
            text=as_text("digest.txt", locale, values),
            html=render("digest.html", locale, values),
            locale=locale.value,
            unsubscribe=stop,
        )


class _Entry(NamedTuple):
    """An entry of the person's calendar."""

    kind: CalendarKind
    resource: str
    found: Found


async def _entries(tx: Transaction, zone: ZoneInfo, first: date, last: date) -> list[_Entry]:
    """What begins on these days, in its order of time."""
    since, until = first_moment(first, zone), last_moment(last, zone)
    given = {
        "people": [tx.actor.user_id],
        "most": MOST_READ,
        "since": since,
        "since_day": midnight(first),
        "earliest": min(since, midnight(first)),
        "until": until,
        "until_day": midnight(last),
        "latest": max(until, midnight(last)),
    }
    found = [
        _Entry(source.kind, source.resource.kind, Found(*row))
        for source in SOURCES
        for row in await tx.connection.execute(source.rows, given)
    ]
    return sorted(found, key=lambda entry: (entry.found.starts_at, entry.kind, entry.found.id))


def _when(reader: Reader, found: Found, *, days: bool) -> str | None:
    """The time of day, and the day where it is not today."""
    day = found.starts_at.date() if found.all_day else found.starts_at.astimezone(reader.zone).date()
    time = None if found.all_day else reader.locale.time(found.starts_at, reader.zone)
    shown = [reader.locale.short_day(day)] if days else []
    return " ".join([*shown, *([time] if time else [])]) or None
