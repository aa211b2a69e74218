"""Customers as the database reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, any_, bindparam, func, not_, null, or_, select, update

from app.admin.activities import queries as activities
from app.admin.activities.schemas import Activity
from app.admin.contacts import queries as contacts
from app.admin.contacts.schemas import Contact
from app.admin.customers.schemas import Customer, CustomerDetail, CustomerQuery, CustomerStatus
from app.admin.deals import queries as deals
from app.admin.deals.schemas import Deal
from app.admin.tags import queries as tags
from app.admin.tags.schemas import Tag as TagView
from app.admin.timeline import OF_CUSTOMER, TimelineEvent, newest
from app.models import Activity as Activities
from app.models import Customer as Row
from app.models import CustomerTag, PipelineStage, Tag
from app.models import Deal as Deals
from app.records import resources
from app.records.calendar import at_midnight
from app.records.counts import FACET
from app.records.filters import (
    equals,
    external_id_in,
    flagged,
    found_in,
    matching,
    one_of,
    ranked,
    since,
    until,
    user_in,
)
from app.records.json_columns import Columns, JsonColumn, labelled, nested_row, nested_rows, selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.web.errors import AppError, Code
from app.web.paging import SortOrder

c = Row.__table__.c
tag = Tag.__table__.c
tagged = CustomerTag.__table__.c
stage = PipelineStage.__table__.c

_tags = nested_rows(
    select(*labelled(tags.COLUMNS))
    .where(tag.tenant_id == c.tenant_id, tag.id == any_(c.tags))
    .order_by(tag.name_folded, tag.id)
    .correlate(Row),
    TagView,
)
COLUMNS = view_columns(Customer, Row.__table__, tags=_tags)
EMAIL_HOLDER = select(c.id).where(c.email_folded == func.crm_fold_email(bindparam("address")), c.deleted_at.is_(None))


async def _email_exists(tx: Transaction, values: Mapping[str, Any]) -> AppError:
    holder = (await tx.connection.execute(EMAIL_HOLDER, {"address": values["email"]})).scalar_one_or_none()
    # No id if this person may not see the customer that has it.
    return AppError(Code.EMAIL_EXISTS, data=None if holder is None else {"customer_id": holder})


CUSTOMERS = TrashRepository(resources.CUSTOMERS, Customer, COLUMNS, explain={"customers_live_email_key": _email_exists})
LISTING = Listing.of(
    CUSTOMERS,
    CustomerQuery,
    filters={
        "status": ranked(c.status, c.status_rank, CustomerStatus),
        "kind": one_of(c.kind),
        "assigned_to": user_in(c.assigned_to),
        "tags": matching(lambda tags: c.id.in_(select(tagged.customer_id).where(tagged.tag_id == any_(tags)))),
        "contacted": equals(c.contacted),
        "hold": flagged(c.hold),
        "created_from": since(c.created_at),
        "created_to": until(c.created_at),
        "follow_up_from": since(c.next_follow_up_at, at_midnight(c.next_follow_up_at)),
        "follow_up_to": until(c.next_follow_up_at, at_midnight(c.next_follow_up_at)),
        "external_id": external_id_in(Row.__table__),
        "search": found_in("customers", c.search_folded, phones=True),
    },
    sorts={"name": c.name_folded, "email": c.email_folded, "status": c.status_rank, "company": c.company_folded},
    default_sort=("created_at", SortOrder.DESC),
    facets={"status": one_of(FACET)},
    series="customers",
)
# RETURNING can't have a subselect on the new row. A new customer has no tags.
NEW = tuple(selected(COLUMNS | {"tags": JsonColumn(null(), list[TagView], empty="[]")}))

# ── the detail page: some of the records that belong to a customer ────────────────────────────────────────────────────

MOST = 5

contact, deal, activity = contacts.c, deals.c, activities.c
_contact = (contact.customer_id == c.id, contact.deleted_at.is_(None))
_open_deal = (deal.customer_id == c.id, deal.deleted_at.is_(None), deals.IS_OPEN)
_activity = (activity.customer_id == c.id, activity.deleted_at.is_(None))
_upcoming = (*_activity, activities.IS_OPEN, not_(activities.IS_PAST))


def _some(
    columns: Columns, kind: Any, *conditions: ColumnElement[bool], order: list[Any], most: int = MOST
) -> JsonColumn:
    return nested_rows(select(*labelled(columns)).where(*conditions).order_by(*order).limit(most).correlate(Row), kind)


def _count(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).where(*conditions).correlate(Row).scalar_subquery()


PRIMARY_CONTACT = nested_row(
    select(*labelled(contacts.COLUMNS)).where(*_contact, contact.is_primary).correlate(Row), Contact
)
DETAIL_COLUMNS = COLUMNS | {
    "contacts_count": _count(*_contact),
    "open_deals_count": _count(*_open_deal),
    "upcoming_activities_count": _count(*_upcoming),
    "contacts": _some(contacts.COLUMNS, Contact, *_contact, order=[contacts.PRIMARY_FIRST, contact.id], most=20),
    "primary_contact": PRIMARY_CONTACT,
    "open_deals": _some(deals.COLUMNS, Deal, *_open_deal, order=[deal.amount.desc(), deal.id]),
    "upcoming_activities": _some(activities.COLUMNS, Activity, *_upcoming, order=[activity.due_date, activity.id]),
    "recent_activities": _some(
        activities.COLUMNS, Activity, *_activity, order=[activity.created_at.desc(), activity.id.desc()]
    ),
    "recent_timeline": nested_rows(newest(OF_CUSTOMER, 10), TimelineEvent),
}
DETAIL: Select[Any] = select(
    *selected({name: DETAIL_COLUMNS[name] for name in CustomerDetail.__struct_fields__})
).where(c.id == bindparam("customer_id"), c.deleted_at.is_(None))

# ── another owner ────────────────────────────────────────────────────────────────────────────────────────────────────

_customer: ColumnElement[int] = bindparam("customer_id", type_=c.id.type)


def _hand_over(table: Any, owner: ColumnElement[Any], *conditions: ColumnElement[bool]) -> Select[Any]:
    """Gives live rows of the present owner to the next one; returns how many."""
    present, following = (bindparam(name, type_=owner.type) for name in ("present", "next"))
    moved = (
        update(table)
        .where(
            table.c.deleted_at.is_(None),
            owner.is_not_distinct_from(present),
            owner.is_distinct_from(following),
            *conditions,
        )
        .values({owner.key: following})
        .returning(table.c.id)
        .cte("moved")
    )
    return select(func.count()).select_from(moved)


_its_deals = select(deal.id).where(deal.customer_id == _customer, deal.deleted_at.is_(None))
HAND_OVER_DEALS = _hand_over(
    Deals.__table__,
    deal.owner_id,
    deal.customer_id == _customer,
    deal.stage_id.in_(select(stage.id).where(stage.kind == "open")),
)
HAND_OVER_ACTIVITIES = _hand_over(
    Activities.__table__,
    activity.assigned_to,
    or_(activity.customer_id == _customer, activity.deal_id.in_(_its_deals)),
    activities.IS_OPEN,
)
