"""Mails with a report that is made again and again."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import json
from sqlalchemy import Select, Text, any_, bindparam, func, select

from app.admin.mails.readers import Reader, find_reader
from app.admin.mails.report_tables import Layout, report_tables
from app.admin.report_runs.schemas import ReportName
from app.db.database import Database
from app.mail.messages import Attached, Recipient, Written
from app.mail.outbox import Mail
from app.mail.sender import DropError
from app.mail.templates import as_text, render
from app.mail.unsubscribing import Stop, stop_link
from app.models import Job, JobFile, PipelineStage
from app.models import ReportSchedule as Row
from app.settings import Settings

DOCUMENT: json.Decoder[Any] = json.Decoder(float_hook=Decimal)

c = Row.__table__.c
file = JobFile.__table__.c
job = Job.__table__.c
stage = PipelineStage.__table__.c

STAGES: Select[Any] = select(stage.name, stage.display_name)
REPORT: Select[Any] = (
    select(c.name, c.report, c.user_name, file.name.label("file_name"), file.content_type, file.content)
    .add_columns(func.coalesce(file.document, file.content).label("document"), job.finished_at)
    .join_from(JobFile, Job, (job.tenant_id == file.tenant_id) & (job.id == file.job_id))
    .join(Row, c.tenant_id == file.tenant_id)
    .where(file.job_id == bindparam("job_id"), c.id == bindparam("schedule_id"))
    .where(bindparam("address", type_=Text) == any_(c.recipients))
)


class ReportMails:
    """Writes them: a readable table, and the file."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def write(self, tenant: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where the report, or the person, is not there any more; and AppError."""
        given = {"job_id": mail.about["job"], "schedule_id": mail.about["schedule"], "address": mail.address}
        async with self._database.in_tenant(tenant) as session:
            reader = await find_reader(session, address=mail.address)
            if reader is None:
                raise DropError("Nobody of the organization has this address any more")
            row = (await session.execute(REPORT, given)).mappings().first()
            if row is None:
                raise DropError("The report or its recipient is not there any more")
            stages = dict((await session.execute(STAGES)).all())
        if row["document"] is None:
            raise DropError("The report named somebody who was erased since")
        stop = stop_link(self._settings, Stop(tenant, schedule=mail.about["schedule"], address=mail.address))
        return _written(dict(row), reader, stages, stop), Recipient(str(mail.address), reader.name)


def _written(row: dict[str, Any], reader: Reader, stages: dict[str, str], unsubscribe: str | None) -> Written:
    locale, say = reader.locale, reader.say
    report = ReportName(row["report"])
    title = row["name"] or say(report.value)
    made_at: datetime = row["finished_at"]
    document = DOCUMENT.decode(row["document"])
    subject = f"{title}: {locale.day(made_at.astimezone(reader.zone).date())}"
    values = {
        "subject": subject,
        "title": title,
        "hello": reader.greeting(),
        "intro": say("report_intro", report=say(report.value), moment=locale.moment(made_at, reader.zone)),
        "tables": report_tables(report, document, Layout(locale, say, reader.currency, stages)),
        "why": say("why_report", owner=row["user_name"] or say("a_colleague")),
        "unsubscribe": unsubscribe,
    }
    return Written(
        subject=subject,
        text=as_text("report.txt", locale, values),
        html=render("report.html", locale, values),
        locale=locale.value,
        unsubscribe=unsubscribe,
        file=Attached(row["file_name"], row["content_type"], row["content"]),
    )
