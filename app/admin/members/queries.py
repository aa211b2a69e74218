"""Members as the database reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.sql import Update, update

from app.access.permissions import Role
from app.admin.activities import queries as activities
from app.admin.members.schemas import Member, MemberQuery
from app.admin.projects import queries as projects
from app.models import Activity, Customer, Deal, PipelineStage, Project, User
from app.models import Member as Row
from app.records import resources
from app.records.counts import of_each_person
from app.records.filters import equals, found_among, one_of
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.repository import Repository
from app.records.sorting import by_column
from app.web.paging import SortOrder

c = Row.__table__.c
user = User.__table__.c
customer = Customer.__table__.c
deal = Deal.__table__.c
activity = Activity.__table__.c
project = Project.__table__.c
stage = PipelineStage.__table__.c


def _said(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What the token of a person who was seen said last."""
    return select(column).where(user.id == c.user_id).scalar_subquery()


NAME = func.coalesce(_said(user.name), c.name, type_=Text)
EMAIL = func.coalesce(_said(user.email), c.email, type_=Text)
TOKEN_ROLE = _said(user.role)
# The lower one of the two; of who was not seen yet, what the invitation says.
_roles = [literal_column(f"'{role}'", Text) for role in Role]
ROLE = case(*((or_(role == c.role, role == TOKEN_ROLE), role) for role in _roles), else_=None)


class Owned(NamedTuple):
    """What is handed over of a person's records: those that are live and open. `mine` says which ones are a person's,
    and `given` what they become.
    """

    table: Table
    mine: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    live: tuple[ColumnElement[bool], ...]
    given: Mapping[str, ColumnElement[Any]]


_next = bindparam("next", type_=Text)
_present = bindparam("present", type_=Text)


def _owned_by(table: Table, owner: ColumnElement[Any], *live: ColumnElement[bool]) -> Owned:
    live = (table.c.deleted_at.is_(None), *live)
    return Owned(table, lambda person: cast(owner, Text) == person, live, {str(owner.key): _next})


_assignees = cast(project.assignees, ARRAY(Text))
# In the order of locking.
OWNED = {
    "customers": _owned_by(resources.CUSTOMERS.table, customer.assigned_to),
    "deals": _owned_by(
        resources.DEALS.table, deal.owner_id, deal.stage_id.in_(select(stage.id).where(stage.kind == "open"))
    ),
    "projects": Owned(
        resources.PROJECTS.table,
        lambda person: or_(
            cast(project.owner_id, Text) == person, project.id.in_(select(func.crm_projects_of(array([person]))))
        ),
        (project.deleted_at.is_(None), projects.IS_OPEN),
        {
            "owner_id": case((cast(project.owner_id, Text) == _present, _next), else_=cast(project.owner_id, Text)),
            "assignees": case(
                (_next == any_(_assignees), func.array_remove(_assignees, _present)),
                else_=func.array_replace(_assignees, _present, _next),
            ),
        },
    ),
    "activities": _owned_by(resources.ACTIVITIES.table, activity.assigned_to, activities.IS_OPEN),
}


def _number(numbers: Any) -> ColumnElement[int]:
    """A person's, out of everybody's."""
    return func.coalesce(cast(numbers.op("->>")(cast(c.user_id, Text)), BigInteger), 0)


_open_stages = select(cast(stage.id, Text)).where(stage.kind == "open")
_open_deals = of_each_person("deals.created", lambda facet, _: facet.in_(_open_stages), shared="shared.created")
_open_activities = of_each_person(
    "activities", lambda _, part: part == any_(literal_column("'{scheduled,someday}'", ARRAY(Text)))
)
COLUMNS = view_columns(
    Member,
    Row.__table__,
    name=NAME,
    email=EMAIL,
    role=ROLE,
    token_role=TOKEN_ROLE,
    narrowed_to=c.role,
    last_seen_at=_said(user.last_seen_at),
    customers=_number(of_each_person("customers")),
    open_deals=_number(_open_deals),
    open_activities=_number(_open_activities),
)
MEMBERS = Repository(resources.MEMBERS, Member, COLUMNS)
_document = func.crm_fold_search(func.coalesce(NAME, "") + literal_column(r"E'\n'") + func.coalesce(EMAIL, ""))
LISTING = Listing(
    "members",
    Member,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=MemberQuery,
    filters={"role": one_of(ROLE), "is_active": equals(c.is_active), "search": found_among(_document)},
    sorts={
        "name": by_column(func.crm_fold(NAME, type_=Text), nullable=True),
        "email": by_column(func.crm_fold(EMAIL, type_=Text), nullable=True),
        "last_seen_at": by_column(_said(user.last_seen_at), nullable=True),
    },
    default_sort=("name", SortOrder.ASC),
)
# The member who has an email, or is expected under it.
HOLDER: Select[Any] = (
    select(c.id)
    .where(func.crm_fold_email(EMAIL) == func.crm_fold_email(bindparam("address", type_=Text)))
    .order_by(c.user_id.is_(None), c.id)
    .limit(1)
)
EXPECTED: Select[Any] = select(func.count()).select_from(Row).where(c.user_id.is_(None))
LOCK: Select[Any] = select(func.crm_lock_members(func.current_setting("crm.tenant")))


def _handed_over(owned: Owned) -> Update:
    """Gives some of a person's records to another, in the order of locking."""
    table = owned.table
    some = select(table.c.id).where(owned.mine(_present), *owned.live).order_by(table.c.id)
    some = some.limit(bindparam("most", type_=BigInteger)).with_for_update(of=table)
    return update(table).where(table.c.id.in_(some)).values(owned.given).returning(table.c.id)


BELONGING: Select[Any] = select(
    *(
        select(func.count()).select_from(owned.table).where(owned.mine(_present), *owned.live).scalar_subquery()
        for owned in OWNED.values()
    )
)
HAND_OVER = {name: _handed_over(owned) for name, owned in OWNED.items()}
