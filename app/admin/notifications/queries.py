"""Notifications as the database reads them: a person's own only."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger, DateTime

from app.admin.notifications.schemas import NotificationQuery
from app.locales import Locale
from app.models import CalendarConnection, Import, TenantSettings, Webhook
from app.models import Notification as Row
from app.models import NotificationSettings as Preferences
from app.records.filters import Filter, flagged, user_in
from app.records.json_columns import selected, view_columns
from app.records.listing import Listing
from app.records.resources import RESOURCES, Resource
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder
from app.web.structs import View

c = Row.__table__.c
connection = CalendarConnection.__table__.c
imports = Import.__table__.c
preferences = Preferences.__table__.c


class Told(View):
    """A notification as it is stored, and what its record is called."""

    id: int
    kind: str
    at: datetime
    read_at: datetime | None
    actor_id: int | str | None
    actor_name: str | None
    resource_type: str
    resource_id: int
    data: dict[str, Any]
    title: str | None


class Reader(NamedTuple):
    """What a person reads notifications in."""

    locale: Locale
    zone: ZoneInfo


def _of(resource: Resource) -> ColumnElement[Any]:
    columns = resource.table.c
    live = [columns.deleted_at.is_(None)] if resource.has_trash else []
    found = select(resource.shown_title).where(columns.id == c.resource_id, *live)
    return found.correlate(Row).scalar_subquery()


def _title() -> ColumnElement[Any]:
    """What the record is called, for who may see it."""
    titles: dict[str, ColumnElement[Any]] = {each.kind: _of(each) for each in RESOURCES if each.title}
    titles["webhook"] = select(Webhook.url).where(Webhook.id == c.resource_id).correlate(Row).scalar_subquery()
    titles["import"] = select(imports.file_name).where(imports.id == c.resource_id).correlate(Row).scalar_subquery()
    titles["connection"] = (
        select(connection.calendar_name).where(connection.id == c.resource_id).correlate(Row).scalar_subquery()
    )
    whens = ((c.resource_type == literal_column(f"'{kind}'", Text), title) for kind, title in titles.items())
    return func.nullif(case(*whens, else_=null()), "", type_=Text())


def _shown_to() -> Filter:
    """What is shown to a person: what is only mailed is not."""
    of_person = user_in(c.user_id)
    return of_person._replace(
        clause=lambda name, variant: and_(of_person.clause(name, variant), c.in_app), column=c.user_id
    )


COLUMNS = view_columns(Told, Row.__table__, title=_title())
LISTING = Listing(
    "notifications",
    Told,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=NotificationQuery,
    filters={"unread": flagged(c.read_at.is_(None))},
    scope={"of": _shown_to()},
    default_sort=("at", SortOrder.DESC),
)
OF_ME = {"of": ["me"]}
_mine = (c.user_id == bindparam("user_id", type_=Text), c.in_app)
ONE: Select[Any] = select(*selected(COLUMNS)).where(*_mine, c.id == bindparam("notification_id", type_=BigInteger))
READ = (
    update(Row)
    .where(*_mine, c.id == bindparam("notification_id", type_=BigInteger), c.read_at.is_(None))
    .values(read_at=func.now())
)
_read = (
    update(Row)
    .where(*_mine, c.at <= bindparam("until", type_=DateTime(timezone=True)), c.read_at.is_(None))
    .values(read_at=func.now())
    .returning(c.id)
    .cte("read")
)
READ_UNTIL: Select[Any] = select(func.count()).select_from(_read)
READER: Select[Any] = select(
    preferences.locale,
    func.coalesce(preferences.timezone, select(TenantSettings.timezone).scalar_subquery(), type_=Text()),
).where(preferences.user_id == bindparam("user_id", type_=Text))

# Whoever is told of one thing after the other by the same action, is told once, of how many there are.
TELL = text("""
    INSERT INTO notifications (
        tenant_id, user_id, kind, key, actor_id, actor_name, resource_type, resource_id, data, in_app, by_email
    )
    SELECT current_setting('crm.tenant'), told.user_id, kind, key, actor_id, actor_name, resource_type, resource_id,
        data, coalesce(kind <> ALL (hidden), true), coalesce(kind = ANY (emailed), false)
    FROM jsonb_to_recordset(:told) AS told (
        user_id text, kind text, key text, actor_id text, actor_name text, resource_type text, resource_id bigint,
        data jsonb
    ) LEFT JOIN notification_settings AS person ON person.user_id = told.user_id
    WHERE (kind <> ALL (hidden) OR kind = ANY (emailed)) IS NOT FALSE
    ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET data = jsonb_set(notifications.data, '{count}',
        to_jsonb(CAST(notifications.data ->> 'count' AS bigint) + CAST(excluded.data ->> 'count' AS bigint)))
    WHERE notifications.kind = excluded.kind AND notifications.data ? 'count'
""").bindparams(bindparam("told", type_=JSONB))


async def reader_of(tx: Transaction) -> Reader:
    """The language and the timezone of the person who asks."""
    locale, zone = (await tx.connection.execute(READER, {"user_id": tx.actor.user_id})).one()
    return Reader(Locale(locale), ZoneInfo(zone))


async def get(tx: Transaction, notification_id: int) -> Told:
    """Raises AppError NOTIFICATION_NOT_FOUND, also for somebody else's."""
    given = {"user_id": tx.actor.user_id, "notification_id": notification_id}
    row = (await tx.connection.execute(ONE, given)).one_or_none()
    if row is None:
        raise AppError(Code.NOTIFICATION_NOT_FOUND)
    return Told(*row)


async def read(tx: Transaction, notification_id: int) -> None:
    """Note that the person has read it, unless that is known."""
    await tx.connection.execute(READ, {"user_id": tx.actor.user_id, "notification_id": notification_id})


async def read_until(tx: Transaction, until: datetime) -> int:
    """Note that the person has read all up to this time; returns how many that changes."""
    given = {"user_id": tx.actor.user_id, "until": until}
    return int((await tx.connection.execute(READ_UNTIL, given)).scalar_one())
