"""/admin/audit."""

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.access.permissions import Permission, Requires
from app.admin.audit import queries
from app.admin.audit.schemas import AuditEntry, AuditQuery
from app.admin.http import answer, list_page, transaction
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import RecordId


@get("/", guards=[Requires(Permission.AUDIT)])
async def list_audit(request: CrmRequest, filters: NamedDependency[AuditQuery]) -> Response[Page[AuditEntry]]:
    """Every change of every record, newest first."""
    return await list_page(request, queries.LISTING, filters)


@get("/{entry_id:str}", guards=[Requires(Permission.AUDIT)])
async def get_audit_entry(request: CrmRequest, entry_id: FromPath[RecordId]) -> Response[AuditEntry]:
    """One change."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await queries.get(tx, entry_id))


router = Routes("/audit", route_handlers=[list_audit, get_audit_entry], tags=["Audit"])
