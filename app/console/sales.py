"""The console's calls about deals, activities, notes and the dashboard."""

from __future__ import annotations

from functools import partial

from litestar import Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.admin.activities import service as activities
from app.admin.activities.queries import ACTIVITIES
from app.admin.activities.schemas import (
    ActivityChange,
    ActivityCreate,
    ActivityQuery,
    ActivitySort,
    ActivityStatus,
    MyActivityQuery,
)
from app.admin.deals import service as deals
from app.admin.deals.queries import DEALS
from app.admin.deals.queries import LISTING as DEAL_LISTING
from app.admin.deals.schemas import DealChange, DealCreate
from app.admin.http import message, transaction
from app.admin.notes import service as notes
from app.admin.notes.queries import NOTES
from app.admin.notes.schemas import NestedNoteQuery, NoteCreate
from app.admin.reports.routes import current_overview, overview_response
from app.console import requests, responses
from app.console.http import (
    DELETE,
    READ,
    WRITE,
    read,
    show,
    show_activity,
    show_note,
    with_column,
)
from app.console.queries import ACTIVITIES_WITH_OWNER, NOTES_WITH_AUTHOR
from app.console.values import Stages
from app.web.input import CrmRequest
from app.web.structs import Message, RecordId

AGENDA = ActivitySort.AGENDA

# ── deals ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/deals", guards=READ)
async def list_deals(
    request: CrmRequest, filters: NamedDependency[requests.DealFilters]
) -> Response[responses.Page[responses.Deal]]:
    """Deals, newest first. `date_from` and `date_to` filter by the expected closing date."""
    async with transaction(request) as tx:
        stages = await Stages.load(tx)
        shown = partial(responses.Deal.from_record, stages=stages)
        return await read(request, tx, DEAL_LISTING, filters.query(stages), shown)


@post("/deals", guards=WRITE)
async def create_deal(request: CrmRequest, data: JSONBody[requests.NewDealForm]) -> Response[responses.Deal]:
    """Create a deal of a customer. `name` is its title."""
    async with transaction(request) as tx:
        stages = await Stages.load(tx)
        deal = await deals.create(tx, data.read_deal(DealCreate, stages))
        return show(tx, responses.Deal.from_record(deal, stages), deal, 201)


@get("/deals/{deal_id:str}", guards=READ)
async def get_deal(request: CrmRequest, deal_id: FromPath[RecordId]) -> Response[responses.Deal]:
    """One deal."""
    async with transaction(request) as tx:
        deal = await DEALS.get(tx, deal_id)
        return show(tx, responses.Deal.from_record(deal, await Stages.load(tx)), deal)


@put("/deals/{deal_id:str}", guards=WRITE)
async def change_deal(
    request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[requests.DealForm]
) -> Response[responses.Deal]:
    """Change the fields that differ from what was shown."""
    return await _change_deal(request, deal_id, data)


@patch("/deals/{deal_id:str}/stage", guards=WRITE)
async def move_deal(
    request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[requests.StageForm]
) -> Response[responses.Deal]:
    """Move a deal to another stage."""
    return await _change_deal(request, deal_id, requests.DealForm(stage=data.stage))


async def _change_deal(request: CrmRequest, deal_id: int, data: requests.DealForm) -> Response[responses.Deal]:
    async with transaction(request) as tx:
        stages = await Stages.load(tx)
        shown = responses.Deal.from_record(await DEALS.get(tx, deal_id), stages)
        rollback_roles = request.app.state.settings.rollback_roles
        deal = await deals.change(tx, deal_id, data.read_deal(DealChange, stages, shown), rollback_roles)
        return show(tx, responses.Deal.from_record(deal, stages), deal)


@delete("/deals/{deal_id:str}", guards=DELETE, status_code=200)
async def delete_deal(request: CrmRequest, deal_id: FromPath[RecordId]) -> Response[Message]:
    """Put a deal into the trash, with everything that belongs to it."""
    async with transaction(request) as tx:
        await DEALS.trash(tx, deal_id)
        return message(tx, "Deal deleted successfully")


@get("/deals/{deal_id:str}/notes", guards=READ)
async def list_deal_notes(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[requests.NoteFilters]
) -> Response[responses.Page[responses.Note]]:
    """A deal's notes, newest first."""
    async with transaction(request) as tx:
        await DEALS.ensure_exists(tx, deal_id)
        scope = {"deal_id": [deal_id]}
        query = filters.read_as(NestedNoteQuery)
        return await read(request, tx, NOTES_WITH_AUTHOR, query, with_column(responses.Note.from_record), scope)


# ── activities ───────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/activities", guards=READ)
async def list_activities(
    request: CrmRequest, filters: NamedDependency[requests.ActivityFilters]
) -> Response[responses.Page[responses.Activity]]:
    """Activities: open ones by due date, then closed ones, newest first. `date_from`, `date_to`: the due date."""
    async with transaction(request) as tx:
        query = filters.read_as(ActivityQuery, sort_by=AGENDA)
        return await read(request, tx, ACTIVITIES_WITH_OWNER, query, with_column(responses.Activity.from_record))


@get("/me/activities", guards=READ)
async def list_my_activities(
    request: CrmRequest, filters: NamedDependency[requests.MyActivityFilters]
) -> Response[responses.Page[responses.Activity]]:
    """My activities in every status: open ones by due date, then closed ones, newest first."""
    async with transaction(request) as tx:
        query, mine = filters.read_as(MyActivityQuery, sort_by=AGENDA), {"assigned_to": ["me"]}
        return await read(request, tx, ACTIVITIES_WITH_OWNER, query, with_column(responses.Activity.from_record), mine)


@post("/activities", guards=WRITE)
async def create_activity(
    request: CrmRequest, data: JSONBody[requests.NewActivityForm]
) -> Response[responses.Activity]:
    """Create an activity. It may belong to a customer, a deal, or neither."""
    async with transaction(request) as tx:
        return await show_activity(tx, await activities.create(tx, data.read_as(ActivityCreate)), 201)


@get("/activities/{activity_id:str}", guards=READ)
async def get_activity(request: CrmRequest, activity_id: FromPath[RecordId]) -> Response[responses.Activity]:
    """One activity."""
    async with transaction(request) as tx:
        return await show_activity(tx, await ACTIVITIES.get(tx, activity_id))


@put("/activities/{activity_id:str}", guards=WRITE)
async def change_activity(
    request: CrmRequest, activity_id: FromPath[RecordId], data: JSONBody[requests.ActivityForm]
) -> Response[responses.Activity]:
    """Change the fields that differ from what was shown."""
    async with transaction(request) as tx:
        change = data.read_change(await ACTIVITIES.get(tx, activity_id))
        return await show_activity(tx, await activities.change(tx, activity_id, change))


@delete("/activities/{activity_id:str}", guards=DELETE, status_code=200)
async def delete_activity(request: CrmRequest, activity_id: FromPath[RecordId]) -> Response[Message]:
    """Put an activity into the trash, with its notes."""
    async with transaction(request) as tx:
        await ACTIVITIES.trash(tx, activity_id)
        return message(tx, "Activity deleted successfully")


@patch("/activities/{activity_id:str}/complete", guards=WRITE)
async def complete_activity(request: CrmRequest, activity_id: FromPath[RecordId]) -> Response[responses.Activity]:
    """Complete an activity. Takes no body."""
    async with transaction(request) as tx:
        done = ActivityChange(status=ActivityStatus.COMPLETED)
        return await show_activity(tx, await activities.change(tx, activity_id, done))


# ── notes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@post("/notes", guards=WRITE)
async def create_note(request: CrmRequest, data: JSONBody[requests.NewNoteForm]) -> Response[responses.Note]:
    """Write a note on a customer or a deal."""
    async with transaction(request) as tx:
        return await show_note(tx, await notes.create(tx, data.read_as(NoteCreate)), 201)


@get("/notes/{note_id:str}", guards=READ)
async def get_note(request: CrmRequest, note_id: FromPath[RecordId]) -> Response[responses.Note]:
    """One note."""
    async with transaction(request) as tx:
        return await show_note(tx, await NOTES.get(tx, note_id))


@delete("/notes/{note_id:str}", guards=WRITE, status_code=200)
async def delete_note(request: CrmRequest, note_id: FromPath[RecordId]) -> Response[Message]:
    """Put a note into the trash. Agents may do this with their own notes only."""
    async with transaction(request) as tx:
        await NOTES.trash(tx, note_id)
        return message(tx, "Note deleted successfully")


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/reports/overview", guards=READ)
async def get_overview(request: CrmRequest) -> Response[responses.Overview]:
    """The dashboard's figures, days newest first. They may be some seconds old: see the header `Age`."""
    kept = await current_overview(request)
    return overview_response(responses.Overview.from_record(kept.report, Stages(kept.stages)), kept.age)


HANDLERS = [
    list_deals,
    create_deal,
    get_deal,
    change_deal,
    move_deal,
    delete_deal,
    list_deal_notes,
    list_activities,
    list_my_activities,
    create_activity,
    get_activity,
    change_activity,
    delete_activity,
    complete_activity,
    create_note,
    get_note,
    delete_note,
    get_overview,
]
