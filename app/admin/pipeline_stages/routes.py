"""/admin/pipeline-stages."""

from litestar import Response, delete, get, post, put, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, message, transaction
from app.admin.pipeline_stages import service
from app.admin.pipeline_stages.queries import PIPELINE_STAGES
from app.admin.pipeline_stages.schemas import PipelineStage, PipelineStageChange, PipelineStageCreate, StageOrder
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_pipeline_stages(request: CrmRequest) -> Response[Everything[PipelineStage]]:
    """Every stage in order, inactive ones too."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.list_all(tx))


@post("/", guards=[Requires(Permission.CONFIGURE)])
async def create_pipeline_stage(request: CrmRequest, data: JSONBody[PipelineStageCreate]) -> Response[PipelineStage]:
    """Add a stage, by default before the first closed one."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@put("/order", guards=[Requires(Permission.CONFIGURE)])
async def reorder_pipeline_stages(
    request: CrmRequest, data: JSONBody[StageOrder]
) -> Response[Everything[PipelineStage]]:
    """Put the stages into a new order."""
    async with transaction(request) as tx:
        return answer(tx, await service.reorder(tx, data.ids))


@get("/{stage_id:str}", guards=[Requires(Permission.READ)])
async def get_pipeline_stage(
    request: CrmRequest, stage_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[PipelineStage]:
    """One stage."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, PIPELINE_STAGES, stage_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await PIPELINE_STAGES.get(tx, stage_id))


@route("/{stage_id:str}", http_method=CHANGES, guards=[Requires(Permission.CONFIGURE)])
async def change_pipeline_stage(
    request: CrmRequest, stage_id: FromPath[RecordId], data: JSONBody[PipelineStageChange]
) -> Response[PipelineStage]:
    """Change the fields that are present. A new name is the new name for its deals too."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, stage_id, data))


@delete("/{stage_id:str}", guards=[Requires(Permission.CONFIGURE)], status_code=200)
async def delete_pipeline_stage(request: CrmRequest, stage_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a stage that no deal is or ever was in; any other can be made inactive."""
    async with transaction(request) as tx:
        await service.remove(tx, stage_id)
        return message(tx, "Pipeline stage deleted successfully")


@get("/{stage_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_pipeline_stage_versions(
    request: CrmRequest, stage_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a pipeline stage, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, PIPELINE_STAGES, stage_id, filters)


@post("/{stage_id:str}/undo", guards=[Requires(Permission.CONFIGURE)], status_code=200)
async def undo_pipeline_stage_change(
    request: CrmRequest, stage_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[PipelineStage]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, PIPELINE_STAGES, stage_id, data)


router = Routes(
    "/pipeline-stages",
    route_handlers=[
        list_pipeline_stages,
        create_pipeline_stage,
        reorder_pipeline_stages,
        get_pipeline_stage,
        change_pipeline_stage,
        delete_pipeline_stage,
        list_pipeline_stage_versions,
        undo_pipeline_stage_change,
    ],
    tags=["Pipeline stages"],
)
