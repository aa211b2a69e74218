"""Dates and times as people and other programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

from app.web.fields import Refused

# Blanks have a bound, so that no text of many of them takes long.
TIME = r"(?:,?[T\s]{1,9}(?:at\s{1,9})?(?P<hour>\d{1,2}):(?P<minute>\d{2})"
TIME += r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
TIME += r"\s{0,9}(?P<half>[AaPp]\.?[Mm]\.?)?\s{0,9}(?P<zone>Z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?)?"
ISO = re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})" + TIME)
COMPACT = re.compile(
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
    r"(?:T?(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})(?P<fraction>)(?P<half>)(?P<zone>Z|[+-]\d{2}:?\d{2})?)?"
)
NUMBERS = re.compile(
    r"(?P<first>\d{1,4})(?P<between>[./-])\s?(?P<middle>\d{1,2})(?P=between)\s?(?P<last>\d{1,4})" + TIME
)
WEEKDAY = r"(?:[A-Za-z]{3,9}\.?,?\s{1,9})?"
DAY_FIRST = re.compile(
    WEEKDAY
    + r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?[\s-]{0,9}(?P<name>[A-Za-z]{3,9})\.?,?[\s-]{0,9}(?P<year>\d{4}|\d{2})"
    + TIME
)
MONTH_FIRST = re.compile(
    WEEKDAY + r"(?P<name>[A-Za-z]{3,9})\.?\s{1,9}(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s{1,9}(?P<year>\d{4})" + TIME
)
MONTHS = "january february march april may june july august september october november december".split()
# Two digits of a year are of 1969 to 2068, as POSIX has it.
PIVOT = 69
LONGEST = 60
HELP = "must be a date, such as 2026-01-31, or a date with a time"


class DateOrder(StrEnum):
    """What comes first in a date of numbers: the year, the day or the month."""

    YMD = "ymd"
    DMY = "dmy"
    MDY = "mdy"


def read_date(cell: str, order: DateOrder | None, zone: ZoneInfo) -> str:
    """The date as YYYY-MM-DD, or the time in RFC 3339. A time without an offset is one of this zone, and midnight
    without one is the day: spreadsheets write it so. Raises Refused.
    """
    if len(cell) > LONGEST:
        raise Refused(HELP)
    if found := ISO.fullmatch(cell) or COMPACT.fullmatch(cell):
        return _moment(found, int(found["year"]), int(found["month"]), int(found["day"]), zone)
    if found := NUMBERS.fullmatch(cell):
        return _moment(found, *_in_order(found["first"], found["middle"], found["last"], order), zone)
    if found := DAY_FIRST.fullmatch(cell) or MONTH_FIRST.fullmatch(cell):
        name = found["name"].lower()
        # Sept. is short for it, too.
        name = "sep" if name == "sept" else name
        month = next((number for number, month in enumerate(MONTHS, 1) if month.startswith(name)), 0)
        return _moment(found, _year(found["year"]), month, int(found["day"]), zone)
    raise Refused(HELP)


def _in_order(first: str, second: str, third: str, order: DateOrder | None) -> tuple[int, int, int]:
    """Year, month and day."""
    if len(first) == 4 or (order is DateOrder.YMD and len(third) <= 2):
        return _year(first), int(second), int(third)
    if first == second:
        return _year(third), int(first), int(second)
    if order is None or order is DateOrder.YMD:
        raise Refused("can be read in several ways: say with date_order whether the day or the month comes first")
    day, month = (first, second) if order is DateOrder.DMY else (second, first)
    if int(month) > 12:
        name = "day" if order is DateOrder.DMY else "month"
        raise Refused(f"has no month {int(month)}: the dates of this file are read with the {name} first (date_order)")
    return _year(third), int(month), int(day)


def _year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year >= PIVOT else 2000)


def _moment(found: re.Match[str], year: int, month: int, day: int, zone: ZoneInfo) -> str:
    offset = _offset(found["zone"])
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    half = (found["half"] or "").lower()[:1]
    if half and not 1 <= hour <= 12:
        raise Refused(HELP)
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=offset or zone)
        moment += timedelta(microseconds=int((found["fraction"] or "").ljust(6, "0")[:6]))
        if offset is None and not (hour or minute or second):
            return f"{year:04}-{month:02}-{day:02}"
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise Refused("is a day or a time that does not exist") from None


def _offset(text: str | None) -> tzinfo | None:
    if not text:
        return None
    if text in {"Z", "UTC", "GMT"}:
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    try:
        return timezone(-offset if text[0] == "-" else offset)
    except ValueError:
        raise Refused(HELP) from None
