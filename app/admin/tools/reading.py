"""The tools that read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct
from msgspec.structs import fields

from app.admin.pipeline_stages.schemas import PipelineStage
from app.admin.reports.schemas import DealSummary, Forecast, Funnel, Overview, Team
from app.admin.search.schemas import Found
from app.admin.tools.answers import MOST_BYTES, UNTRUSTED, fitting, fitting_rows, people_in, shaped, size, with_names
from app.admin.tools.arguments import (
    DEFAULT_ROWS,
    AskReport,
    Describe,
    GetRecord,
    ListRecords,
    Nothing,
    Report,
    Search,
)
from app.admin.tools.describing import about, description_of
from app.admin.tools.kinds import KINDS, Kind, Listed, kind_of
from app.admin.tools.tool import Caller, ToolError
from app.admin.users.schemas import User
from app.web.paging import NOT_FILTERS
from app.web.text import is_text

MOST_PEOPLE = 100
MOST_FILTER_BYTES = 2000
# What an answer has beside its rows.
AROUND = 300
ROWS_A_DAY = 20
STALE_DAYS = 14
PLACE = re.compile(r"([a-z_]{1,50}):([0-9]{1,6})")
ROW = re.compile(r"[0-9]{1,6}")
CHUNK = 1500
# What a search finds at most.
MOST_FOUND = 100
# The lists that hang on a record, by what lists their records.
HANGING = {
    "contacts": Listed.CONTACT,
    "open_deals": Listed.DEAL,
    "upcoming_activities": Listed.ACTIVITY,
    "recent_activities": Listed.ACTIVITY,
    "activities": Listed.ACTIVITY,
    "tasks": Listed.ACTIVITY,
    "notes": Listed.NOTE,
}
SHOWN_OF_STAGES = ("kind", "probability", "display_name")


class Source(NamedTuple):
    """Where a report is, and what it takes."""

    path: str
    answer: type[Struct]
    takes: frozenset[str]


_PERIOD = frozenset({"from", "to"})
REPORTS = {
    Report.OVERVIEW: Source("/admin/reports/overview", Overview, frozenset()),
    Report.SUMMARY: Source("/admin/reports/deals/summary", DealSummary, _PERIOD | {"owner_id"}),
    Report.FUNNEL: Source("/admin/reports/deals/funnel", Funnel, _PERIOD | {"owner_id"}),
    Report.FORECAST: Source("/admin/reports/deals/forecast", Forecast, _PERIOD | {"owner_id", "by"}),
    Report.TEAM: Source("/admin/reports/team", Team, _PERIOD),
}


async def search(caller: Caller, given: Search) -> dict[str, Any]:
    """Everything at once, best first."""
    limit = given.limit or DEFAULT_ROWS
    first = _place(given.cursor)
    most = min(first + limit, MOST_FOUND)
    found = (await caller.read("/admin/search", {"q": given.q, "types": given.types, "limit": most}))["data"]
    rows = [shaped(Found, row) for row in found[first:]]
    shown = fitting_rows(rows, MOST_BYTES - AROUND) if rows else []
    after = first + len(shown)
    if after < len(found) or len(found) == most < MOST_FOUND:
        return {"data": shown, "next_cursor": str(after)}
    more = {"more": f"These are the best {MOST_FOUND}: ask with more letters."} if after == MOST_FOUND else {}
    return {"data": shown, **more, "next_cursor": None}


async def list_records(caller: Caller, given: ListRecords) -> dict[str, Any]:
    """A page of records."""
    kind = kind_of(given.type)
    limit = given.limit or DEFAULT_ROWS
    if kind.query is None:
        return await _whole(caller, kind, given, limit)
    filters = given.filters or {}
    for name in filters:
        if name in NOT_FILTERS:
            raise ToolError(f"filters.{name} is no filter: call describe with type {given.type} to see the filters.")
    if size(filters) > MOST_FILTER_BYTES:
        raise ToolError("These filters are too long: ask for less at once.")
    query: dict[str, Any] = {**filters, "cursor": given.cursor}
    if given.sort:
        order = "desc" if given.sort.startswith("-") else "asc"
        query |= {"sort_by": given.sort.removeprefix("-"), "sort_order": order}
    while True:
        page = await caller.read(kind.collection, query | {"page_size": limit})
        rows = await _rows(caller, kind, page["data"], given.fields)
        cursor = page["next_cursor"]
        shown = fitting_rows(rows, MOST_BYTES - AROUND - len(cursor or "")) if rows else []
        if len(shown) == len(rows):
            total = {} if page["total"] is None else {"total": page["total"]}
            return {"data": shown, **total, "next_cursor": cursor}
        # The cursor belongs after the last row that is shown.
        limit = len(shown)


async def _whole(caller: Caller, kind: Kind, given: ListRecords, limit: int) -> dict[str, Any]:
    """A part of a list that is short enough to have no pages. Its cursor is a number."""
    if given.filters or given.sort:
        raise ToolError(f"A list of type {given.type} has no filters and no sort: leave them out.")
    first = _place(given.cursor)
    document = await caller.read(kind.collection)
    rows = await _rows(caller, kind, document["data"][first : first + limit], given.fields)
    shown = fitting_rows(rows, MOST_BYTES - AROUND) if rows else []
    after = first + len(shown)
    return {
        "data": shown,
        "total": document["total"],
        "next_cursor": str(after) if after < document["total"] else None,
    }


def _place(cursor: Any) -> int:
    """Where to read on in what has no pages. Raises ToolError."""
    if not cursor:
        return 0
    if not ROW.fullmatch(cursor):
        raise ToolError("The cursor is not valid here: start again without one.")
    return int(cursor)


async def _rows(caller: Caller, kind: Kind, rows: list[dict[str, Any]], wanted: Any) -> list[dict[str, Any]]:
    picked = [_picked(kind.view, row, wanted) for row in rows]
    return [shaped(kind.view, row) for row in await _named(caller, picked)]


def _picked(view: type[Struct], row: dict[str, Any], wanted: Any) -> dict[str, Any]:
    """The row with these fields only. Raises ToolError."""
    if wanted is UNSET:
        return row
    for name in wanted:
        if name not in view.__struct_encode_fields__:
            raise ToolError(f"fields: there is no {name!r}; there are {', '.join(view.__struct_encode_fields__)}.")
    return {name: value for name, value in row.items() if name in wanted or name == "id"}


async def get_record(caller: Caller, given: GetRecord) -> dict[str, Any]:
    """A record with what hangs on it."""
    kind = kind_of(given.type)
    record = await caller.read(f"{kind.collection}/{given.id}")
    if given.cursor:
        return _read_on(given, record)
    (named,) = await _named(caller, [_once(_picked(kind.detail, record, given.fields))])
    cut = fitting(shaped(kind.detail, named), MOST_BYTES - 2 * AROUND)
    texts = [f"{name}:{shown}" for name, shown in cut.texts.items() if is_text(record.get(name))]
    more = [
        *(f"to read all of {place.partition(':')[0]}, call again with cursor {place}" for place in texts),
        *(_rest(given, name, count) for name, count in cut.lists.items()),
    ]
    answered: dict[str, Any] = {"type": given.type, "data": cut.content}
    if more:
        answered["more"] = "; ".join(more)[:AROUND]
    return answered | {"next_cursor": texts[0]} if texts else answered


def _rest(given: GetRecord, name: str, count: int) -> str:
    """How to read what a list that hangs on a record has more."""
    query = KINDS[HANGING[name]].query if name in HANGING else None
    reference = f"{given.type}_id"
    if query is None or reference not in query.__struct_encode_fields__:
        return f"{name} has {count} more, which are not shown"
    asks = f'type {HANGING[name]} and filters {{"{reference}": {given.id}}}'
    return f"{name} has {count} more: list_records with {asks}"


def _once(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what stands in it twice."""
    contacts = {each["id"] for each in record.get("contacts") or []}
    planned = {each["id"] for each in record.get("upcoming_activities") or []}
    left_out = {"primary_contact"} if (record.get("primary_contact") or {}).get("id") in contacts else set()
    once = {name: value for name, value in record.items() if name not in left_out}
    if planned and "recent_activities" in once:
        once["recent_activities"] = [each for each in once["recent_activities"] if each["id"] not in planned]
    return once


def _read_on(given: GetRecord, record: Mapping[str, Any]) -> dict[str, Any]:
    """The next part of a long text."""
    place = PLACE.fullmatch(given.cursor or "")
    text = record.get(place[1]) if place else None
    if place is None or not isinstance(text, str):
        raise ToolError("The cursor is not valid here: call get_record without one.")
    first = int(place[2])
    # A character has up to six bytes in JSON.
    chunk = text[first : first + CHUNK]
    while len(chunk) and size(chunk) < MOST_BYTES - 2 * AROUND and first + len(chunk) < len(text):
        longer = text[first : first + len(chunk) + CHUNK]
        if size(longer) > MOST_BYTES - 2 * AROUND:
            break
        chunk = longer
    after = first + len(chunk)
    return {
        "type": given.type,
        "data": {"id": given.id, UNTRUSTED: {place[1]: chunk}},
        "next_cursor": f"{place[1]}:{after}" if after < len(text) else None,
    }


async def report(caller: Caller, given: AskReport) -> dict[str, Any]:
    """A report."""
    source = REPORTS[given.report]
    asked = {
        field.encode_name: value
        for field in fields(AskReport)
        if field.name not in {"report", "cursor"} and (value := getattr(given, field.name)) is not UNSET
    }
    for name in asked:
        if name not in source.takes:
            raise ToolError(f"The report {given.report} does not take {name}: leave it out.")
    document = await caller.read(source.path, asked)
    (named,) = await _named(caller, [document])
    if given.cursor:
        return {"report": given.report, **_rest_of_report(source, named, given.cursor)}
    cut = fitting(shaped(source.answer, named), MOST_BYTES - 3 * AROUND)
    content = {"report": given.report, **cut.content}
    shown = cut.content | cut.content.get(UNTRUSTED, {})
    lists = {name: f"{name}:{len(shown[name])}" for name in cut.lists if isinstance(shown.get(name), list)}
    more = [
        *(f"to read {cut.lists[name]} more of {name}, call again with cursor {place}" for name, place in lists.items()),
        *(f"{name} is shortened" for name in {**cut.lists, **cut.texts} if name not in lists),
    ]
    if more:
        content["more"] = "; ".join(more)[: 2 * AROUND]
    return content | {"next_cursor": next(iter(lists.values()))} if lists else content


def _rest_of_report(source: Source, document: dict[str, Any], cursor: str) -> dict[str, Any]:
    """The next rows of a list in a report. Raises ToolError."""
    place = PLACE.fullmatch(cursor)
    rows = document.get(place[1]) if place else None
    if place is None or not isinstance(rows, list):
        raise ToolError("The cursor is not valid here: call report without one.")
    first = int(place[2])
    part = shaped(source.answer, {place[1]: rows[first:]})
    holder = part.get(UNTRUSTED, part)
    shown = fitting_rows(holder[place[1]], MOST_BYTES - AROUND) if rows[first:] else []
    holder[place[1]] = shown
    after = first + len(shown)
    return part | {"next_cursor": f"{place[1]}:{after}" if after < len(rows) else None}


class Part(NamedTuple):
    """A part of the day: its records, as `list_records` lists them with these arguments."""

    asks: dict[str, Any]
    fields: tuple[str, ...]


def _parts(today: str, stale_before: str) -> dict[str, Part]:
    of_a_day = {"due_date_from": today, "due_date_to": today}
    mine = {"assigned_to": "me"}
    activity = ("title", "type", "status", "due_date", "all_day", "priority", "customer", "deal", "project")
    follow_up = ("name", "company", "status", "email", "phone", "next_follow_up_at")
    deal = ("title", "stage", "amount", "currency", "customer", "expected_close_date", "updated_at")
    filters: dict[str, tuple[Listed, dict[str, Any], str, tuple[str, ...]]] = {
        "due_today": (Listed.ACTIVITY, mine | {"status": "scheduled"} | of_a_day, "due_date", activity),
        "overdue": (Listed.ACTIVITY, mine | {"status": "overdue"}, "due_date", activity),
        "follow_ups": (Listed.CUSTOMER, mine | {"follow_up_to": today}, "next_follow_up_at", follow_up),
        "stale_deals": (
            Listed.DEAL,
            {"owner_id": "me", "status": "open", "idle_since": stale_before},
            "updated_at",
            deal,
        ),
    }
    return {
        name: Part({"type": kind, "filters": asked, "sort": sort}, names)
        for name, (kind, asked, sort, names) in filters.items()
    }


async def my_day(caller: Caller, _: Nothing) -> dict[str, Any]:
    """What the person has to do."""
    settings = await caller.read("/admin/settings")
    now = datetime.now(ZoneInfo(settings["timezone"]))
    parts = _parts(now.date().isoformat(), (now.date() - timedelta(days=STALE_DAYS)).isoformat())
    rows: dict[str, list[dict[str, Any]]] = {}
    totals: dict[str, int] = {}
    for name, part in parts.items():
        kind = kind_of(part.asks["type"])
        page = {"page_size": ROWS_A_DAY, "sort_by": part.asks["sort"], "sort_order": "asc"}
        listed = await caller.read(kind.collection, part.asks["filters"] | page)
        totals[name] = listed["total"]
        rows[name] = [shaped(kind.view, _picked(kind.view, row, part.fields)) for row in listed["data"]]
    day: dict[str, Any] = {"today": now.date().isoformat(), "timezone": settings["timezone"]}
    room = MOST_BYTES - AROUND * (len(parts) + 1)
    told: dict[str, Any] = {}
    # What a short part leaves is for the longer ones.
    for left, name in zip(range(len(parts), 0, -1), sorted(parts, key=lambda each: size(rows[each])), strict=True):
        shown = fitting_rows(rows[name], room // left) if rows[name] else []
        room -= size(shown)
        told[name] = {"total": totals[name], "data": shown}
        if len(shown) < totals[name]:
            told[name]["more"] = {"count": totals[name] - len(shown), "list_records": parts[name].asks}
    return day | {name: told[name] for name in parts}


async def describe(caller: Caller, given: Describe) -> dict[str, Any]:
    """The types, or the fields, filters and values of one."""
    if given.type is UNSET:
        me = await caller.read("/admin/me")
        settings = await caller.read("/admin/settings")
        now = datetime.now(ZoneInfo(settings["timezone"]))
        you = {name: me["user"][name] for name in ("id", "name", "email", "role")}
        return {
            "types": {kind.value: about(KINDS[kind]) for kind in Listed},
            "now": now.isoformat(timespec="minutes"),
            "timezone": settings["timezone"],
            "currency": settings["default_currency"],
            "you": shaped(User, you),
            "next": "Call describe with one of these types for its fields, filters and sorts.",
        }
    described: dict[str, Any] = description_of(given.type, kind_of(given.type))
    if given.type in {Listed.DEAL, Listed.PIPELINE_STAGE}:
        stages = await caller.read("/admin/pipeline-stages")
        described["stages"] = [
            shaped(PipelineStage, {"stage": each["name"], **{name: each[name] for name in SHOWN_OF_STAGES}})
            for each in stages["data"]
            if each["is_active"]
        ]
    return fitting(described).content


async def _named(caller: Caller, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with people's names beside their ids."""
    ids = list(dict.fromkeys(people_in(documents)))[:MOST_PEOPLE]
    if not ids:
        return documents
    people = await caller.read("/admin/users", {"id": ids, "page_size": MOST_PEOPLE})
    names = {str(person["id"]): person["name"] or person["email"] for person in people["data"]}
    named: list[dict[str, Any]] = with_names(documents, {each: name for each, name in names.items() if name})
    return named
