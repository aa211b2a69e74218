"""Series: from the text of a recurring event to its occurrences.

A rule may be made so that it takes for ever: one that never comes true, or comes true each second. Whoever may write
into a person's calendar may write such a rule, and so may whoever sends an invitation.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import recurring_ical_events
from dateutil.rrule import rrulestr
from icalendar import Calendar, Component, Event, vRecur

from app.calendars.entries import Window

FREQUENCIES = {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}
# Each of these may name one value: with more, there would be several occurrences a day.
WITHIN_DAY = ("BYHOUR", "BYMINUTE", "BYSECOND")
MOST_RULES, MOST_VALUES = 5, 100
# Of one text: how often its rules come true until now, and how many occurrences may be in sight.
MOST_DATES, MOST_OCCURRENCES = 40_000, 1000
# What clocks change by: one rule for each half of the year, for each time that the law was changed.
OBSERVANCES, MOST_ZONE_RULES = {"STANDARD", "DAYLIGHT"}, 50
OF_CLOCKS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "WKST"}
# A rule is followed for so long, except for one that is looked at year by year: some birthdays are of 1604.
LONGEST = timedelta(days=150 * 366)
# After so many years, the calendar repeats itself.
CYCLE = 400
DAY = timedelta(days=1)


def is_series(calendar: Calendar) -> bool:
    """Whether its event recurs, or it has changed occurrences of one that does."""
    events = calendar.events
    return len(events) > 1 or any(name in event for event in events for name in ("RRULE", "RDATE", "RECURRENCE-ID"))


def occurrences(calendar: Calendar, window: Window, zone: ZoneInfo) -> Iterator[tuple[str, Event]]:
    """The occurrences in a window, and what each is called: by when it was before somebody moved it. The calendar is
    changed. Raises ValueError for a rule that takes too long.
    """
    since, until = (moment.astimezone(zone) for moment in (window.since, window.series_until))
    if len(calendar.events) > MOST_OCCURRENCES or sum(_named(event) for event in calendar.events) > MOST_OCCURRENCES:
        raise ValueError("too many occurrences")
    if sum(len(_listed(event, "RRULE")) for event in calendar.events) > MOST_RULES:
        raise ValueError("too many rules")
    left = iter(range(MOST_DATES))
    for event in calendar.events:
        rules = _listed(event, "RRULE")
        event.pop("RRULE", None)
        starts = event.start
        clocks = starts.tzinfo or zone if isinstance(starts, datetime) else UTC
        first = _by(clocks, since) - (_naive(event.end) - _naive(starts)) - DAY
        # The library would try rules that never come true until the year 9999.
        dates: set[datetime] = set()
        for at in (at for rule in rules for at in _dates(rule, _naive(starts), _by(clocks, until), clocks)):
            if next(left, None) is None or len(dates) > MOST_OCCURRENCES:
                raise ValueError("too many occurrences")
            if at >= first:
                dates.add(at)
        if dates:
            event.add("rdate", [_like(starts, at) for at in sorted(dates)])
    for occurrence in recurring_ical_events.of(calendar).between(since, until):
        if isinstance(occurrence, Event):
            moved_from: Any = occurrence.get("RECURRENCE-ID")
            yield _name(occurrence.start if moved_from is None else moved_from.dt), occurrence


def _dates(rule: vRecur, starts: datetime, until: datetime, clocks: tzinfo) -> Iterator[datetime]:
    """When a rule comes true, by the clocks that the event goes by."""
    frequency, interval = str(rule.get("FREQ", [""])[0]).upper(), int(rule.get("INTERVAL", [1])[0])
    if frequency not in FREQUENCIES or interval < 1 or any(len(rule.get(name, [])) > 1 for name in WITHIN_DAY):
        raise ValueError("too often")
    if sum(len(values) for values in rule.values() if isinstance(values, list)) > MOST_VALUES:
        raise ValueError("too long")
    ends = rule.pop("UNTIL", [None])[0]
    if isinstance(ends, datetime):
        until = min(until, _by(clocks, ends) if ends.tzinfo else ends)
    elif isinstance(ends, date):
        until = min(until, datetime.combine(ends, time.max))
    if until < starts:
        return
    if until - starts > LONGEST and (frequency != "YEARLY" or "BYDAY" in rule):
        raise ValueError("too long ago")
    # As late as the calendar goes, so that there are few years left in which it may never come true.
    years = (date.max.year - until.year) // CYCLE * CYCLE
    untyped: Any = rule
    found = rrulestr(untyped.to_ical().decode(), dtstart=_in_year(starts, starts.year + years))
    last = _in_year(until, until.year + years)
    yield from (_in_year(at, at.year - years) for at in takewhile(lambda at: at <= last, found))


def check_zones(calendar: Calendar) -> None:
    """Refuse time zones whose clocks would take for ever to compute. Raises ValueError."""
    rules = [rule for each in calendar.walk() if each.name in OBSERVANCES for rule in _listed(each, "RRULE")]
    if len(rules) > MOST_ZONE_RULES or not all(_is_yearly(rule) for rule in rules):
        raise ValueError("the clocks change too often")


def _is_yearly(rule: vRecur) -> bool:
    """Whether it is a day of the year that there is."""
    days, weekdays = rule.get("BYMONTHDAY", []), [str(each) for each in rule.get("BYDAY", [])]
    ordinal = [each for each in weekdays if not each.isalpha()]
    return (
        set(rule) <= OF_CLOCKS
        and [str(each).upper() for each in rule.get("FREQ", [])] == ["YEARLY"]
        and all(len(rule.get(name, [])) <= 7 for name in OF_CLOCKS)
        and all(int(each) >= 1 for each in rule.get("INTERVAL", []))
        and all(1 <= int(month) <= 12 for month in rule.get("BYMONTH", []))
        and (not days or (not ordinal and min(abs(int(day)) for day in days) <= 28))
        and all(each.lstrip("+-")[0] in "12345" for each in ordinal)
    )


def _listed(event: Component, name: str) -> list[Any]:
    value: Any = event.get(name, [])
    return value if isinstance(value, list) else [value]


def _named(event: Event) -> int:
    """How many days the text names, one by one."""
    return sum(len(each.dts) for name in ("RDATE", "EXDATE") for each in _listed(event, name))


def _in_year(at: datetime, year: int) -> datetime:
    return at.replace(year=year)


def _by(clocks: tzinfo, moment: datetime) -> datetime:
    return moment.astimezone(clocks).replace(tzinfo=None)


def _naive(at: date) -> datetime:
    return at.replace(tzinfo=None) if isinstance(at, datetime) else datetime.combine(at, time.min)


def _like(starts: date, at: datetime) -> date:
    return at.replace(tzinfo=starts.tzinfo) if isinstance(starts, datetime) else at.date()


def _name(was: date) -> str:
    if not isinstance(was, datetime):
        return f"{was:%Y%m%d}"
    return f"{was:%Y%m%dT%H%M%S}" if was.tzinfo is None else f"{was.astimezone(UTC):%Y%m%dT%H%M%SZ}"
