"""What tools are called with."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, Struct, defstruct, field
from msgspec.structs import fields

from app.admin.activities.schemas import ActivityCreate
from app.admin.deals.schemas import DealChange, StageReference
from app.admin.duplicates.schemas import MOST_MEMBERS
from app.admin.notes.schemas import NoteCreate
from app.admin.reports.schemas import ForecastBy
from app.admin.search.schemas import SearchType
from app.admin.tools.kinds import Listed, Readable, Trashed
from app.web.paging import UserFilter
from app.web.structs import DATES, MAX_ID, Body, From, Maybe, RecordId, Until
from app.web.text import SEARCH

MOST_ROWS = 50
DEFAULT_ROWS = 20

Limit = Annotated[int, Meta(ge=1, le=MOST_ROWS, description=f"At most so many; {DEFAULT_ROWS} unless given")]
Cursor = Annotated[
    str,
    Meta(
        max_length=16_384,
        description="next_cursor of the answer before, to read on",
        extra_json_schema={"minLength": 1},
    ),
]
Fields = Annotated[
    list[Annotated[str, Meta(max_length=100)]],
    Meta(max_length=50, description="Show only these fields", examples=[["name", "status"]]),
]
Values = Annotated[
    dict[str, Any],
    Meta(
        description="Fields and their values, as describe lists them; null clears one",
        examples=[{"first_name": "Grace", "last_name": "Hopper", "customer_id": 12}],
    ),
]


# Bounds that say nothing.
FARTHEST = (MAX_ID, -MAX_ID - 1)
NULL = {"type": "null"}


class Nothing(Body, kw_only=True):
    """No arguments."""


class Search(Body, kw_only=True):
    """What is looked for."""

    q: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="Some letters of a name, an email, a phone number, a title or a note. All words must be found",
            examples=["lovelace"],
            **SEARCH,
        ),
    ]
    types: Maybe[Annotated[list[SearchType], Meta(max_length=len(SearchType))]] = UNSET
    limit: Maybe[Limit] = UNSET
    cursor: Maybe[Cursor] = UNSET


class ListRecords(Body, kw_only=True):
    """Which records."""

    type: Listed
    filters: Maybe[
        Annotated[
            dict[str, Any],
            Meta(
                description="By field, as describe lists them: a value, or a list of which any will do."
                ' "me" stands for the person who asks',
                examples=[{"status": ["lead", "active"], "assigned_to": "me"}],
            ),
        ]
    ] = UNSET
    sort: Maybe[
        Annotated[
            str,
            Meta(
                max_length=50,
                description="A field that describe lists under sorts; with - before it from the last to the first",
                examples=["-created_at"],
                extra_json_schema={"pattern": "^-?[a-z_]*$"},
            ),
        ]
    ] = UNSET
    fields: Maybe[Fields] = UNSET
    limit: Maybe[Limit] = UNSET
    cursor: Maybe[Cursor] = UNSET


class GetRecord(Body, kw_only=True):
    """Which record, and how much of it."""

    type: Readable
    id: RecordId
    fields: Maybe[Fields] = UNSET
    cursor: Maybe[Cursor] = UNSET


class CreateRecord(Body, kw_only=True):
    """A new record."""

    type: Readable
    values: Values


class UpdateRecord(Body, kw_only=True):
    """Which record, and what it gets."""

    type: Readable
    id: RecordId
    values: Values


class DeleteRecord(Body, kw_only=True):
    """Which record."""

    type: Readable
    id: RecordId


class RestoreRecord(Body, kw_only=True):
    """Which record that was deleted."""

    type: Trashed
    id: RecordId


class MergeCustomers(Body, kw_only=True):
    """Which customers are the same."""

    into: Annotated[RecordId, Meta(description="The customer that stays")]
    from_: Annotated[
        list[RecordId],
        Meta(min_length=1, max_length=MOST_MEMBERS - 1, description="Those that go into it", examples=[[17]]),
    ] = field(name="from")


class Report(StrEnum):
    """The reports that there are."""

    OVERVIEW = "overview"
    SUMMARY = "summary"
    FUNNEL = "funnel"
    FORECAST = "forecast"
    TEAM = "team"


class AskReport(Body, kw_only=True):
    """Which report, of which time and whose."""

    report: Report
    from_: Maybe[From] = field(default=UNSET, name="from")
    to: Maybe[Until] = UNSET
    owner_id: Maybe[UserFilter] = UNSET
    by: Maybe[ForecastBy] = UNSET
    cursor: Maybe[Cursor] = UNSET


class Describe(Body, kw_only=True):
    """What is described."""

    type: Maybe[Listed] = UNSET


def _part(name: str, about: str, of: type[Body], *names: str, **more: Any) -> type[Body]:
    """Arguments that are some fields of a body."""
    known = {each.name: each for each in fields(of)}
    taken: list[Any] = [
        (each, known[each].type) if known[each].required else (each, known[each].type, known[each].default)
        for each in names
    ]
    made: Any = defstruct(
        name,
        [*((each, kind) for each, kind in more.items()), *taken],
        bases=(Body,),
        kw_only=True,
        module=__name__,
        namespace={"__doc__": about},
    )
    return cast("type[Body]", made)


LogActivity = _part(
    "LogActivity",
    "What was done, or is to be done.",
    ActivityCreate,
    *("type", "title", "description", "customer_id", "deal_id", "project_id", "contact_id", "status", "due_date"),
    *("completed_at", "duration", "outcome", "priority", "assigned_to"),
)
AddNote = _part(
    "AddNote",
    "What is to be remembered, and of what.",
    NoteCreate,
    *("content", "customer_id", "deal_id", "activity_id", "project_id"),
)
MoveDeal = _part(
    "MoveDeal",
    "Which deal goes to which stage.",
    DealChange,
    *("amount", "actual_close_date", "lost_reason"),
    id=RecordId,
    stage=StageReference,
)


@cache
def schema_of(kind: type[Struct]) -> dict[str, Any]:
    """Its JSON Schema, in one piece, and as simple as models need it: what else holds, an error says."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    written: dict[str, Any] = _in_one(schema, components)
    return {name: value for name, value in written.items() if name != "description"}


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The same for what is not null: an argument is left out instead."""
    options = [each for each in schema.get("anyOf", []) if each != NULL]
    if len(options) != 1:
        return schema
    alone: dict[str, Any] = options[0]
    return {name: value for name, value in schema.items() if name != "anyOf"} | alone


def _in_one(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_in_one(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = components[schema["$ref"]] | {name: value for name, value in schema.items() if name != "$ref"}
        if "enum" in schema:
            schema = {"type": "string", "enum": schema["enum"]}
    if schema.get("format") == "decimal":
        schema = schema | {"type": "number"}
    if schema.get("anyOf") == DATES["anyOf"]:
        schema = {name: value for name, value in schema.items() if name != "anyOf"}
    return {
        name: {each: _in_one(inner, components) for each, inner in value.items()}
        if name == "properties"
        else _in_one(value, components)
        for name, value in schema.items()
        if name not in {"title", "format", "pattern", "exclusiveMaximum"} and value not in FARTHEST
    }
