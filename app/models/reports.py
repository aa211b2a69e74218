"""Reports that are made again and again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Record, UserReference


class ReportSchedule(Record):
    """A report, and when it is made. It is made as the person who made the schedule."""

    __tablename__ = "report_schedules"

    name: Mapped[str | None] = mapped_column(String(255))
    report: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    from_: Mapped[str | None] = mapped_column("from", Text)
    to: Mapped[str | None] = mapped_column(Text)
    owner_id: Mapped[int | str | None] = mapped_column(UserReference)
    every: Mapped[str] = mapped_column(Text)
    at: Mapped[str] = mapped_column(Text)
    weekday: Mapped[int | None] = mapped_column(SmallInteger)
    day: Mapped[int | None] = mapped_column(SmallInteger)
    recipients: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    user_id: Mapped[int | str] = mapped_column(UserReference)
    user_name: Mapped[str | None] = mapped_column(Text)
    user_role: Mapped[str] = mapped_column(Text)
    # The database keeps both: when the next run is due, and the job of the last.
    due_at: Mapped[datetime]
    last_job_id: Mapped[int | None] = mapped_column(BigInteger)
