"""Activities as the database reads them; overdue is what it says at the moment of asking."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, any_, bindparam, case, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from app.admin.activities.schemas import Activity, ActivityStatus
from app.admin.nested import contact_of, customer_of, deal_of
from app.admin.users.queries import person
from app.db.counts import FACET, Counted
from app.db.filters import Filter, at_least, at_most, found_in, one_of, user_in
from app.db.listing import Listing
from app.db.nested import columns_for, selected
from app.db.sorting import Sort, by_group
from app.models import Activity as Row
from app.web.paging import SortOrder

c = Row.__table__.c

IS_OVERDUE: ColumnElement[bool] = and_(c.status == "scheduled", c.due_date < func.now())
STATUS: ColumnElement[str] = case((IS_OVERDUE, literal_column("'overdue'")), else_=c.status)
NOT_YET_DUE: ColumnElement[bool] = and_(c.status == "scheduled", func.coalesce(c.due_date >= func.now(), True))
STATUSES = list(ActivityStatus)
IN_STATUS: dict[str, ColumnElement[bool]] = {
    ActivityStatus.SCHEDULED: NOT_YET_DUE,
    ActivityStatus.COMPLETED: c.status == literal_column("'completed'"),
    ActivityStatus.CANCELLED: c.status == literal_column("'cancelled'"),
    ActivityStatus.OVERDUE: IS_OVERDUE,
}
COLUMNS = columns_for(
    Activity,
    Row.__table__,
    status=STATUS,
    customer=customer_of(c.customer_id),
    deal=deal_of(c.deal_id),
    contact=contact_of(c.contact_id),
)


def _status_clause(name: str, variant: str) -> ColumnElement[bool]:
    """Of the stored statuses and, by variant, of scheduled ones those that are overdue, or are not."""
    stored: ColumnElement[bool] = c.status == any_(bindparam(name, type_=ARRAY(Text)))
    late = {"overdue": IS_OVERDUE, "scheduled": NOT_YET_DUE}
    return or_(stored, late[variant]) if variant else stored


def _read_status(value: Any, _: str) -> tuple[str, list[str]]:
    wanted = {str(status) for status in value}
    both = {"scheduled", "overdue"}
    if both <= wanted or not both & wanted:
        return "", sorted(wanted - {"overdue"})
    (variant,) = both & wanted
    return variant, sorted(wanted - both)


FILTERS = {
    "type": one_of(c.type),
    "status": Filter(_status_clause, _read_status),
    "assigned_to": user_in(c.assigned_to),
    "customer_id": one_of(c.customer_id),
    "deal_id": one_of(c.deal_id),
    "contact_id": one_of(c.contact_id),
    "priority": one_of(c.priority),
    "due_date_from": at_least(c.due_date),
    "due_date_to": at_most(c.due_date),
    "search": found_in("activities", "title_folded"),
}
LISTING = Listing(
    "activities",
    Activity,
    COLUMNS,
    Row.__table__,
    key=c.id,
    deleted_at=c.deleted_at,
    filters=FILTERS,
    sorts={
        "due_date": Sort(c.due_date, nullable=True),
        "created_at": Sort(c.created_at),
        "updated_at": Sort(c.updated_at),
        "title": Sort(c.title_folded),
        "status": by_group(lambda place: IN_STATUS[STATUSES[place]], len(STATUSES)),
        "type": Sort(c.type_rank),
        "priority": Sort(c.priority_rank),
    },
    default_sort=("due_date", SortOrder.ASC),
    counted=Counted("activities", {"type": one_of(FACET)}),
)
WITH_OWNER = LISTING.beside(person(c.assigned_to))
ONE = select(*selected(COLUMNS)).where(c.id == bindparam("activity_id"), c.deleted_at.is_(None))
