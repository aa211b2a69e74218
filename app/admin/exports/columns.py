"""The columns of exported lists. Each is written by the database itself: as a cell, or as a value in JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import fields
from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Numeric,
    String,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    select,
)
from sqlalchemy import literal_column as sql
from sqlalchemy.dialects.postgresql import JSONB

from app.admin.nested import customer_name, deal_title, project_name
from app.models import Activity, Contact, Customer, PipelineStage, Tag, UserReference, UserReferences
from app.web.structs import Body

BEFORE, AFTER = ("id", "external_id"), ("created_at", "updated_at", "deleted_at")
# As app.files.cells says it: what text begins with that a spreadsheet runs. The first letter decides for most.
FIRST_LETTERS = tuple(map(ord, "'=+-@\t\r"))
RUNS: ColumnElement[str] = sql(r"'^''*[=+@\t\r-]'")
NUMBER: ColumnElement[str] = sql("'^[+-][0-9 ()/.-]*$'")
SEPARATOR: ColumnElement[str] = sql("';'")
# A name with one of these is in quotes.
SPECIAL: ColumnElement[str] = sql("""'[;"]'""")
# The colons are in quotes, since some tools that send this statement take :MI for a parameter.
TIME: ColumnElement[str] = sql("""'YYYY-MM-DD"T"HH24":"MI":"SS.US"Z"'""")


class Column(NamedTuple):
    """One column: as a cell of a CSV, as one of a workbook, which has types but no lists, and as a value in JSON."""

    name: str
    cell: ColumnElement[Any]
    plain: ColumnElement[Any]
    json: ColumnElement[Any]


def _harmless(text: ColumnElement[Any]) -> ColumnElement[str]:
    """What `app.files.cells.harmless` does."""
    first = func.ascii(text).in_([sql(str(letter)) for letter in FIRST_LETTERS])
    runs = and_(first, text.bool_op("~")(RUNS), text.bool_op("!~")(NUMBER))
    return case((runs, sql("''''").op("||")(text)), else_=text)


def _time(column: ColumnElement[Any]) -> ColumnElement[str]:
    """As records show it: in UTC with `Z`, with six decimals or none."""
    return func.replace(func.to_char(func.timezone("UTC", column), TIME), sql("'.000000Z'"), sql("'Z'"))


def _column(name: str, value: ColumnElement[Any]) -> Column:
    kind = value.type
    if isinstance(kind, UserReference):
        person = func.crm_user_json(value)
        return Column(name, _harmless(cast(value, Text)), person, person)
    if isinstance(kind, UserReferences):
        return _people(name, value)
    if isinstance(kind, DateTime):
        time = _time(value)
        return Column(name, time, time, time)
    if isinstance(kind, Numeric):
        amount = func.trim_scale(value)
        return Column(name, amount, amount, amount)
    if isinstance(kind, Boolean):
        return Column(name, cast(value, Text), value, value)
    if isinstance(kind, JSONB):
        return Column(name, cast(value, Text), cast(value, Text), value)
    return Column(name, _harmless(value) if isinstance(kind, String) else value, value, value)


def _people(name: str, value: Any) -> Column:
    """The ids of several people, apart by semicolons in a cell."""
    shown: ColumnElement[Any] = func.unnest(value).column_valued("person")
    as_json = func.coalesce(select(func.json_agg(func.crm_user_json(shown))).scalar_subquery(), sql("'[]'::json"))
    quoted = func.concat('"', func.replace(shown, sql("""'"'"""), sql("""'""'""")), '"')
    each = case((shown.bool_op("~")(SPECIAL), quoted), else_=shown)
    in_cell = select(func.string_agg(each, SEPARATOR, type_=Text)).scalar_subquery()
    return Column(name, _made_once(name, in_cell, value.table), in_cell, as_json)


def _made_once(name: str, in_cell: ColumnElement[Any], table: Table) -> ColumnElement[str]:
    """A cell of which the beginning is looked at: from a subquery, so that it is made once."""
    made = select(in_cell.label(name)).correlate(table).offset(sql("0")).subquery("made")
    return select(_harmless(made.c[name])).scalar_subquery()


def _tags() -> Column:
    """The names of a customer's tags. All names are read at once: to find each takes as long as the rest of a row."""
    tag, of_customer = Tag.__table__.c, Customer.__table__.c.tags
    quoted = func.concat('"', func.replace(tag.name, sql("""'"'"""), sql("""'""'""")), '"')
    cell = case((tag.name.bool_op("~")(SPECIAL), quoted), else_=tag.name)
    each: ColumnElement[int] = func.unnest(of_customer).column_valued("each")

    def together(name: ColumnElement[str]) -> ColumnElement[Any]:
        names = select(func.jsonb_object_agg(cast(tag.id, Text), name)).scalar_subquery()
        found = names.op("->>", return_type=Text())(cast(each, Text))
        return func.array(select(found).correlate(Customer).scalar_subquery())

    has_tags = func.cardinality(of_customer) > sql("0")
    in_cell = case((has_tags, func.array_to_string(together(cell), SEPARATOR, type_=Text)))
    listed = case((has_tags, func.array_to_json(together(tag.name))), else_=sql("'[]'::json"))
    return Column("tags", _made_once("tags", in_cell, of_customer.table), in_cell, listed)


def _contact_name(reference: ColumnElement[Any]) -> ColumnElement[str]:
    contact = Contact.__table__.alias("its_contact").c
    name = func.btrim(func.concat_ws(" ", contact.first_name, contact.last_name), type_=Text)
    return select(name).where(contact.id == reference).scalar_subquery()


def _activity_title(reference: ColumnElement[Any]) -> ColumnElement[str]:
    activity = Activity.__table__.alias("its_activity").c
    return select(activity.title).where(activity.id == reference).scalar_subquery()


def _stage_name(reference: ColumnElement[Any]) -> ColumnElement[str]:
    stage = PipelineStage.__table__.alias("its_stage").c
    return select(stage.name).where(stage.id == reference).scalar_subquery()


# Beside each of these, for people, what the record that it refers to is called.
NAMES: dict[str, Callable[[ColumnElement[Any]], ColumnElement[str]]] = {
    "customer_id": customer_name,
    "contact_id": _contact_name,
    "deal_id": deal_title,
    "activity_id": _activity_title,
    "project_id": project_name,
}


def columns_of(table: Table, change: type[Body]) -> dict[str, Callable[[], Column]]:
    """The columns of a kind of record: those that can be written have the order of its change.

    Each is made when an export asks for it: all of them would take a fortieth of each start.
    """

    def stored(name: str) -> Callable[[], Column]:
        return lambda: _column(name, _stage_name(table.c.stage_id) if name == "stage" else table.c[name])

    def called(name: str, reference: str) -> Callable[[], Column]:
        return lambda: _column(name, NAMES[reference](table.c[reference]))

    written = [field.encode_name for field in fields(change) if field.encode_name not in BEFORE]
    made = {name: stored(name) for name in BEFORE}
    for name in written:
        made[name] = stored(name)
        if name in NAMES:
            shown = name.removesuffix("_id")
            made[shown] = called(shown, name)
    if "tags" in table.c:
        made["tags"] = _tags
    if "author_id" in table.c:
        made |= {name: stored(name) for name in ("author_id", "author_name")}
    return made | {name: stored(name) for name in AFTER}
