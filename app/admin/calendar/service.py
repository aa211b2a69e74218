"""Calendars: what is in whose, within which times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET

from app.access.permissions import Permission
from app.admin.activities.schemas import ActivityStatus, ActivityType
from app.admin.calendar.queries import BUSY, SOURCES, Found, Source
from app.admin.calendar.schemas import (
    MOST_DAYS,
    MOST_ENTRIES,
    MOST_PEOPLE,
    CalendarCustomer,
    CalendarEntry,
    CalendarKind,
    CalendarQuery,
    CalendarRecord,
)
from app.records.calendar import Bound, lower_bound, upper_bound, zone_of
from app.records.filters import named_people
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, invalid

# An entry that began earlier before the range is not looked for, however long it lasts.
LONGEST = timedelta(days=31)
# Of the last day, clocks may make one hour more.
LONGEST_RANGE = timedelta(days=MOST_DAYS, hours=1)
FIRST_OF_ALL = datetime(2, 1, 1, tzinfo=UTC)


async def entries(tx: Transaction, query: CalendarQuery) -> list[CalendarEntry]:
    """What is in the calendars of these people, in its order of time.

    Raises AppError INSUFFICIENT_PERMISSIONS, INVALID_REQUEST, or TOO_MANY_RECORDS.
    """
    people = _people(tx, query)
    zone = await zone_of(tx)
    within = bounds(lower_bound(query.from_, zone), upper_bound(query.to, zone))
    if not timedelta() <= within["until"] - within["since"] <= LONGEST_RANGE:
        raise invalid(Fault("to", f"must not be before from, and at most {MOST_DAYS} days after it"))
    found = [
        _shown(source, row)
        for source in SOURCES
        for row in await read(tx, source, people, within, most=MOST_ENTRIES + 1)
    ]
    given = {"people": people, "most": MOST_ENTRIES + 1, **within}
    found += await tx.connection.fetch(BUSY, given, lambda row: _busy(*row), most=MOST_ENTRIES + 1)
    if len(found) > MOST_ENTRIES:
        text = f"There are more than {MOST_ENTRIES} entries: ask for a shorter time, or for fewer people"
        raise AppError(Code.TOO_MANY_RECORDS, text)
    return sorted(found, key=lambda entry: (entry.starts_at, entry.kind, entry.record.id if entry.record else 0))


def bounds(first: Bound, last: Bound) -> dict[str, datetime]:
    """The parameters of a source's statements for this range, whose ends are part of it."""
    since, since_day = first.moment, first.midnight
    earliest = min(since, since_day)
    return {
        "since": since,
        "since_day": since_day,
        "earliest": earliest - LONGEST if earliest > FIRST_OF_ALL + LONGEST else FIRST_OF_ALL,
        "until": last.moment,
        "until_day": last.midnight,
        "latest": max(last.moment, last.midnight),
    }


async def read(
    tx: Transaction, source: Source, people: Sequence[str], within: dict[str, datetime], *, most: int
) -> list[Found]:
    """So many entries of one kind, the earliest first."""
    given: dict[str, Any] = {"people": people, "most": most, **within}
    return await tx.connection.fetch(source.rows, given, lambda row: Found(*row), most=most)


def _people(tx: Transaction, query: CalendarQuery) -> list[str]:
    me = tx.actor.user_id
    if query.user_id is UNSET:
        return [me]
    people = named_people(query.user_id, me)
    if len(people) < len(query.user_id):
        raise invalid(Fault("user_id", "must name people: nobody has no calendar"))
    if len(people) > MOST_PEOPLE:
        raise invalid(Fault("user_id", f"must name at most {MOST_PEOPLE} people"))
    if {*people} != {me}:
        tx.actor.require(Permission.MANAGE_ALL)
    return people


def _shown(source: Source, row: Found) -> CalendarEntry:
    customer = None if row.customer_id is None else CalendarCustomer(row.customer_id, row.customer_name or "")
    return CalendarEntry(
        kind=source.kind,
        title=row.title,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        all_day=row.all_day,
        status=ActivityStatus(row.status),
        activity_type=None if row.activity_type is None else ActivityType(row.activity_type),
        user_id=row.user_id,
        record=CalendarRecord(source.resource.kind, row.id),
        customer=customer,
    )


def _busy(starts_at: datetime, ends_at: datetime, all_day: bool, user_id: int | str) -> CalendarEntry:
    return CalendarEntry(
        kind=CalendarKind.BUSY,
        title="",
        starts_at=starts_at,
        ends_at=ends_at,
        all_day=all_day,
        status=ActivityStatus.SCHEDULED,
        activity_type=None,
        user_id=user_id,
        record=None,
        customer=None,
    )
