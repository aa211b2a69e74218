"""Mails with one notification."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Text, bindparam, select
from sqlalchemy.types import BigInteger

from app.access.permissions import Permission
from app.admin.mails.links import link_to
from app.admin.mails.readers import Reader, find_reader
from app.admin.notifications.queries import COLUMNS, Told
from app.db.database import Database
from app.mail.messages import Recipient, Written
from app.mail.outbox import Mail
from app.mail.sender import DropError
from app.mail.templates import as_text, render
from app.mail.unsubscribing import Stop, stop_link
from app.models import Notification, NotificationSettings
from app.records.json_columns import selected
from app.records.transaction import reading
from app.sentences import sentence
from app.settings import Settings

c = Notification.__table__.c
preferences = NotificationSettings.__table__.c

ONE: Select[Any] = select(*selected(COLUMNS)).where(
    c.user_id == bindparam("me", type_=Text), c.id == bindparam("notification_id", type_=BigInteger)
)
WANTED: Select[Any] = select(preferences.emailed).where(preferences.user_id == bindparam("me", type_=Text))


class NotificationMails:
    """Writes them, as the person who is told: a title that they may not see is not there."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def write(self, tenant: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where the person has read it, or is not to get it any more; and AppError."""
        async with self._database.in_tenant(tenant) as session:
            reader = await find_reader(session, user_id=mail.user_id)
        if reader is None or reader.email is None:
            raise DropError("The person is shut out, or has no address")
        me = {"me": str(reader.user_id)}
        async with reading(self._database, reader.actor(tenant)) as tx:
            row = (await tx.connection.execute(ONE, me | {"notification_id": mail.about["notification"]})).first()
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
