"""/admin/assistant/settings."""

from litestar import Response, delete, get, put
from litestar.params import JSONBody
from litestar.types import Guard

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.assistant.settings import queries, service
from app.admin.assistant.settings.schemas import AssistantSettings, AssistantSettingsChange
from app.admin.http import answer, message, transaction
from app.web.input import CrmRequest
from app.web.routing import Routes
from app.web.structs import Message

ADMINS = Requires(Permission.CONFIGURE)
# They say where what the assistant reads is sent.
PEOPLE: list[Guard] = [ADMINS, by_a_person]


@get("/", guards=[ADMINS])
async def get_assistant_settings(request: CrmRequest) -> Response[AssistantSettings]:
    """Who runs the assistant's model, and what it may cost."""
    async with transaction(request) as tx:
        return answer(tx, await service.shown(tx, request.app.state.settings))


@put("/", guards=PEOPLE)
async def change_assistant_settings(
    request: CrmRequest, data: JSONBody[AssistantSettingsChange]
) -> Response[AssistantSettings]:
    """Change the settings that are present. A model is tried first: what its provider refuses is 400
    ASSISTANT_REFUSED.
    """
    state = request.app.state
    async with transaction(request, ahead=True) as tx:
        before = await queries.stored(tx)
    after, model = service.changed(before, data, request.user.tenant_id, state)
    if model is not None:
        await service.try_out(model, https_only=state.settings.production)
    async with transaction(request) as tx:
        await service.store(tx, before, after)
        return answer(tx, await service.shown(tx, state.settings))


@delete("/", guards=PEOPLE, status_code=200)
async def delete_assistant_settings(request: CrmRequest) -> Response[Message]:
    """Forget the organization's settings, with its key. Where the operator has an account, the assistant uses that."""
    async with transaction(request) as tx:
        await service.remove(tx)
        return message(tx, "Assistant settings deleted successfully")


router = Routes(
    "/assistant/settings",
    route_handlers=[get_assistant_settings, change_assistant_settings, delete_assistant_settings],
    tags=["Assistant"],
)
