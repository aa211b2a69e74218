"""The rules of activities, beyond those of every record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from app.admin.activities.queries import ACTIVITIES
from app.admin.activities.schemas import Activity, ActivityChange, ActivityCreate
from app.admin.contacts.queries import check_contact
from app.models import Deal
from app.records.calendar import day_of, midnight, zone_of
from app.records.transaction import Transaction
from app.web.errors import Code, Fault, bad_field, invalid
from app.web.fields import BareDate

EMPTY = dict.fromkeys(("customer_id", "deal_id", "contact_id", "due_date", "completed_at")) | {"all_day": False}
GRACE = timedelta(minutes=1)  # between two clocks


async def create(tx: Transaction, data: ActivityCreate) -> Activity:
    """Plan an activity, or record one.

    Raises AppError INSUFFICIENT_PERMISSIONS, DUE_DATE_IN_PAST, or 400 for a reference.
    """
    values = data.given()
    if values.get("status") == "overdue":
        raise invalid(Fault("status", "is overdue by its due date; create it as scheduled"))
    values = ACTIVITIES.with_owner(tx, values)
    before = EMPTY | {"type": None, "status": None}
    after = before | {"status": "scheduled"} | values
    values |= await _checked(tx, before, after, values)
    return await ACTIVITIES.get(tx, await ACTIVITIES.insert(tx, values))


async def change(tx: Transaction, activity_id: int, data: ActivityChange) -> Activity:
    """Raises AppError as `apply`."""
    await apply(tx, activity_id, data)
    return await ACTIVITIES.get(tx, activity_id)


async def apply(tx: Transaction, activity_id: int, data: ActivityChange) -> bool:
    """Change an activity; returns whether anything differed.

    Raises AppError ACTIVITY_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, or as `create`.
    """
    values = data.given()
    if values.get("status") == "overdue":
        del values["status"]
    row = await ACTIVITIES.get_for_update(tx, activity_id)
    ACTIVITIES.check_owner(tx, row, values)
    values |= await _checked(tx, row, dict(row) | values, values)
    return await ACTIVITIES.update(tx, row, values)


async def check_put_back(tx: Transaction, activity: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise AppError if the contact is not one of the customer, now that these fields are as they were before."""
    if fields.keys() & {"contact_id", "customer_id", "deal_id"} and activity["contact_id"] is not None:
        await _check_contact(tx, dict(activity))


async def _checked(tx: Transaction, before: Any, after: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Check an activity as it would become, and return what follows for its day and completed_at."""
    now = datetime.now(UTC)
    changed = {name: value for name, value in given.items() if before.get(name) != value}
    follows: dict[str, Any] = _whole_day(after, changed, given)
    after = after | follows
    if after["all_day"] and after["due_date"] and after["due_date"] != midnight(after["due_date"]):
        # The day is that of the tenant's timezone: in the evening in New York, it is tomorrow in UTC.
        after["due_date"] = follows["due_date"] = midnight(day_of(after["due_date"], await zone_of(tx)))
    is_task = after["type"] == "task" and after["status"] == "scheduled"
    rescheduled = "due_date" in changed or after["all_day"] != before["all_day"]
    if is_task and rescheduled and after["due_date"] and await _is_past(tx, after, now - GRACE):
        raise bad_field(Code.DUE_DATE_IN_PAST, "due_date")
    if changed.get("completed_at") and changed["completed_at"] > now:
        raise invalid(Fault("completed_at", "can't be in the future"))
    await ACTIVITIES.check_references(tx, changed)
    # The contact must be one of the customer, or of the deal's customer.
    whose = "deal_id" if after["customer_id"] is None else "customer_id"
    if changed.keys() & {"contact_id", "customer_id", whose} and after["contact_id"] is not None:
        await _check_contact(tx, after)
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


async def _is_past(tx: Transaction, after: dict[str, Any], now: datetime) -> bool:
    """Whether a due date is past. A whole day is past when it is over in the tenant's timezone."""
    due: datetime = after["due_date"]
    if not after["all_day"] or due >= now:
        return due < now
    return due.date() < day_of(now, await zone_of(tx))


async def _check_contact(tx: Transaction, after: dict[str, Any]) -> None:
    """Raise AppError unless the contact is one of the customer of the activity or of its deal, if there is one."""
    if after["customer_id"] is None and after["deal_id"] is None:
        return
    deal = Deal.__table__.c
    of_deal = select(deal.customer_id).where(deal.id == after["deal_id"]).scalar_subquery()
    await check_contact(tx, after["contact_id"], of_deal if after["customer_id"] is None else after["customer_id"])
