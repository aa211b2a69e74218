"""Schedules of reports as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, Select, Text, bindparam, func, select

from app.admin.report_schedules.schemas import ReportSchedule
from app.models import Job, User
from app.models import ReportSchedule as Row
from app.records import resources
from app.records.json_columns import selected, view_columns
from app.records.repository import Repository

c = Row.__table__.c
job = Job.__table__.c
user = User.__table__.c

COLUMNS = view_columns(
    ReportSchedule,
    Row.__table__,
    next_run_at=c.due_at,
    # Null again once the job is no longer kept.
    last_run=select(job.id).where(job.id == c.last_job_id).scalar_subquery(),
)
REPORT_SCHEDULES = Repository(resources.REPORT_SCHEDULES, ReportSchedule, COLUMNS)
ALL: Select[Any] = select(*selected(COLUMNS)).order_by(c.id)
# Which of these addresses nobody of the organization has.
_given = func.unnest(bindparam("given", type_=ARRAY(Text))).column_valued("given")
UNKNOWN_RECIPIENTS: Select[Any] = select(_given).where(
    ~select(user.id).where(func.crm_fold_email(user.email) == func.crm_fold_email(_given)).exists()
)
