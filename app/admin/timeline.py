"""What happened to a record, newest first: from the audit log, the stage history, and the records that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import UNSET
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Numeric,
    Select,
    String,
    Subquery,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import LateralFromClause, SelectBase
from sqlalchemy.types import BigInteger

from app.admin.activities import queries as activities
from app.admin.attachments import queries as attachments
from app.admin.notes import queries as notes
from app.models import (
    Activity,
    Attachment,
    AuditEntry,
    Customer,
    Deal,
    Note,
    PipelineStage,
    Project,
    StageMove,
)
from app.records.json_columns import Columns, JsonColumn, json_object
from app.records.listing import Listing
from app.web.paging import ListQuery, SortOrder
from app.web.structs import Maybe, View

audit = AuditEntry.__table__.c
move = StageMove.__table__.c
deal = Deal.__table__.c
project = Project.__table__.c
RECORD: ColumnElement[int] = bindparam("timeline_of", type_=BigInteger)
# The ways in which rows of a table may belong to the record: one condition for each way.
Links: TypeAlias = Callable[[Any], Sequence[ColumnElement[bool]]]


class TimelineSort(StrEnum):
    """A timeline has one order."""

    AT = "at"


class TimelineQuery(ListQuery):
    """A timeline is walked, not filtered."""

    sort_by: Maybe[TimelineSort] = UNSET


class TimelineEvent(View):
    """One thing that happened, by whom, and what it was: a change's `{from, to}`, or the record that came."""

    type: str
    at: datetime
    user_id: int | str | None
    user_name: str | None
    data: Any


NOT_A_RECORD: ColumnElement[Any] = null()


def _text(ours: str) -> ColumnElement[str]:
    """A text of our own, in the SQL itself: there are so many that sending them as parameters would take time."""
    return literal_column(f"'{ours}'", String)


def _event(
    kind: str,
    at: ColumnElement[Any],
    user_id: Any,
    user_name: Any,
    data: Any,
    tie: ColumnElement[Any],
    record_id: Any = NOT_A_RECORD,
) -> list[ColumnElement[Any]]:
    return [
        _text(kind).label("type"),
        at.label("at"),
        func.crm_user_json(user_id).label("user_id"),
        user_name.label("user_name"),
        cast(data, Text).label("data"),
        # Events of one moment stand in the order in which they were written, always the same.
        cast(func.concat(_text(f"{kind}:"), func.lpad(cast(tie, Text), literal_column("19"), _text("0"))), Text).label(
            "id"
        ),
        cast(record_id, BigInteger).label("record_id"),
    ]


def _audited(kind: str, resource: str, *conditions: ColumnElement[bool], data: Any) -> Select[Any]:
    return select(*_event(kind, audit.created_at, audit.user_id, audit.user_name, data, audit.id)).where(
        audit.resource_type == _text(resource), audit.resource_id == RECORD, *conditions
    )


def _writer(kind: str, table: Any) -> LateralFromClause:
    """The person who created a record."""
    return (
        select(audit.user_id, audit.user_name, audit.via)
        .where(
            audit.resource_type == _text(kind),
            audit.resource_id == table.c.id,
            audit.action == _text("create"),
        )
        .order_by(audit.id)
        .limit(1)
        .lateral("writer")
    )


def created(kind: str, table: Any) -> Select[Any]:
    """The record was created, or imported: at its created_at, which may be older than its row."""
    writer = _writer(kind, table)
    _, *event = _event("created", table.c.created_at, writer.c.user_id, writer.c.user_name, null(), table.c.id)
    way = case((writer.c.via == _text("import"), _text("imported")), else_=_text("created"))
    return (
        select(cast(way, String).label("type"), *event)
        .select_from(table.outerjoin(writer, literal_column("true")))
        .where(table.c.id == RECORD)
    )


def changed(kind: str, resource: str, field: str) -> Select[Any]:
    """A field changed."""

    def shown(values: ColumnElement[Any]) -> ColumnElement[Any]:
        if field == "amount":
            return func.to_jsonb(func.trim_scale(cast(values[name].astext, Numeric)))
        if field in {"owner_id", "assigned_to"}:
            return func.crm_user_json(values[name].astext)
        return values[name]

    name = _text(field)
    data = json_object({"from": shown(audit.old_values), "to": shown(audit.new_values)})
    is_change = or_(audit.action == _text("update"), audit.action == _text("merge"))
    return _audited(kind, resource, is_change, cast(audit.new_values, JSONB).has_key(name), data=data)


def moved(kind: str, *, of_customer: bool) -> Select[Any]:
    """A deal moved to another stage, after so many seconds in the one before."""
    before = StageMove.__table__.alias("before")
    names = PipelineStage.__table__
    come, gone = names.alias("come"), names.alias("gone")
    seconds = (
        select(func.floor(func.extract("epoch", move.entered_at - before.c.entered_at)))
        .where(before.c.deal_id == move.deal_id, before.c.id < move.id)
        .order_by(before.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    data: Columns = {
        "from": select(gone.c.name).where(gone.c.id == move.from_stage_id).scalar_subquery(),
        "to": select(come.c.name).where(come.c.id == move.to_stage_id).scalar_subquery(),
        "seconds": seconds,
    }
    if of_customer:
        data |= {"deal_id": move.deal_id, "title": deal.title}
    event = _event(kind, move.entered_at, move.user_id, move.user_name, json_object(data), move.id)
    events = select(*event).where(move.from_stage_id.is_not(None))
    if not of_customer:
        return events.where(move.deal_id == RECORD)
    return events.join(Deal, deal.id == move.deal_id).where(deal.customer_id == RECORD, deal.deleted_at.is_(None))


def deals_created() -> Select[Any]:
    """A deal with the customer was created."""
    data = json_object({"id": deal.id, "title": deal.title})
    events = _event("deal_created", move.entered_at, move.user_id, move.user_name, data, move.id)
    return (
        select(*events)
        .join(Deal, deal.id == move.deal_id)
        .where(move.from_stage_id.is_(None), deal.customer_id == RECORD, deal.deleted_at.is_(None))
    )


def projects_created() -> Select[Any]:
    """A project with the customer was created."""
    table = Project.__table__
    writer = _writer("project", table)
    data = json_object({"id": project.id, "name": project.name})
    events = _event("project_created", project.created_at, writer.c.user_id, writer.c.user_name, data, project.id)
    return (
        select(*events)
        .select_from(table.outerjoin(writer, literal_column("true")))
        .where(project.customer_id == RECORD, project.deleted_at.is_(None))
    )


def came(kind: str, table: Any, links: Links) -> Select[Any]:
    """A record was added to this one. Its content is read only for the events of the page: see `_data`."""
    writer, key = _writer(kind, table), table.c.id
    event = _event(kind, table.c.created_at, writer.c.user_id, writer.c.user_name, null(), key, key)
    return (
        select(*event)
        .select_from(table.outerjoin(writer, literal_column("true")))
        .where(table.c.id.in_(_ids(table, links)), table.c.deleted_at.is_(None))
    )


activity_table, note_table, attachment_table = Activity.__table__, Note.__table__, Attachment.__table__
SHOWN: dict[str, tuple[Any, Columns]] = {
    "activity": (activity_table, activities.COLUMNS),
    "note": (note_table, notes.COLUMNS),
    "attachment": (attachment_table, attachments.COLUMNS),
}


def _of_customer(table: Any) -> Sequence[ColumnElement[bool]]:
    deals = select(deal.id).where(deal.customer_id == RECORD, deal.deleted_at.is_(None))
    projects = select(project.id).where(project.customer_id == RECORD, project.deleted_at.is_(None))
    return (table.c.customer_id == RECORD, _one_of(table.c.deal_id, deals), _one_of(table.c.project_id, projects))


def _one_of(key: ColumnElement[Any], ids: SelectBase) -> ColumnElement[bool]:
    # As an array: a join by a foreign key is planned as if every row had one, and few rows have one of a project.
    return key == any_(func.array(ids.scalar_subquery()))


def _of_deal(table: Any) -> Sequence[ColumnElement[bool]]:
    return (table.c.deal_id == RECORD,)


def _of_project(table: Any) -> Sequence[ColumnElement[bool]]:
    return (table.c.project_id == RECORD,)


def _or_activities(of_record: Links) -> Links:
    """Rows that belong to the record itself, or to one of its activities."""
    return lambda table: (*of_record(table), _one_of(table.c.activity_id, _ids(activity_table, of_record)))


def _ids(table: Any, links: Links) -> CompoundSelect[Any]:
    # One select for each way, so that each uses its index; an OR would use none.
    row = table.alias()
    return union(*(select(row.c.id).where(link) for link in links(row)))


OF_DEAL: Sequence[Select[Any]] = (
    created("deal", Deal.__table__),
    moved("stage_changed", of_customer=False),
    changed("amount_changed", "deal", "amount"),
    changed("owner_changed", "deal", "owner_id"),
    came("activity", activity_table, _of_deal),
    came("note", note_table, _or_activities(_of_deal)),
    came("attachment", attachment_table, _or_activities(_of_deal)),
)
OF_PROJECT: Sequence[Select[Any]] = (
    created("project", Project.__table__),
    changed("status_changed", "project", "status"),
    changed("owner_changed", "project", "owner_id"),
    came("activity", activity_table, _of_project),
    came("note", note_table, _or_activities(_of_project)),
    came("attachment", attachment_table, _or_activities(_of_project)),
)
OF_CUSTOMER: Sequence[Select[Any]] = (
    created("customer", Customer.__table__),
    changed("status_changed", "customer", "status"),
    changed("owner_changed", "customer", "assigned_to"),
    deals_created(),
    projects_created(),
    moved("deal_stage_changed", of_customer=True),
    came("activity", activity_table, _of_customer),
    came("note", note_table, _or_activities(_of_customer)),
    came("attachment", attachment_table, _or_activities(_of_customer)),
)


def _table(parts: Sequence[Select[Any]]) -> Subquery:
    events: CompoundSelect[Any] = union_all(*parts)
    return events.subquery("events")


def _data(events: Subquery) -> ColumnElement[Any]:
    """The data of an event. A record that was added is shown whole: it can be large, so it is read for a page only."""
    records = [
        (
            events.c.type == _text(kind),
            select(cast(json_object(columns), Text)).where(table.c.id == events.c.record_id),
        )
        for kind, (table, columns) in SHOWN.items()
    ]
    return case(*((is_it, shown.correlate(events).scalar_subquery()) for is_it, shown in records), else_=events.c.data)


def _columns(events: Subquery) -> Columns:
    return {
        "type": events.c.type,
        "at": events.c.at,
        "user_id": JsonColumn(events.c.user_id, int | str | None),
        "user_name": events.c.user_name,
        "data": JsonColumn(_data(events), Any),
    }


def listing(name: str, parts: Sequence[Select[Any]]) -> Listing[TimelineEvent]:
    """A timeline as a list; the parameter `timeline_of` is the record's id."""
    events = _table(parts)
    return Listing(
        name,
        TimelineEvent,
        _columns(events),
        events,
        key=events.c.id,
        query=TimelineQuery,
        default_sort=("at", SortOrder.DESC),
    )


def newest(parts: Sequence[Select[Any]], count: int) -> Select[Any]:
    """The newest events of a timeline, to be nested."""
    events = _table(parts)
    columns = [
        events.c.type,
        events.c.at,
        events.c.user_id,
        events.c.user_name,
        cast(_data(events), JSONB).label("data"),
    ]
    return select(*columns).order_by(events.c.at.desc(), events.c.id.desc()).limit(count)


DEAL_TIMELINE = listing("deal timeline", OF_DEAL)
PROJECT_TIMELINE = listing("project timeline", OF_PROJECT)
CUSTOMER_TIMELINE = listing("customer timeline", OF_CUSTOMER)
