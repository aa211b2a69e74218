"""Duplicates as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Text, bindparam, case, cast, func, literal_column, null, or_, select
from sqlalchemy import any_ as any_of

from app.admin.duplicates.schemas import Duplicate, DuplicateGroup, DuplicateQuery, DuplicateRecord
from app.models import Contact, Customer
from app.models import DuplicateGroup as Groups
from app.models import DuplicatePair as Pairs
from app.records.counts import FACET, Counted
from app.records.filters import one_of
from app.records.json_columns import Columns, JsonColumn, labelled, nested_row, nested_rows, view_columns
from app.records.listing import Listing
from app.web.paging import SortOrder

c = Groups.__table__.c
pair = Pairs.__table__.c
customer = Customer.__table__.c
contact = Contact.__table__.c
its_customer = Customer.__table__.alias("its_customer").c

FULL_NAME = func.btrim(func.concat(contact.first_name, literal_column("' '"), contact.last_name), type_=Text)
COLUMNS: dict[str, tuple[Any, Columns]] = {
    "customers": (
        Customer.__table__,
        {
            name: cast(null(), customer.id.type) if name == "customer_id" else customer[name]
            for name in DuplicateRecord.__struct_fields__
        },
    ),
    "contacts": (
        Contact.__table__,
        {
            "id": contact.id,
            "name": FULL_NAME,
            "email": contact.email,
            "phone": contact.phone,
            "company": select(its_customer.name).where(its_customer.id == contact.customer_id).scalar_subquery(),
            "website": null(),
            "customer_id": contact.customer_id,
            "created_at": contact.created_at,
            "updated_at": contact.updated_at,
        },
    ),
}


def _members(kind: str) -> JsonColumn:
    table, columns = COLUMNS[kind]
    of_group = (table.c.id == any_of(c.members), table.c.deleted_at.is_(None))
    return nested_rows(
        select(*labelled(columns)).where(*of_group).order_by(table.c.id).correlate(Groups), DuplicateRecord
    )


RECORDS = JsonColumn(
    case((c.kind == literal_column("'customers'"), _members("customers").json), else_=_members("contacts").json),
    list[DuplicateRecord],
    empty="[]",
)
LISTING = Listing(
    "duplicates",
    DuplicateGroup,
    view_columns(DuplicateGroup, Groups.__table__, records=RECORDS),
    Groups.__table__,
    key=c.id,
    query=DuplicateQuery,
    filters={"kind": one_of(c.kind)},
    default_sort=("score", SortOrder.DESC),
    counted=Counted("duplicate_groups", {"kind": one_of(FACET)}),
)


def duplicates_of(kind: str) -> Select[Any]:
    """The records that may be the same as the one with `record_id`, the best first."""
    table, columns = COLUMNS[kind]
    record_id: ColumnElement[int] = bindparam("record_id", type_=pair.record_id.type)
    other = case((pair.record_id == record_id, pair.other_id), else_=pair.record_id)
    shown = nested_row(
        select(*labelled(columns)).where(table.c.id == other, table.c.deleted_at.is_(None)).correlate(Pairs),
        DuplicateRecord,
    )
    return (
        select(pair.score, pair.reasons, shown.column)
        .where(
            pair.kind == literal_column(f"'{kind}'"),
            or_(pair.record_id == record_id, pair.other_id == record_id),
            pair.dismissed_at.is_(None),
        )
        .order_by(pair.score.desc(), other)
        .limit(100)
    )


DUPLICATES = {kind: duplicates_of(kind) for kind in COLUMNS}


def shown(row: Any) -> Duplicate | None:
    """A duplicate, unless it has gone into the trash a moment ago."""
    score, reasons, record = row
    return None if record is None else Duplicate(score, reasons, record)
