"""The trash of all kinds of record, as the database reads it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Text, case, cast, func, literal, null, select, union_all
from sqlalchemy.types import BigInteger

from app.admin.trash.schemas import Deleter, Trashed, TrashQuery
from app.models import AuditEntry
from app.records.filters import one_of
from app.records.json_columns import Columns, JsonColumn
from app.records.listing import Listing
from app.records.resources import WITH_TRASH, Resource
from app.web.paging import SortOrder

audit = AuditEntry.__table__.c


def _trash(resource: Resource) -> Select[Any]:
    c = resource.table.c
    return select(
        literal(resource.kind, Text).label("type"),
        cast(c.id, BigInteger).label("record_id"),
        c.deleted_at.label("deleted_at"),
        # What was deleted together has the same time: it always stands in the same order.
        cast(func.concat(resource.kind, ":", func.lpad(cast(c.id, Text), 19, "0")), Text).label("id"),
    ).where(c.deleted_at.is_not(None))


PARTS = [_trash(resource) for resource in WITH_TRASH]
trash = union_all(*PARTS).subquery("trash")


def _columns() -> Columns:
    # Both are looked up for the rows of a page only.
    titles = (
        (
            trash.c.type == resource.kind,
            select(resource.shown_title)
            .where(resource.table.c.id == trash.c.record_id)
            .correlate(trash)
            .scalar_subquery(),
        )
        for resource in WITH_TRASH
    )
    person = func.json_build_object("id", func.crm_user_json(audit.user_id), "name", audit.user_name)
    deleted_by = (
        select(case((audit.user_id.is_not(None), person), else_=null()))
        .where(audit.resource_type == trash.c.type, audit.resource_id == trash.c.record_id, audit.action == "delete")
        .order_by(audit.id.desc())
        .limit(1)
        .correlate(trash)
        .scalar_subquery()
    )
    return {
        "type": trash.c.type,
        "id": trash.c.record_id,
        "title": case(*titles),
        "deleted_at": trash.c.deleted_at,
        "deleted_by": JsonColumn(deleted_by, Deleter | None),
    }


LISTING = Listing(
    "trash",
    Trashed,
    _columns(),
    trash,
    key=trash.c.id,
    query=TrashQuery,
    filters={"type": one_of(trash.c.type)},
    default_sort=("deleted_at", SortOrder.DESC),
    parts=[part.subquery() for part in PARTS],
)
