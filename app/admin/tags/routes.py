"""/admin/tags."""

from __future__ import annotations

from litestar import Response, Router, delete, get, post, route
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires
from app.admin.http import CHANGES, answer, message, transaction
from app.admin.tags import service
from app.admin.tags.queries import TAGS
from app.admin.tags.schemas import Tag, TagChange, TagCreate
from app.web.input import CrmRequest
from app.web.paging import Everything
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
async def get_tag(request: CrmRequest, tag_id: FromPath[RecordId]) -> Response[Tag]:
    """One tag."""
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


router = Router("/tags", route_handlers=[list_tags, create_tag, get_tag, change_tag, delete_tag], tags=["Tags"])
