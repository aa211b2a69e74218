"""/admin/tags."""

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, message, transaction
from app.admin.tags import service
from app.admin.tags.queries import TAGS
from app.admin.tags.schemas import Tag, TagChange, TagCreate
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_tags(request: CrmRequest) -> Response[Everything[Tag]]:
    """Every tag, by name."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.list_all(tx))


@post("/", guards=[Requires(Permission.CONFIGURE)])
async def create_tag(request: CrmRequest, data: JSONBody[TagCreate]) -> Response[Tag]:
    """Make a tag. A name that is taken, in whatever case, is 409 TAG_EXISTS."""
    async with transaction(request) as tx:
        return answer(tx, await TAGS.create(tx, data.given()), 201)


@get("/{tag_id:str}", guards=[Requires(Permission.READ)])
async def get_tag(request: CrmRequest, tag_id: FromPath[RecordId], filters: NamedDependency[AsOf]) -> Response[Tag]:
    """One tag."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, TAGS, tag_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await TAGS.get(tx, tag_id))


@route("/{tag_id:str}", http_method=CHANGES, guards=[Requires(Permission.CONFIGURE)])
async def change_tag(request: CrmRequest, tag_id: FromPath[RecordId], data: JSONBody[TagChange]) -> Response[Tag]:
    """Change the fields that are present."""
    async with transaction(request) as tx:
        return answer(tx, await TAGS.change(tx, tag_id, data.given()))


@delete("/{tag_id:str}", guards=[Requires(Permission.CONFIGURE)], status_code=200)
async def delete_tag(request: CrmRequest, tag_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a tag, and take it off every customer."""
    async with transaction(request) as tx:
        await service.remove(tx, tag_id)
        return message(tx, "Tag deleted successfully")


@get("/{tag_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_tag_versions(
    request: CrmRequest, tag_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a tag, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, TAGS, tag_id, filters)


@post("/{tag_id:str}/undo", guards=[Requires(Permission.CONFIGURE)], status_code=200)
async def undo_tag_change(request: CrmRequest, tag_id: FromPath[RecordId], data: JSONBody[EntryUndo]) -> Response[Tag]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, TAGS, tag_id, data)


router = Routes(
    "/tags",
    route_handlers=[
        list_tags,
        create_tag,
        get_tag,
        change_tag,
        delete_tag,
        list_tag_versions,
        undo_tag_change,
    ],
    tags=["Tags"],
)
