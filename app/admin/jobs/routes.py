"""/admin/jobs."""

from functools import partial

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.access.permissions import Permission, Requires
from app.admin.http import answer, read_page, transaction
from app.admin.jobs import queries
from app.admin.jobs.downloads import with_link
from app.admin.jobs.schemas import Job, JobQuery
from app.jobs.metrics import JOBS
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_jobs(request: CrmRequest, filters: NamedDependency[JobQuery]) -> Response[Page[Job]]:
    """The jobs that I asked for, newest first; for admins, everybody's."""
    everybody = request.user.can(Permission.AUDIT)
    scope = {} if everybody else {"asked_by": ["me"]}
    async with transaction(request) as tx:
        return await read_page(request, tx, queries.LISTING, filters, scope=scope, show=partial(with_link, request))


@get("/{job_id:str}", guards=[Requires(Permission.READ)])
async def get_job(request: CrmRequest, job_id: FromPath[RecordId]) -> Response[Job]:
    """How far a job is, and what came of it. A file has a `download_url` in the result, for five minutes."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, with_link(request, await queries.get(tx, job_id)))


@post("/{job_id:str}/cancel", guards=[Requires(Permission.WRITE)], status_code=200)
async def cancel_job(request: CrmRequest, job_id: FromPath[RecordId]) -> Response[Job]:
    """End a job. What it has done stays, and can be undone by its operation; the rest does not happen."""
    async with transaction(request) as tx:
        kind = await queries.cancel(tx, job_id)
        cancelled = answer(tx, await queries.get(tx, job_id))
    if not request.dry_run:
        JOBS.labels(kind, "cancelled").inc()
    return cancelled


router = Routes("/jobs", route_handlers=[list_jobs, get_job, cancel_job], tags=["Jobs"])
