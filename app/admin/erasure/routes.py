"""/admin/customers/{id}/erase and /admin/contacts/{id}/erase."""

from typing import Any

import structlog
from litestar import Response, post
from litestar.background_tasks import BackgroundTask
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.erasure.schemas import Erasure
from app.admin.erasure.service import erase_or_enqueue
from app.admin.http import ACCEPTED, answer, transaction
from app.admin.jobs.schemas import JobStarted
from app.db.database import Database
from app.records import resources
from app.records.erasure import Erased
from app.records.resources import Resource
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from app.web.errors import AppError
from app.web.input import CrmRequest
from app.web.routing import Routes
from app.web.structs import RecordId

log = structlog.get_logger("erasure")


@post("/customers/{customer_id:str}/erase", guards=[Requires(Permission.CONFIGURE), by_a_person], status_code=200)
async def erase_customer(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[Erasure]
) -> Response[Erased]:
    """Erase a customer for good, live or in the trash, with all that belongs to it, its log and its files. More than
    1,000 records or 10,000 audit entries are a job.
    """
    return await _erase(request, resources.CUSTOMERS, customer_id, data)


@post("/contacts/{contact_id:str}/erase", guards=[Requires(Permission.CONFIGURE), by_a_person], status_code=200)
async def erase_contact(
    request: CrmRequest, contact_id: FromPath[RecordId], data: JSONBody[Erasure]
) -> Response[Erased]:
    """Erase a contact for good, live or in the trash. Deals and activities that name it stay, without it. More than
    10,000 audit entries are a job.
    """
    return await _erase(request, resources.CONTACTS, contact_id, data)


async def _erase(request: CrmRequest, resource: Resource, record_id: int, data: Erasure) -> Response[Erased]:
    state = request.app.state
    async with transaction(request) as tx:
        done: Any = await erase_or_enqueue(tx, resource, record_id, data, state.settings)
        answered = answer(tx, done, ACCEPTED if isinstance(done, JobStarted) else 200)
    # The client does not wait for the store.
    answered.background = BackgroundTask(_delete_files, state.database, state.store)
    return answered


async def _delete_files(database: Database, store: ObjectStore) -> None:
    try:
        await delete_removed_objects(database, store)
    except AppError as error:
        log.warning("files of erased records are deleted later", reason=error.code.name)


router = Routes("/", route_handlers=[erase_customer, erase_contact], tags=["Erasure"])
