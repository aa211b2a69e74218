"""/admin/batch."""

from litestar import Response, post
from litestar.params import JSONBody

from app.access.permissions import Permission, Requires
from app.admin.batch import service
from app.admin.batch.schemas import Batch, BatchAnswers
from app.admin.http import answer, transaction
from app.web.input import CrmRequest
from app.web.routing import Routes


@post("/", guards=[Requires(Permission.WRITE)], status_code=200)
async def send_batch(request: CrmRequest, data: JSONBody[Batch]) -> Response[BatchAnswers]:
    """Create, change, trash and restore records in one transaction, all or none. If a request is refused, so is the
    batch, with its place in `data.index`.
    """
    async with transaction(request) as tx:
        return answer(tx, BatchAnswers(await service.run(request, tx, data.requests)))


router = Routes("/batch", route_handlers=[send_batch], tags=["Batch"])
