"""Receiving files to import, and letting them go."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from litestar import Response
from msgspec import to_builtins
from sqlalchemy import insert

from app.admin.http import answer, transaction
from app.admin.imports import queries
from app.admin.imports.columns import guess
from app.admin.imports.schemas import Import, ImportFile, ImportKind, ImportStatus
from app.db.database import Database, Origin
from app.files.unpack import unpacked
from app.files.unpacked import Unpacked
from app.models import Import as Row
from app.records.transaction import Transaction, writing
from app.storage.objects import ObjectStore, new_key
from app.storage.spool import Spool
from app.web.errors import AppError, Code
from app.web.file_names import safe_name
from app.web.input import CrmRequest

ROWS_TYPE = "application/x-ndjson"
BUSY = (ImportStatus.CHECKING, ImportStatus.RUNNING)


async def upload(request: CrmRequest, file: ImportFile) -> Response[Import]:
    """Receive a file, unpack it, store its rows, and say what was found. A failure undoes what was done.

    Raises AppError as `unpacked`, and SERVICE_UNAVAILABLE without a store.
    """
    store: ObjectStore = request.app.state.store
    async with Spool() as spool:
        name = safe_name(await file.receive(spool.write))
        await spool.finish()
        kind = ImportKind(file.chosen["kind"])
        content = hashlib.sha256(f"{kind}\0{name}\0{spool.sha256}".encode()).digest()
        async with transaction(request, content=content, ahead=True):
            pass
        async with unpacked(spool.file) as (found, rows):
            key = new_key(request.user.tenant_id)
            async with _undone_on_failure(request, key):
                await store.put(key, rows, rows.seek(0, 2), ROWS_TYPE)
                async with transaction(request, content=content) as tx:
                    return answer(tx, await create(tx, kind, name, found, key), 201)


async def create(tx: Transaction, kind: ImportKind, file_name: str, found: Unpacked, key: str) -> Import:
    """The import of a file whose rows are in the store."""
    values: dict[str, Any] = to_builtins(found)
    guesses: list[dict[str, Any]] = to_builtins(guess(kind, found.columns))
    values["columns"] = [column | more for column, more in zip(values["columns"], guesses, strict=True)]
    person = {
        "tenant_id": tx.actor.tenant_id,
        "user_id": tx.actor.reference,
        "user_name": tx.actor.name or tx.actor.email,
    }
    values |= person | {"kind": kind.value, "file_name": file_name, "object_key": key}
    made = (await tx.connection.execute(insert(Row).values(values).returning(queries.c.id))).scalar_one()
    return await queries.get(tx, made)


async def remove(tx: Transaction, import_id: int) -> bool:
    """Delete an import with its rows, or some of the rows where they are many; returns whether it is gone. What was
    imported stays. Raises AppError IMPORT_NOT_FOUND, or IMPORT_BUSY.
    """
    row = await queries.get_for_update(tx, import_id)
    if row["status"] in BUSY:
        raise AppError(Code.IMPORT_BUSY)
    given = {"import_id": import_id, "most": queries.DELETED_AT_ONCE}
    deleted = (await tx.connection.execute(queries.DELETE_ROWS, given)).scalar_one()
    gone: bool = deleted < queries.DELETED_AT_ONCE
    await tx.connection.execute(queries.DELETED if gone else queries.FAILED, {"import_id": import_id})
    return gone


async def prune(database: Database, days: int) -> int:
    """Delete an import that nobody did anything with for so many days, or some of its rows; returns how much. Raises
    AppError.
    """
    async with database.maintenance() as session:
        given = {"days": days, "most": queries.DELETED_AT_ONCE}
        return int((await session.execute(queries.PRUNE, given)).scalar_one())


@asynccontextmanager
async def _undone_on_failure(request: CrmRequest, key: str) -> AsyncIterator[None]:
    """On failure, delete the object unless its row exists. If that can't be found out, a sweep deletes it later."""
    try:
        yield
    except BaseException:
        with suppress(AppError):
            await asyncio.shield(_delete_unless_kept(request, key))
        raise


async def _delete_unless_kept(request: CrmRequest, key: str) -> None:
    async with writing(request.app.state.database, request.user, Origin()) as tx:
        kept = (await tx.connection.execute(queries.KEPT, {"key": key})).first()
    if kept is None:
        await request.app.state.store.delete(key)
