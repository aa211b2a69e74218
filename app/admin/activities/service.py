"""The rules of activities, beyond those of every record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from app.admin.activities.queries import ACTIVITIES
from app.admin.activities.schemas import Activity, ActivityChange, ActivityCreate
from app.admin.contacts.queries import check_contact
from app.db.result import RowMapping
from app.models import Deal
from app.records.calendar import Zone, day_of, midnight
from app.records.repository import differing
from app.records.transaction import Transaction
from app.web.errors import Code, Fault, bad_field, invalid
from app.web.fields import BareDate

LINKS = ("customer_id", "deal_id", "project_id", "contact_id")
NEW = dict.fromkeys((*LINKS, "type", "status", "due_date", "completed_at")) | {"all_day": False}
GRACE = timedelta(minutes=1)  # between two clocks


async def create(tx: Transaction, data: ActivityCreate) -> Activity:
    """Plan an activity, or record one.

    Raises AppError INSUFFICIENT_PERMISSIONS, DUE_DATE_IN_PAST, or 400 for a reference.
    """
    values = await prepare(tx, data.given(), Zone(tx))
    await _check_links(tx, NEW, values)
    return await ACTIVITIES.get(tx, await ACTIVITIES.insert(tx, values))


async def prepare(tx: Transaction, values: dict[str, Any], zone: Zone, *, late: bool = False) -> dict[str, Any]:
    """What is stored of a new activity with these values, once its references are checked. With `late`, a task may be
    overdue already.

    Raises AppError INSUFFICIENT_PERMISSIONS or DUE_DATE_IN_PAST.
    """
    if values.get("status") == "overdue":
        if not late:
            raise invalid(Fault("status", "is overdue by its due date; create it as scheduled"))
        values = values | {"status": "scheduled"}
    values = ACTIVITIES.with_owner(tx, values)
    return values | await _checked(NEW, NEW | {"status": "scheduled"} | values, values, zone, late=late)


async def change(tx: Transaction, activity_id: int, data: ActivityChange) -> Activity:
    """Raises AppError as `apply`."""
    await apply(tx, activity_id, data)
    return await ACTIVITIES.get(tx, activity_id)


async def apply(tx: Transaction, activity_id: int, data: ActivityChange) -> bool:
    """Change an activity; returns whether anything differed.

    Raises AppError ACTIVITY_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, or as `create`.
    """
    row = await ACTIVITIES.get_for_update(tx, activity_id)
    values = await prepare_change(tx, row, data.given(), Zone(tx))
    await _check_links(tx, row, values)
    return await ACTIVITIES.update(tx, row, values)


async def prepare_change(
    tx: Transaction, row: RowMapping, values: dict[str, Any], zone: Zone, *, late: bool = False
) -> dict[str, Any]:
    """What such a change stores in the activity, once its references are checked. Raises AppError as `prepare`."""
    if values.get("status") == "overdue":
        del values["status"]
    ACTIVITIES.check_owner(tx, row, values)
    return values | await _checked(row, dict(row) | values, values, zone, late=late)


async def check_put_back(tx: Transaction, activity: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise AppError if the contact is not one of the customer, now that these fields are as they were before."""
    if fields.keys() & {"contact_id", "customer_id", "deal_id"} and activity["contact_id"] is not None:
        await _check_contact(tx, dict(activity))


async def _checked(
    before: Any, after: dict[str, Any], given: dict[str, Any], zone: Zone, *, late: bool
) -> dict[str, Any]:
    """Check an activity as it would become, and return what follows for its day and completed_at."""
    now = datetime.now(UTC)
    changed = {name: value for name, value in given.items() if before.get(name) != value}
    follows: dict[str, Any] = _whole_day(after, changed, given)
    after = after | follows
    if after["all_day"] and after["due_date"] and after["due_date"] != midnight(after["due_date"]):
        # The day is that of the tenant's timezone: in the evening in New York, it is tomorrow in UTC.
        after["due_date"] = follows["due_date"] = midnight(day_of(after["due_date"], await zone.get()))
    is_task = after["type"] == "task" and after["status"] == "scheduled"
    rescheduled = "due_date" in changed or after["all_day"] != before["all_day"]
    if is_task and rescheduled and not late and after["due_date"] and await _is_past(after, now - GRACE, zone):
        raise bad_field(Code.DUE_DATE_IN_PAST, "due_date")
    if changed.get("completed_at") and changed["completed_at"] > now:
        raise invalid(Fault("completed_at", "can't be in the future"))
    if after["status"] != "completed":
        return follows | ({"completed_at": None} if before["completed_at"] or "completed_at" in given else {})
    return follows | ({} if given.get("completed_at") else {"completed_at": before["completed_at"] or now})


def _whole_day(after: dict[str, Any], changed: dict[str, Any], given: dict[str, Any]) -> dict[str, bool]:
    """What a new due date means for all_day if the client does not send all_day."""
    due = given.get("due_date")
    if "all_day" in given or ("due_date" not in changed and not isinstance(due, BareDate)):
        return {}
    at_midnight = due is not None and due == midnight(due)
    return {"all_day": isinstance(due, BareDate) or (after["type"] == "task" and at_midnight)}


async def _is_past(after: dict[str, Any], now: datetime, zone: Zone) -> bool:
    """Whether a due date is past. A whole day is past when it is over in the tenant's timezone."""
    due: datetime = after["due_date"]
    if not after["all_day"] or due >= now:
        return due < now
    return due.date() < day_of(now, await zone.get())


async def _check_links(tx: Transaction, before: RowMapping, values: Mapping[str, Any]) -> None:
    """Raise AppError, a 400, for a new reference that is not live, or a contact of another customer."""
    changed = differing(before, {name: value for name, value in values.items() if name in LINKS})
    await ACTIVITIES.check_references(tx, changed)
    after = dict(before) | changed
    # The contact must be one of the customer, or of the deal's customer.
    whose = "deal_id" if after["customer_id"] is None else "customer_id"
    if changed.keys() & {"contact_id", "customer_id", whose} and after["contact_id"] is not None:
        await _check_contact(tx, after)


async def _check_contact(tx: Transaction, after: dict[str, Any]) -> None:
    """Raise AppError unless the contact is one of the customer of the activity or of its deal, if there is one."""
    if after["customer_id"] is None and after["deal_id"] is None:
        return
    deal = Deal.__table__.c
    of_deal = select(deal.customer_id).where(deal.id == after["deal_id"]).scalar_subquery()
    await check_contact(tx, after["contact_id"], of_deal if after["customer_id"] is None else after["customer_id"])
