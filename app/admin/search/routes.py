"""/admin/search."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.http import answer, transaction
from app.admin.search.kinds import KINDS
from app.admin.search.schemas import Found, MatchedField, SearchQuery, SearchResults, SearchType
from app.records.finding import best, parameters_of
from app.web.input import CrmRequest
from app.web.paging import MAX_PAGE_SIZE
from app.web.routing import Routes

DEFAULT_LIMIT = 20


@get("/", guards=[Requires(Permission.READ)])
async def search(request: CrmRequest, filters: NamedDependency[SearchQuery]) -> Response[SearchResults]:
    """Customers, contacts, deals, projects, activities and notes, best first: whole words, then beginnings of words,
    then other parts; open before closed, recent before old.
    """
    limit = DEFAULT_LIMIT if filters.limit is UNSET else min(filters.limit, MAX_PAGE_SIZE)
    kinds = tuple(kind for kind in KINDS if filters.types is UNSET or kind.resource.kind in filters.types)
    parameters, phone = parameters_of(filters.q)
    async with transaction(request, one_statement=True) as tx:
        rows = await tx.connection.execute(best(kinds, limit, phone=phone, own=tx.own_records_only), parameters)
        found = [
            Found(SearchType(kind), record_id, title, subtitle, MatchedField(matched), updated_at)
            for kind, record_id, title, subtitle, matched, updated_at in rows
        ]
        return answer(tx, SearchResults(found))


router = Routes("/search", route_handlers=[search], tags=["Search"])
