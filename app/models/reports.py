"""Reports that are made again and again, and what reports add up."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ARRAY, BigInteger, Identity, Integer, Numeric, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Record, UserReference


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


class ReportChange(Base):
    """What a statement changed in a series that reports add up. Triggers append it, and `crm_fold_report_changes` adds
    it to the sums.
    """

    __tablename__ = "report_changes"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    series: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    person: Mapped[str]
    hour: Mapped[int] = mapped_column(Integer)
    whole_day: Mapped[bool]
    facet: Mapped[str]
    part: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(Numeric)
    weighted: Mapped[Decimal] = mapped_column(Numeric)
    closed: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[Decimal] = mapped_column(Numeric)


class ReportSum(Base):
    """A series added up over a span of hours: of everybody, or of one person."""

    __tablename__ = "report_sums"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    series: Mapped[str] = mapped_column(primary_key=True)
    by_person: Mapped[bool] = mapped_column(primary_key=True)
    span: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    person: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    whole_day: Mapped[bool] = mapped_column(primary_key=True)
    facet: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(Numeric)
    weighted: Mapped[Decimal] = mapped_column(Numeric)
    closed: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[Decimal] = mapped_column(Numeric)


class CustomerValue(Base):
    """What a customer's live deals are worth in a currency, and how many it has in all. Every customer with deals has a
    row for the currency '', of value 0.
    """

    __tablename__ = "customer_values"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    currency: Mapped[str] = mapped_column(String(3), primary_key=True)
    value: Mapped[Decimal] = mapped_column(Numeric)
    deals: Mapped[int] = mapped_column(BigInteger)
    assigned_to: Mapped[str | None]
    newest_at: Mapped[datetime | None]
    newest_id: Mapped[int | None] = mapped_column(BigInteger)
