"""Members as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql import Update, update

from app.access.permissions import Role
from app.admin.activities import queries as activities
from app.admin.members.schemas import Member, MemberQuery
from app.models import Activity, Customer, Deal, PipelineStage, User
from app.models import Member as Row
from app.records import resources
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
stage = PipelineStage.__table__.c


def _said(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What the token of a person who was seen said last."""
    return select(column).where(user.id == c.user_id).scalar_subquery()


def _number(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).select_from(table).where(*conditions).scalar_subquery()


NAME = func.coalesce(_said(user.name), c.name, type_=Text)
EMAIL = func.coalesce(_said(user.email), c.email, type_=Text)
TOKEN_ROLE = _said(user.role)
# The lower one of the two; of who was not seen yet, what the invitation says.
_roles = [literal_column(f"'{role}'", Text) for role in Role]
ROLE = case(*((or_(role == c.role, role == TOKEN_ROLE), role) for role in _roles), else_=None)
# By what it is called in a handover: the table, the column with the person, and what is handed over of it.
_open_stages = select(stage.id).where(stage.kind == "open")
OWNED: dict[str, tuple[Table, ColumnElement[Any], tuple[ColumnElement[bool], ...]]] = {
    "customers": (resources.CUSTOMERS.table, customer.assigned_to, (customer.deleted_at.is_(None),)),
    "deals": (resources.DEALS.table, deal.owner_id, (deal.deleted_at.is_(None), deal.stage_id.in_(_open_stages))),
    "activities": (
        resources.ACTIVITIES.table,
        activity.assigned_to,
        (activity.deleted_at.is_(None), activities.IS_OPEN),
    ),
}
_numbers = {name: _number(table, owner == c.user_id, *live) for name, (table, owner, live) in OWNED.items()}
COLUMNS = view_columns(
    Member,
    Row.__table__,
    name=NAME,
    email=EMAIL,
    role=ROLE,
    token_role=TOKEN_ROLE,
    narrowed_to=c.role,
    last_seen_at=_said(user.last_seen_at),
    customers=_numbers["customers"],
    open_deals=_numbers["deals"],
    open_activities=_numbers["activities"],
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


def _belonging(owner: ColumnElement[Any]) -> ColumnElement[bool]:
    return owner == bindparam("present", type_=owner.type)


def _handed_over(table: Table, owner: ColumnElement[Any], live: tuple[ColumnElement[bool], ...]) -> Update:
    """Gives some of a person's records to another, in the order of locking."""
    some = select(table.c.id).where(_belonging(owner), *live).order_by(table.c.id)
    some = some.limit(bindparam("most", type_=BigInteger)).with_for_update(of=table)
    given = {owner.key: bindparam("next", type_=owner.type)}
    return update(table).where(table.c.id.in_(some)).values(given).returning(table.c.id)


BELONGING: Select[Any] = select(
    *(
        select(func.count()).select_from(table).where(_belonging(owner), *live).scalar_subquery()
        for table, owner, live in OWNED.values()
    )
)
HAND_OVER = {name: _handed_over(*owned) for name, owned in OWNED.items()}
