"""What our iCalendar texts (RFC 5545) have in common, whoever reads them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from icalendar import Timezone, TimezoneDaylight, TimezoneStandard

NOTHING, SECOND, DAY = timedelta(), timedelta(seconds=1), timedelta(days=1)
BREAKS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# iCalendar has no other control characters than tabs and line breaks.
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Text without what iCalendar does not allow, or what would end a line for some readers."""
    return CONTROLS.sub("", BREAKS.sub("\n", text))


def vtimezone(zone: ZoneInfo, first: date, last: date) -> Timezone:
    """What this zone's clocks show in these days. The library's own description leaves out changes that follow each
    other within weeks, such as those of Morocco.
    """
    timezone = Timezone()
    timezone.add("tzid", zone.key)
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC)
    timezone.add_component(_observance(moment.astimezone(zone), moment.astimezone(zone)))
    while moment.date() < last:
        if moment.astimezone(zone).utcoffset() != (moment + DAY).astimezone(zone).utcoffset():
            change = _change(zone, moment, moment + DAY)
            timezone.add_component(_observance((change - SECOND).astimezone(zone), change.astimezone(zone)))
        moment += DAY
    return timezone


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second between these two in which the clocks change."""
    old = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        between = before + (after - before) // 2 // SECOND * SECOND
        before, after = (between, after) if between.astimezone(zone).utcoffset() == old else (before, between)
    return after


def _observance(before: datetime, after: datetime) -> TimezoneDaylight | TimezoneStandard:
    """What the clocks show from a moment on, which was in this time before."""
    observance = TimezoneDaylight() if after.dst() else TimezoneStandard()
    observance.add("dtstart", (after.astimezone(UTC) + (before.utcoffset() or NOTHING)).replace(tzinfo=None))
    observance.add("tzoffsetfrom", before.utcoffset())
    observance.add("tzoffsetto", after.utcoffset())
    observance.add("tzname", after.tzname())
    return observance


def by_its_clocks(zone: ZoneInfo, *moments: datetime) -> tuple[datetime, ...]:
    """The moments by a zone's clocks; in UTC where these do not tell: an hour that comes twice means its first time."""
    local = tuple(moment.astimezone(zone) for moment in moments)
    return moments if any(moment.fold for moment in local) else local
