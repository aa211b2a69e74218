"""/admin/report-runs."""

from litestar import Response, post
from litestar.params import JSONBody

from app.access.permissions import Permission, Requires
from app.admin.http import ACCEPTED, answer, refuse_dry_run, transaction
from app.admin.jobs.schemas import JobStarted
from app.admin.report_runs import service
from app.admin.report_runs.schemas import ReportRun
from app.jobs.files import require_links
from app.web.input import CrmRequest
from app.web.routing import Routes


@post("/", guards=[Requires(Permission.READ), refuse_dry_run], status_code=202)
async def start_report_run(request: CrmRequest, data: JSONBody[ReportRun]) -> Response[JobStarted]:
    """Make a report in the background. The job's result has a `download_url`, which needs no token for five minutes;
    each time that the job is read, it is a new one.
    """
    require_links(request.app.state.settings)
    async with transaction(request) as tx:
        return answer(tx, await service.start(tx, data), ACCEPTED)


router = Routes("/report-runs", route_handlers=[start_report_run], tags=["Reports"])
