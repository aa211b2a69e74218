"""Activities as the database reads them. Whether one is overdue is worked out by each statement."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, any_, bindparam, case, func, literal_column, not_, or_, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from app.admin.activities.schemas import Activity, ActivityQuery, ActivityStatus, ActivityType, Priority
from app.admin.nested import contact_of, customer_of, deal_of, project_of
from app.models import Activity as Row
from app.records import resources
from app.records.calendar import TODAY
from app.records.counts import FACET
from app.records.filters import Filter, found_in, one_of, ranked, since, until, user_in
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.sorting import Segment, by_group, by_segments
from app.records.trash_repository import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c

IS_OPEN: ColumnElement[bool] = c.status == literal_column("'scheduled'")
# The first condition follows from the second, since no timezone is a whole day ahead of UTC. But an index can answer
# it, and the planner can estimate its rows.
IS_PAST: ColumnElement[bool] = and_(
    c.due_date < func.now() + literal_column("interval '1 day'"),
    c.due_date < case((c.all_day, TODAY), else_=func.now()),
)
IS_OVERDUE: ColumnElement[bool] = and_(IS_OPEN, IS_PAST)
NOT_YET_DUE: ColumnElement[bool] = and_(IS_OPEN, func.coalesce(not_(IS_PAST), True))
# What follows from it of those that have a due date: nor does any timezone come two days behind.
NOT_LONG_DUE: ColumnElement[bool] = c.due_date >= func.now() - literal_column("interval '2 days'")
STATUS: ColumnElement[str] = case((IS_OVERDUE, literal_column("'overdue'")), else_=c.status)
STATUSES = list(ActivityStatus)
IN_STATUS: dict[str, ColumnElement[bool]] = {
    ActivityStatus.SCHEDULED: NOT_YET_DUE,
    ActivityStatus.COMPLETED: c.status == literal_column("'completed'"),
    ActivityStatus.CANCELLED: c.status == literal_column("'cancelled'"),
    ActivityStatus.OVERDUE: IS_OVERDUE,
}
COLUMNS = view_columns(
    Activity,
    Row.__table__,
    status=STATUS,
    customer=customer_of(c.customer_id),
    deal=deal_of(c.deal_id),
    project=project_of(c.project_id),
    contact=contact_of(c.contact_id),
)
ACTIVITIES = TrashRepository(resources.ACTIVITIES, Activity, COLUMNS)

ALONE = "only "


def _status_clause(name: str, variant: str) -> ColumnElement[bool]:
    """The stored statuses, and by variant also the scheduled activities that are overdue, or are not. A variant that is
    ALONE has no stored statuses: an OR of two conditions would use no index.
    """
    stored: ColumnElement[bool] = c.status == any_(bindparam(name, type_=ARRAY(Text)))
    late = {"overdue": IS_OVERDUE, "scheduled": and_(NOT_YET_DUE, or_(c.due_date.is_(None), NOT_LONG_DUE))}
    if variant.startswith(ALONE):
        return late[variant.removeprefix(ALONE)]
    return or_(stored, late[variant]) if variant else stored


def _due_clause(_: str, variant: str) -> ColumnElement[bool]:
    """In the order of the due date, those that are overdue come before all that are not: they are not read."""
    return NOT_LONG_DUE if variant == f"{ALONE}scheduled" else true()


def _read_status(value: Any, _: str) -> tuple[str, list[str]]:
    wanted = {str(status) for status in value}
    both = {"scheduled", "overdue"}
    if both <= wanted or not both & wanted:
        return "", sorted(wanted - {"overdue"})
    (variant,) = both & wanted
    stored = sorted(wanted - both)
    return variant if stored else ALONE + variant, stored


LISTING = Listing.of(
    ACTIVITIES,
    ActivityQuery,
    filters={
        "type": ranked(c.type, c.type_rank, ActivityType),
        "status": Filter(_status_clause, _read_status, implied=(c.due_date, _due_clause)),
        "assigned_to": user_in(c.assigned_to),
        "customer_id": one_of(c.customer_id),
        "deal_id": one_of(c.deal_id),
        "project_id": one_of(c.project_id),
        "contact_id": one_of(c.contact_id),
        "priority": ranked(c.priority, c.priority_rank, Priority),
        "due_date_from": since(c.due_date, c.all_day),
        "due_date_to": until(c.due_date, c.all_day),
        "external_id": one_of(c.external_id),
        "search": found_in("activities", func.crm_fold_search(c.title)),
    },
    sorts={
        "agenda": by_segments(
            Segment(and_(IS_OPEN, c.due_date.is_not(None)), c.due_date, descending=False),
            Segment(and_(IS_OPEN, c.due_date.is_(None)), descending=False),
            Segment(c.closed_at.is_not(None), c.closed_at, descending=True),
        ),
        "title": c.title_folded,
        "status": by_group(lambda index: IN_STATUS[STATUSES[index]], len(STATUSES)),
        "type": c.type_rank,
        "priority": c.priority_rank,
    },
    default_sort=("due_date", SortOrder.ASC),
    facets={"type": one_of(FACET)},
)
