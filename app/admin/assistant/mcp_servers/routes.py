"""/admin/assistant/mcp-servers."""

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import Guard

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.assistant.mcp_servers import queries, service
from app.admin.assistant.mcp_servers.schemas import McpAnswer, McpCall, McpServer, McpServerCreate
from app.admin.http import answer, answer_afterwards, message, refuse_dry_run, transaction
from app.web.input import CrmRequest
from app.web.paging import Everything
from app.web.routing import Routes
from app.web.structs import Message, RecordId

ADMINS = Requires(Permission.CONFIGURE)
PEOPLE: list[Guard] = [ADMINS, by_a_person]


@get("/", guards=[ADMINS])
async def list_mcp_servers(request: CrmRequest) -> Response[Everything[McpServer]]:
    """Every server, the oldest first."""
    async with transaction(request, one_statement=True) as tx:
        servers = [service.shown(each) for each in await queries.all_of(tx)]
        return answer(tx, Everything(servers, len(servers)))


@post("/", guards=PEOPLE)
async def create_mcp_server(request: CrmRequest, data: JSONBody[McpServerCreate]) -> Response[McpServer]:
    """Let the assistant use the tools of a server. Each call needs the approval of the person who asks. The tools are
    listed at once; `problem` says why they could not be.
    """
    state = request.app.state
    async with transaction(request, ahead=True):
        pass  # an answer that is kept needs no look at the network
    await service.check(data, state)
    found = await service.list_tools(service.new(data, state))
    async with transaction(request) as tx:
        return answer(tx, service.shown(await service.create(tx, data, found, state.encryption)), 201)


@delete("/{server_id:str}", guards=PEOPLE, status_code=200)
async def delete_mcp_server(request: CrmRequest, server_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a server, with its secret."""
    async with transaction(request) as tx:
        await service.remove(tx, server_id)
        return message(tx, "MCP server deleted successfully")


@post("/{server_id:str}/refresh", guards=PEOPLE, status_code=200)
async def refresh_mcp_server(request: CrmRequest, server_id: FromPath[RecordId]) -> Response[McpServer]:
    """List a server's tools again."""
    state = request.app.state
    async with transaction(request, ahead=True) as tx:
        stored = await queries.get(tx, server_id)
    found = await service.list_tools(service.reached(stored, request.user.tenant_id, state))
    async with transaction(request) as tx:
        return answer(tx, service.shown(await service.keep_tools(tx, server_id, found)))


@post("/{server_id:str}/calls", guards=[Requires(Permission.WRITE), by_a_person, refuse_dry_run], status_code=200)
async def call_mcp_tool(
    request: CrmRequest, server_id: FromPath[RecordId], data: JSONBody[McpCall]
) -> Response[McpAnswer]:
    """Call a tool of a server, once: under an Idempotency-Key, a second request does not call it again, whatever became
    of the first. This is what is done when a person approves a call of the assistant. The audit log notes it.
    """
    async with transaction(request) as tx:
        stored = await queries.get(tx, server_id)
        service.require_allowed(stored, data.tool)
        server = service.reached(stored, request.user.tenant_id, request.app.state)
        await queries.log_call(tx, server_id, data.tool)
        answer(tx, service.NO_ANSWER)
    return await answer_afterwards(request, tx, await service.call(server, data.tool, data.arguments))


router = Routes(
    "/assistant/mcp-servers",
    route_handlers=[list_mcp_servers, create_mcp_server, delete_mcp_server, refresh_mcp_server, call_mcp_tool],
    tags=["Assistant"],
)
