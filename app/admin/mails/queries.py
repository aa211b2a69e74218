"""Whom a report is mailed to once it is made."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Select, bindparam, select

from app.mail import outbox
from app.models import ReportSchedule
from app.records.transaction import Transaction

REPORT = "report"

c = ReportSchedule.__table__.c
RUN_BY: Select[Any] = select(c.id, c.recipients).where(c.last_job_id == bindparam("job_id"))


class Mailing(Struct, frozen=True):
    """The schedule that a report is made for, and whom it is mailed to."""

    schedule_id: int
    recipients: list[str]


async def mailing_of(tx: Transaction, job_id: int) -> Mailing | None:
    """Whom the report of this job is mailed to; None if nobody."""
    row = (await tx.connection.execute(RUN_BY, {"job_id": job_id})).first()
    return Mailing(*row) if row is not None and row[1] else None


async def mail_report(tx: Transaction, job_id: int, mailing: Mailing) -> None:
    """Mail the report that a job has made, once this transaction is committed."""
    about = {"job": job_id, "schedule": mailing.schedule_id}
    await outbox.make(tx, REPORT, str(job_id), about, mailing.recipients)
