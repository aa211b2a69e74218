"""Dates and times as people and other programs write them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from app.admin.imports.dates import DateOrder, read_date
from app.web.fields import Refused, read_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("cell", "order", "meant"),
    [
        ("2026-01-31", None, "2026-01-31"),
        ("2026-1-3", None, "2026-01-03"),
        ("20260131", None, "2026-01-31"),
        ("2026/01/31", None, "2026-01-31"),
        ("2026-01-31T09:30:00Z", None, "2026-01-31T09:30:00Z"),
        ("2026-01-31T09:30:00.250+02:00", None, "2026-01-31T07:30:00.250000Z"),
        ("2026-01-31T00:00:00Z", None, "2026-01-31T00:00:00Z"),
        ("2026-01-31 09:30", None, "2026-01-31T08:30:00Z"),
        ("2026-07-31 09:30", None, "2026-07-31T07:30:00Z"),
        ("2026-01-31 00:00:00", None, "2026-01-31"),
        ("31.01.2026", "dmy", "2026-01-31"),
        ("3.2.2026", "dmy", "2026-02-03"),
        ("3.2.2026", "mdy", "2026-03-02"),
        ("01/31/2026 2:30 PM", "mdy", "2026-01-31T13:30:00Z"),
        ("1/31/2026 12:05 am", "mdy", "2026-01-30T23:05:00Z"),
        ("1/31/2026 0:00", "mdy", "2026-01-31"),
        ("05/05/2026", None, "2026-05-05"),
        ("31-12-99", "dmy", "1999-12-31"),
        ("31-12-26", "dmy", "2026-12-31"),
        ("26-12-31", "ymd", "2026-12-31"),
        ("31 Jan 2026", None, "2026-01-31"),
        ("31-Jan-26", None, "2026-01-31"),
        ("January 31, 2026", None, "2026-01-31"),
        ("Sat, 31 Jan 2026 09:30:00 +0100", None, "2026-01-31T08:30:00Z"),
        ("Sept 1st, 2026", None, "2026-09-01"),
        ("9999-12-31", None, "9999-12-31"),
    ],
)
def test_a_date_is_read_as_it_was_meant(cell: str, order: str | None, meant: str) -> None:
    assert read_date(cell, DateOrder(order) if order else None, BERLIN) == meant
    read_time(meant)


@pytest.mark.parametrize(
    ("cell", "order", "said"),
    [
        ("02/03/2026", None, "date_order"),
        ("02/03/2026", "ymd", "date_order"),
        ("31/01/2026", "mdy", "has no month 31"),
        ("31.02.2026", "dmy", "does not exist"),
        ("2026-01-31 25:00", None, "does not exist"),
        ("2026-01-31 13:00 pm", None, "must be a date"),
        ("46053", None, "must be a date"),
        ("tomorrow", None, "must be a date"),
        ("31 Foo 2026", None, "does not exist"),
        ("31 Ma 2026", None, "must be a date"),
    ],
)
def test_what_is_no_date_is_refused_and_why(cell: str, order: str | None, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_date(cell, DateOrder(order) if order else None, BERLIN)
