"""Stopping mails by the link that is in each of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from msgspec import json
from sqlalchemy import Select, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from app.admin.mails.readers import Reader, find_reader
from app.db.database import Database
from app.db.session import Session
from app.locales import Locale
from app.mail.texts import TEXTS, Say
from app.mail.unsubscribing import DIGEST, Stop
from app.models import NotificationSettings, ReportSchedule

schedule = ReportSchedule.__table__.c
preferences = NotificationSettings.__table__.c

# What is changed is the person's doing.
AS_PERSON: Select[Any] = select(
    func.set_config("crm.user", bindparam("me"), True), func.set_config("crm.actor", bindparam("actor"), True)
)
_recipient = func.unnest(schedule.recipients).column_valued("recipient")
_others = select(_recipient).where(func.crm_fold_email(_recipient) != func.crm_fold_email(bindparam("address")))
LEAVE_REPORT = (
    update(ReportSchedule)
    .where(schedule.id == bindparam("schedule_id"))
    .values(recipients=func.array(_others.scalar_subquery(), type_=ARRAY(Text)))
)
STOP_KIND = (
    update(NotificationSettings)
    .where(preferences.user_id == bindparam("me", type_=Text))
    .values(emailed=func.array_remove(preferences.emailed, bindparam("what", type_=Text)))
)
STOP_DIGEST = (
    update(NotificationSettings).where(preferences.user_id == bindparam("me", type_=Text)).values(digest="none")
)


async def ask(database: Database, stop: Stop) -> str:
    """The page that asks. Raises AppError SERVICE_UNAVAILABLE."""
    async with database.in_tenant(stop.tenant) as session:
        reader = await _reader(session, stop)
    return _page(reader, stop, done=False)


async def stop(database: Database, stop: Stop) -> str:
    """Stop these mails, and say so; a second time changes nothing. Raises AppError SERVICE_UNAVAILABLE."""
    async with database.in_tenant(stop.tenant) as session:
        reader = await _reader(session, stop)
        actor: dict[str, Any] = {"operation_id": str(uuid4()), "via": "api"}
        if reader is not None:
            actor |= {
                "user_id": str(reader.user_id),
                "user_name": reader.name or reader.email,
                "user_role": reader.role,
            }
        me = "" if reader is None else str(reader.user_id)
        await session.execute(AS_PERSON, {"me": me, "actor": json.encode(actor).decode()})
        if stop.schedule is not None:
            await session.execute(LEAVE_REPORT, {"schedule_id": stop.schedule, "address": stop.address})
        elif stop.what == DIGEST:
            await session.execute(STOP_DIGEST, {"me": str(stop.user)})
        else:
            await session.execute(STOP_KIND, {"me": str(stop.user), "what": stop.what})
    return _page(reader, stop, done=True)


async def _reader(session: Session, stop: Stop) -> Reader | None:
    return await find_reader(session, user_id=stop.user, address=stop.address)


def _page(reader: Reader | None, stop: Stop, *, done: bool) -> str:
    # Inside the function, because a service whose links nobody follows need not load what makes pages.
    from app.mail.templates import render

    locale = Locale.ENGLISH if reader is None else reader.locale
    say = Say(locale)
    if stop.schedule is not None:
        question = say("unsubscribe_question_report", address=stop.address)
    else:
        specific = f"unsubscribe_question_{stop.what}"
        question = say(specific if specific in TEXTS else "unsubscribe_question")
    return render("unsubscribe.html", locale, {"question": question, "done": done})
