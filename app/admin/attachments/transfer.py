"""Moves the bytes of attachments, in and out. Meanwhile no transaction is open and no connection is used."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from litestar import Response
from litestar.response import Stream

from app.admin.attachments import service
from app.admin.attachments.queries import ATTACHMENTS
from app.admin.attachments.schemas import Attachment, AttachmentDetail, Upload, UploadCreate
from app.admin.attachments.service import File, Parent
from app.admin.http import answer, transaction
from app.db.database import Origin
from app.records.transaction import writing
from app.settings import Settings
from app.storage.objects import ObjectStore, new_key
from app.storage.sniff import UNKNOWN, sniff
from app.storage.spool import Spool
from app.web.errors import AppError, Code
from app.web.file_names import as_attachment, file_headers, safe_name
from app.web.input import CrmRequest
from app.web.multipart import FilePart
from app.web.ranges import requested_range

log = structlog.get_logger("attachments")


async def upload(request: CrmRequest, file: FilePart, parent: Parent, record_id: int) -> Response[Attachment]:
    """Receive and check a whole file, store its bytes, then its row. A failure undoes what was done."""
    store: ObjectStore = request.app.state.store
    async with Spool() as spool:
        name = safe_name(await file.receive(spool.write))
        arrived = await _inspected(request, spool, name, new_key(request.user.tenant_id))
        content = hashlib.sha256(f"{name}\0{arrived.sha256}".encode()).digest()
        async with transaction(request, content=content, ahead=True) as tx:
            await parent.records.ensure_exists(tx, record_id)
            await service.require_room(tx, request.app.state.settings, arrived.size)
        async with _undone_on_failure(request, parent, record_id, arrived.key):
            await store.put(arrived.key, spool.file, arrived.size, arrived.content_type)
            async with transaction(request, content=content) as tx:
                response = answer(tx, await service.create(tx, parent, record_id, arrived), 201)
    return response


async def begin(request: CrmRequest, data: UploadCreate, parent: Parent, record_id: int) -> Response[Upload]:
    """Give the client a URL to put a file to."""
    store: ObjectStore = request.app.state.store
    service.require_acceptable(request.app.state.settings, data.size, data.content_type.lower(), field="size")
    async with transaction(request) as tx:
        await service.require_room(tx, request.app.state.settings, data.size)
        row = await service.begin(tx, parent, record_id, data)
        url = await store.sign_put(row["object_key"], row["size"], row["content_type"], service.URL_SECONDS)
        return answer(tx, Upload(row["id"], url, {"Content-Type": row["content_type"]}, row["expires_at"]), 201)


async def complete(request: CrmRequest, attachment_id: int) -> Response[Attachment]:
    """Copy the uploaded object, so that the client can't change it any more, check the copy, and list it."""
    store: ObjectStore = request.app.state.store
    async with transaction(request, ahead=True) as tx:
        row = await service.pending(tx, attachment_id)
    if row is not None:
        parent, record_id = service.parent_of(row)
        key = new_key(request.user.tenant_id)
        if await store.size(row["object_key"]) != row["size"]:
            raise AppError(Code.UPLOAD_INCOMPLETE)
        async with Spool() as spool, _undone_on_failure(request, parent, record_id, key):
            if not await store.copy(row["object_key"], key):
                raise AppError(Code.UPLOAD_INCOMPLETE)
            await _fetch(store, key, row["size"], spool)
            file = await _inspected(request, spool, row["file_name"], key)
            async with transaction(request) as tx:
                completed = await service.complete(tx, row, file)
                response = answer(tx, await ATTACHMENTS.get(tx, attachment_id))
        await _discard(store, row["object_key"] if completed else key)
        return response
    async with transaction(request) as tx:
        return answer(tx, await ATTACHMENTS.get(tx, attachment_id))


async def detail(request: CrmRequest, attachment_id: int) -> Response[AttachmentDetail]:
    """An attachment and a link to its bytes."""
    store: ObjectStore = request.app.state.store
    async with transaction(request) as tx:
        found = await ATTACHMENTS.get(tx, attachment_id)
        kind = _served_type(request.app.state.settings, found)
        key = await service.key_of(tx, attachment_id)
        url = await store.sign_get(key, as_attachment(found.file_name), kind, service.URL_SECONDS)
        shown = {name: getattr(found, name) for name in found.__struct_fields__}
        return answer(tx, AttachmentDetail(**shown, download_url=url))


async def download(request: CrmRequest, attachment_id: int) -> Stream:
    """The bytes, or a range of them."""
    store: ObjectStore = request.app.state.store
    async with transaction(request) as tx:
        found = await ATTACHMENTS.get(tx, attachment_id)
        key = await service.key_of(tx, attachment_id)
    tag = f'"{found.sha256}"'
    headers = file_headers(found.file_name) | {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        "Content-Length": str(found.size),
        "ETag": tag,
    }
    kind = _served_type(request.app.state.settings, found)
    if request.method == "HEAD":
        return Stream(iter(()), headers=headers, media_type=kind)
    asked = requested_range(request.headers.get("range"), request.headers.get("if-range"), found.size, tag)
    first, last = asked or (0, found.size - 1)
    body = await store.open(key, first, last)
    if body is None:
        log.error("an attachment has no object: run crm attachments sweep", attachment=attachment_id)
        raise AppError(Code.ATTACHMENT_NOT_FOUND, "The bytes of this attachment are missing from the store")
    if asked:
        headers |= {"Content-Length": str(last - first + 1), "Content-Range": f"bytes {first}-{last}/{found.size}"}
    return Stream(body, headers=headers, media_type=kind, status_code=206 if asked else 200)


async def _inspected(request: CrmRequest, spool: Spool, name: str, key: str) -> File:
    await spool.finish()
    kind = await asyncio.to_thread(sniff, spool.file, name)
    service.require_acceptable(request.app.state.settings, spool.size, kind)
    return File(name, kind, spool.size, spool.sha256, key)


async def _fetch(store: ObjectStore, key: str, size: int, spool: Spool) -> None:
    body = await store.open(key, 0, size - 1)
    if body is not None:
        async for chunk in body:
            await spool.write(chunk)
    if spool.size != size:
        raise AppError(Code.UPLOAD_INCOMPLETE)


@asynccontextmanager
async def _undone_on_failure(request: CrmRequest, parent: Parent, record_id: int, key: str) -> AsyncIterator[None]:
    """On failure, delete the object unless its row exists. If that can't be found out, a sweep deletes it later."""
    try:
        yield
    except BaseException:
        with suppress(AppError):
            await asyncio.shield(_delete_unless_kept(request, parent, record_id, key))
        raise


async def _delete_unless_kept(request: CrmRequest, parent: Parent, record_id: int, key: str) -> None:
    async with writing(request.app.state.database, request.user, Origin()) as tx:
        kept = await service.is_kept(tx, parent, record_id, key)
    if not kept:
        await _discard(request.app.state.store, key)


async def _discard(store: ObjectStore, key: str) -> None:
    try:
        await store.delete(key)
    except AppError:
        log.warning("an object could not be deleted: if it is in the store, crm attachments sweep finds it", key=key)


def _served_type(settings: Settings, attachment: Attachment) -> str:
    return attachment.content_type if attachment.content_type in settings.accepted_types else UNKNOWN
