"""/admin/attachments, and those of a customer, a deal, an activity or a project."""

from functools import partial

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.params import FromPath, JSONBody
from litestar.response import Stream
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.activities.queries import ACTIVITIES
from app.admin.attachments import service, transfer
from app.admin.attachments.queries import ATTACHMENTS, LISTING
from app.admin.attachments.schemas import Attachment, AttachmentDetail, AttachmentQuery, Upload, UploadCreate
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.customers.queries import CUSTOMERS
from app.admin.deals.queries import DEALS
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import answer, list_page, message, refuse_dry_run, transaction
from app.admin.projects.queries import PROJECTS
from app.web.input import CrmRequest
from app.web.multipart import FilePart
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/customers/{customer_id:str}/attachments", guards=[Requires(Permission.READ)])
async def list_customer_attachments(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[AttachmentQuery]
) -> Response[Page[Attachment]]:
    """The files of a customer, newest first."""
    scope, within = {"customer_id": [customer_id]}, partial(CUSTOMERS.ensure_exists, record_id=customer_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post(
    "/customers/{customer_id:str}/attachments",
    guards=[Requires(Permission.WRITE), refuse_dry_run],
    request_max_body_size=None,
)
async def upload_customer_attachment(
    request: CrmRequest, customer_id: FromPath[RecordId], file: NamedDependency[FilePart]
) -> Response[Attachment]:
    """Attach a file to a customer: multipart/form-data with one part named file."""
    return await transfer.upload(request, file, service.CUSTOMER, customer_id)


@post("/customers/{customer_id:str}/attachments/uploads", guards=[Requires(Permission.WRITE), refuse_dry_run])
async def begin_customer_upload(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[UploadCreate]
) -> Response[Upload]:
    """Attach a file to a customer by a direct upload: an address in the store that takes the file for five minutes."""
    return await transfer.begin(request, data, service.CUSTOMER, customer_id)


@get("/deals/{deal_id:str}/attachments", guards=[Requires(Permission.READ)])
async def list_deal_attachments(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[AttachmentQuery]
) -> Response[Page[Attachment]]:
    """The files of a deal, newest first."""
    scope, within = {"deal_id": [deal_id]}, partial(DEALS.ensure_exists, record_id=deal_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post(
    "/deals/{deal_id:str}/attachments", guards=[Requires(Permission.WRITE), refuse_dry_run], request_max_body_size=None
)
async def upload_deal_attachment(
    request: CrmRequest, deal_id: FromPath[RecordId], file: NamedDependency[FilePart]
) -> Response[Attachment]:
    """Attach a file to a deal: multipart/form-data with one part named file."""
    return await transfer.upload(request, file, service.DEAL, deal_id)


@post("/deals/{deal_id:str}/attachments/uploads", guards=[Requires(Permission.WRITE), refuse_dry_run])
async def begin_deal_upload(
    request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[UploadCreate]
) -> Response[Upload]:
    """Attach a file to a deal by a direct upload: an address in the store that takes the file for five minutes."""
    return await transfer.begin(request, data, service.DEAL, deal_id)


@get("/activities/{activity_id:str}/attachments", guards=[Requires(Permission.READ)])
async def list_activity_attachments(
    request: CrmRequest, activity_id: FromPath[RecordId], filters: NamedDependency[AttachmentQuery]
) -> Response[Page[Attachment]]:
    """The files of an activity, newest first."""
    scope, within = {"activity_id": [activity_id]}, partial(ACTIVITIES.ensure_exists, record_id=activity_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post(
    "/activities/{activity_id:str}/attachments",
    guards=[Requires(Permission.WRITE), refuse_dry_run],
    request_max_body_size=None,
)
async def upload_activity_attachment(
    request: CrmRequest, activity_id: FromPath[RecordId], file: NamedDependency[FilePart]
) -> Response[Attachment]:
    """Attach a file to an activity: multipart/form-data with one part named file."""
    return await transfer.upload(request, file, service.ACTIVITY, activity_id)


@post("/activities/{activity_id:str}/attachments/uploads", guards=[Requires(Permission.WRITE), refuse_dry_run])
async def begin_activity_upload(
    request: CrmRequest, activity_id: FromPath[RecordId], data: JSONBody[UploadCreate]
) -> Response[Upload]:
    """Attach a file to an activity by a direct upload: an address in the store that takes the file for five minutes."""
    return await transfer.begin(request, data, service.ACTIVITY, activity_id)


@get("/projects/{project_id:str}/attachments", guards=[Requires(Permission.READ)])
async def list_project_attachments(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[AttachmentQuery]
) -> Response[Page[Attachment]]:
    """The files of a project, newest first."""
    scope, within = {"project_id": [project_id]}, partial(PROJECTS.ensure_exists, record_id=project_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post(
    "/projects/{project_id:str}/attachments",
    guards=[Requires(Permission.WRITE), refuse_dry_run],
    request_max_body_size=None,
)
async def upload_project_attachment(
    request: CrmRequest, project_id: FromPath[RecordId], file: NamedDependency[FilePart]
) -> Response[Attachment]:
    """Attach a file to a project: multipart/form-data with one part named file."""
    return await transfer.upload(request, file, service.PROJECT, project_id)


@post("/projects/{project_id:str}/attachments/uploads", guards=[Requires(Permission.WRITE), refuse_dry_run])
async def begin_project_upload(
    request: CrmRequest, project_id: FromPath[RecordId], data: JSONBody[UploadCreate]
) -> Response[Upload]:
    """Attach a file to a project by a direct upload: an address in the store that takes the file for five minutes."""
    return await transfer.begin(request, data, service.PROJECT, project_id)


@get("/attachments/{attachment_id:str}", guards=[Requires(Permission.READ)])
async def get_attachment(
    request: CrmRequest, attachment_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[AttachmentDetail]:
    """One attachment, with a link to its bytes that lives five minutes."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, ATTACHMENTS, attachment_id, filters.as_of)
    return await transfer.detail(request, attachment_id)


@route(
    "/attachments/{attachment_id:str}/content",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    guards=[Requires(Permission.READ)],
)
async def download_attachment(request: CrmRequest, attachment_id: FromPath[RecordId]) -> Stream:
    """The bytes, or the range of them that the header Range asks for."""
    return await transfer.download(request, attachment_id)


@post("/attachments/{attachment_id:str}/complete", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=200)
async def complete_attachment(request: CrmRequest, attachment_id: FromPath[RecordId]) -> Response[Attachment]:
    """Finish a direct upload: the file is listed from now on. While it is incomplete, 409 UPLOAD_INCOMPLETE."""
    return await transfer.complete(request, attachment_id)


@delete("/attachments/{attachment_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_attachment(request: CrmRequest, attachment_id: FromPath[RecordId]) -> Response[Message]:
    """Put an attachment into the trash."""
    async with transaction(request) as tx:
        await ATTACHMENTS.trash(tx, attachment_id)
        return message(tx, "Attachment deleted successfully")


@post("/attachments/{attachment_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_attachment(request: CrmRequest, attachment_id: FromPath[RecordId]) -> Response[Attachment]:
    """Take an attachment out of the trash. While what it belongs to is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await ATTACHMENTS.restore(tx, attachment_id))


@get("/attachments/{attachment_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_attachment_versions(
    request: CrmRequest, attachment_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of an attachment, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, ATTACHMENTS, attachment_id, filters)


@post("/attachments/{attachment_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_attachment_change(
    request: CrmRequest, attachment_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Attachment]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, ATTACHMENTS, attachment_id, data)


router = Routes(
    "/",
    route_handlers=[
        list_customer_attachments,
        upload_customer_attachment,
        begin_customer_upload,
        list_deal_attachments,
        upload_deal_attachment,
        begin_deal_upload,
        list_activity_attachments,
        upload_activity_attachment,
        begin_activity_upload,
        list_project_attachments,
        upload_project_attachment,
        begin_project_upload,
        get_attachment,
        download_attachment,
        complete_attachment,
        delete_attachment,
        restore_attachment,
        list_attachment_versions,
        undo_attachment_change,
    ],
    tags=["Attachments"],
)
