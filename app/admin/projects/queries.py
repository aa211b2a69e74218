"""Projects as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, any_, bindparam, cast, func, literal_column, not_, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import BigInteger, Text

from app.admin.activities import queries as activities
from app.admin.activities.schemas import Activity
from app.admin.nested import customer_of
from app.admin.projects.schemas import Project, ProjectDetail, ProjectQuery, ProjectStatus
from app.models import Project as Row
from app.records import resources
from app.records.calendar import TODAY, at_midnight
from app.records.counts import FACET
from app.records.filters import (
    SET,
    Filter,
    found_in,
    named_people,
    one_of,
    ranked,
    since,
    until,
    user_in,
)
from app.records.json_columns import JsonColumn, first_rows, labelled, selected, view_columns
from app.records.listing import Listing
from app.records.trash_repository import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c
activity = activities.c
MOST_NESTED = 100

IS_OPEN: ColumnElement[bool] = c.status.not_in([literal_column("'completed'"), literal_column("'cancelled'")])
IS_OVERDUE: ColumnElement[bool] = and_(IS_OPEN, c.due_date < TODAY)
# Of a project in the trash, those that went there with it.
_its_activity = (
    activity.project_id == c.id,
    or_(activity.deleted_at.is_(None), activity.deleted_at == c.deleted_at),
)
_its_task = (*_its_activity, activity.type == literal_column("'task'"))


def _count(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).where(*_its_task, *conditions).correlate(Row).scalar_subquery()


def people(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Ids of people as answers show them."""
    each = func.unnest(column).column_valued("person")
    shown = func.json_agg(func.crm_user_json(each))
    return func.coalesce(select(shown).scalar_subquery(), literal_column("'[]'::json"))


COLUMNS = view_columns(
    Project,
    Row.__table__,
    assignees=JsonColumn(people(c.assignees), list[int | str], empty="[]"),
    tasks_total=_count(),
    tasks_completed=_count(activity.status == literal_column("'completed'")),
    tasks_overdue=_count(activities.IS_OVERDUE),
    last_activity_at=select(func.max(activity.updated_at)).where(*_its_activity).correlate(Row).scalar_subquery(),
    customer=customer_of(c.customer_id),
)
PROJECTS = TrashRepository(resources.PROJECTS, Project, COLUMNS)


def _assignee_clause(name: str, variant: str) -> ColumnElement[bool]:
    wanted = bindparam(name, type_=ARRAY(Text))
    named = c.id.in_(select(func.crm_projects_of(wanted)))
    return or_(named, cast(c.assignees, ARRAY(Text)) == array([], type_=Text)) if variant == "none" else named


def _read_assignee(value: Any, me: str) -> tuple[str, list[str]]:
    return "none" if "none" in value else "", named_people(value, me)


def _overdue_clause(_: str, variant: str) -> ColumnElement[bool]:
    return IS_OVERDUE if variant == SET else not_(func.coalesce(IS_OVERDUE, literal_column("false")))


LISTING = Listing.of(
    PROJECTS,
    ProjectQuery,
    filters={
        "status": ranked(c.status, c.status_rank, ProjectStatus),
        "customer_id": one_of(c.customer_id),
        "owner_id": user_in(c.owner_id),
        "assignee": Filter(_assignee_clause, _read_assignee),
        "due_from": since(c.due_date, at_midnight(c.due_date)),
        "due_to": until(c.due_date, at_midnight(c.due_date)),
        "overdue": Filter(_overdue_clause, lambda value, _: (SET if value else "", value)),
        "external_id": one_of(c.external_id),
        "search": found_in("projects", func.crm_fold_search(c.name)),
    },
    sorts={"name": c.name_folded, "status": c.status_rank},
    default_sort=("updated_at", SortOrder.DESC),
    facets={"status": one_of(FACET)},
)

TASKS = first_rows(
    select(*labelled(activities.COLUMNS)).where(*_its_task).correlate(Row),
    Activity,
    MOST_NESTED,
    lambda task: (task.due_date.asc().nulls_last(), task.id),
)
DETAIL = select(
    *selected({name: (COLUMNS | {"tasks": TASKS})[name] for name in ProjectDetail.__struct_fields__})
).where(c.id == bindparam("project_id"), c.deleted_at.is_(None))
# Its open tasks, locked.
IS_OPEN_TASK = (activity.type == literal_column("'task'"), activities.IS_OPEN, activity.deleted_at.is_(None))
OPEN_TASKS = (
    select(activity.id, activity.assigned_to)
    .where(activity.project_id == bindparam("project_id"), *IS_OPEN_TASK)
    .order_by(activity.id)
    .limit(bindparam("most"))
    .with_for_update()
)
WITH_OPEN_TASKS = (
    select(activity.project_id)
    .where(activity.project_id == any_(bindparam("ids", type_=ARRAY(BigInteger))), *IS_OPEN_TASK)
    .distinct()
)
