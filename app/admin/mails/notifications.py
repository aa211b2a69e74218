"""Mails with one notification."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.types import BigInteger

from app.access.permissions import Permission
from app.admin.activities import queries as activities
from app.admin.deals import queries as deals
from app.admin.mails.links import link_to
from app.admin.mails.readers import Reader, find_reader
from app.admin.notifications.queries import COLUMNS, Told
from app.admin.projects import queries as projects
from app.db.database import Database
from app.mail.messages import Recipient, Written
from app.mail.outbox import Mail
from app.mail.sender import DropError
from app.mail.templates import as_text, render
from app.mail.unsubscribing import Stop, stop_link
from app.models import Activity, Customer, Deal, Notification, NotificationSettings, Project
from app.records.json_columns import selected
from app.records.resources import RESOURCES, Resource
from app.records.transaction import reading
from app.sentences import sentence
from app.settings import Settings

Row = Notification.__table__
c = Row.c
activity, customer, deal, project = (each.__table__.c for each in (Activity, Customer, Deal, Project))
preferences = NotificationSettings.__table__.c

ONE: Select[Any] = select(*selected(COLUMNS)).where(
    c.user_id == bindparam("me", type_=Text), c.id == bindparam("notification_id", type_=BigInteger)
)
REMINDER, OVERDUE = literal_column("'reminder'", Text), literal_column("'overdue'", Text)
# By kind of record: whose it is, when there is a reminder, when it is due, and whether it is still to be done.
PLANNED = {
    "activity": (activity.assigned_to, activity.remind_at, activity.due_date, activities.IS_OPEN),
    "customer": (customer.assigned_to, customer.next_follow_up_at, null(), true()),
    "deal": (deal.owner_id, deal.expected_close_date, null(), deals.IS_OPEN),
    "project": (project.owner_id, null(), project.due_date, projects.IS_OPEN),
}


def _is_over(resource: Resource) -> ColumnElement[bool]:
    """Whether there is nothing to tell any more: the record is in the trash or gone, and what was planned is done,
    somebody else's, or for another time.
    """
    columns = resource.table.c
    over: ColumnElement[bool] = columns.deleted_at.is_not(None)
    if resource.kind in PLANNED:
        owner, reminded, due, is_open = PLANNED[resource.kind]
        moment = func.extract("epoch", case((c.kind == REMINDER, reminded), else_=due))
        key = func.concat_ws(literal_column("'/'"), c.kind, c.resource_type, c.resource_id, moment)
        is_planned = and_(cast(owner, Text) == cast(c.user_id, Text), is_open, c.key == key)
        over = or_(over, and_(c.kind.in_((REMINDER, OVERDUE)), is_planned.is_not(true())))
    found = select(over).where(columns.id == c.resource_id).correlate(Row).scalar_subquery()
    return func.coalesce(found, true())


_overs = (
    (c.resource_type == literal_column(f"'{each.kind}'", Text), _is_over(each)) for each in RESOURCES if each.has_trash
)
IS_OVER: Select[Any] = select(case(*_overs, else_=false())).where(
    c.id == bindparam("notification_id", type_=BigInteger)
)
WANTED: Select[Any] = select(preferences.emailed).where(preferences.user_id == bindparam("me", type_=Text))


class NotificationMails:
    """Writes them, as the person who is told: a title that they may not see is not there."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def write(self, tenant: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where the person has read it, or is not to get it any more; and AppError."""
        about = {"notification_id": mail.about["notification"]}
        async with self._database.in_tenant(tenant) as session:
            reader = await find_reader(session, user_id=mail.user_id)
            is_over = (await session.execute(IS_OVER, about)).scalar_one_or_none()
        if reader is None or reader.email is None:
            raise DropError("The person is shut out, or has no address")
        if is_over:
            raise DropError("It is done, moved or in the trash")
        me = {"me": str(reader.user_id)}
        async with reading(self._database, reader.actor(tenant)) as tx:
            row = (await tx.connection.execute(ONE, me | about)).first()
            wanted = (await tx.connection.execute(WANTED, me)).scalar_one_or_none() or ()
        if row is None:
            raise DropError("What it is about is not there any more")
        told = Told(*row)
        if told.read_at is not None:
            raise DropError("The person has read it")
        if told.kind not in wanted:
            raise DropError("The person wants no mails of this kind any more")
        return self._written(tenant, reader, told), Recipient(reader.email, reader.name)

    def _written(self, tenant: str, reader: Reader, told: Told) -> Written:
        locale, say = reader.locale, reader.say
        text = said(reader, told)
        stop = stop_link(self._settings, Stop(tenant, user=reader.user_id, what=told.kind))
        values = {
            "subject": text,
            "hello": reader.greeting(),
            "sentence": text,
            "moment": locale.moment(told.at, reader.zone),
            "link": link_to(self._settings, told.resource_type, told.resource_id),
            "why": say("why_notification"),
            "unsubscribe": stop,
        }
        return Written(
            subject=text,
            text=as_text("notification.txt", locale, values),
            html=render("notification.html", locale, values),
            locale=locale.value,
            unsubscribe=stop,
            record=(told.resource_type, told.resource_id),
        )


def said(reader: Reader, told: Told) -> str:
    """What a notification says to this person."""
    # The address of a webhook is for those who may change it.
    hidden = told.resource_type == "webhook" and not reader.actor("").can(Permission.CONFIGURE)
    title = None if hidden else told.title
    zone, locale = reader.zone, reader.locale
    return sentence(locale, zone, told.kind, told.resource_type, actor=told.actor_name, title=title, data=told.data)
