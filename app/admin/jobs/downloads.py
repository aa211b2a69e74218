"""The files that jobs have made: links to them, and /public/files, which needs no token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response import Stream
from msgspec.structs import replace

from app.access.permissions import Permission
from app.admin.jobs.schemas import Job, JobKind
from app.jobs.files import File, find_file, link_to_file, read_link
from app.settings import Settings
from app.web.errors import AppError, Code
from app.web.file_names import file_headers
from app.web.input import CrmRequest, skip_input_checks
from app.web.routing import Routes

# The result of a job that has made a file has this field.
FILE_NAME = "file_name"
# And this one, if the file is kept for a while only.
EXPIRES_AT = "expires_at"
# Who asked for a file may have been narrowed since: this is what it takes still.
NEEDED = {JobKind.EXPORT: Permission.AUDIT}
# Everything at once is for people, not for programs of theirs.
FOR_PEOPLE = {JobKind.EXPORT}


def with_link(request: CrmRequest, job: Job) -> Job:
    """The job as it is shown: with a new link to its file, if it has made one. It is kept nowhere."""
    settings: Settings = request.app.state.settings
    if job.result is None or FILE_NAME not in job.result:
        return job
    url = None
    expires_at = job.result.get(EXPIRES_AT)
    is_kept = expires_at is None or datetime.fromisoformat(expires_at) > datetime.now(UTC)
    may = request.user.can(NEEDED.get(job.kind, Permission.READ))
    may = may and not (request.user.is_program and job.kind in FOR_PEOPLE)
    if settings.has_public_links and is_kept and may:
        address = (settings.public_url or str(request.base_url)).rstrip("/")
        url = f"{address}/public/files/{link_to_file(settings, request.user, job.id)}"
    return replace(job, result=job.result | {"download_url": url})


@get("/{link:str}")
async def download_file(request: Request[Any, Any, Any], link: FromPath[str]) -> Response[bytes]:
    """The file, for whoever has the link, for five minutes."""
    state = request.app.state
    with state.authenticator.guessing(request):
        file = await find_file(state.database, read_link(state.settings, link))
    headers = file_headers(file.name) | {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}
    if isinstance(file, File):
        return Response(file.content, media_type=file.content_type, headers=headers)
    content = await state.store.open(file.key, 0, file.size - 1)
    if content is None:
        raise AppError(Code.NOT_FOUND)
    return cast(
        "Response[bytes]",
        Stream(content, media_type=file.content_type, headers=headers | {"Content-Length": str(file.size)}),
    )


router = Routes("/public/files", route_handlers=[download_file], tags=["Jobs"], before_request=skip_input_checks)
