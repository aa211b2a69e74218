"""/admin/operations."""

from typing import Any
from uuid import UUID

from litestar import Response, post
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires
from app.admin.history.operations import undo_operation
from app.admin.history.schemas import ChangedSince, OperationUndo, Undone
from app.admin.http import ACCEPTED, answer, transaction
from app.admin.jobs.schemas import JobStarted
from app.web.input import CrmRequest
from app.web.routing import Routes


@post("/{operation_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_operation_(
    request: CrmRequest, operation_id: FromPath[UUID], data: JSONBody[OperationUndo]
) -> Response[Undone]:
    """Take back all that one request or job changed, whole or not at all; with `changed_since: keep`, all but what was
    changed since. More than 1,000 changes are a job. An undo is an operation too, and can be taken back.
    """
    async with transaction(request) as tx:
        keep = data.changed_since is ChangedSince.KEEP
        done: Any = await undo_operation(tx, operation_id, request.app.state.settings, keep=keep)
        undone: Response[Any] = answer(tx, done, ACCEPTED if isinstance(done, JobStarted) else 200)
    # Members may be among what was changed back.
    await request.app.state.memberships.catch_up()
    return undone


router = Routes("/operations", route_handlers=[undo_operation_], tags=["History"])
