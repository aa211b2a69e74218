"""Versions of a record, and the record as it was."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response
from sqlalchemy import bindparam, select, text

from app.access.permissions import Permission
from app.admin.audit.queries import VERSIONS
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history.schemas import EntryUndo
from app.admin.history.undo import undo_entry
from app.admin.http import answer, read_page, transaction
from app.models import PipelineStage
from app.records import history
from app.records.audit_values import present
from app.records.calendar import upper_bound, zone_of
from app.records.repository import Repository
from app.records.transaction import Transaction
from app.web.input import CrmRequest
from app.web.paging import Page

stage = PipelineStage.__table__.c
STAGE = select(stage.name, stage.kind).where(stage.id == bindparam("stage_id"))
# Not in the audit log, since it follows from the moves. Each move after the moment is an entry there.
STAGE_ENTERED_AT = text("""
    SELECT entered_at FROM stage_history WHERE deal_id = :deal_id ORDER BY id DESC LIMIT 1 OFFSET (
        SELECT count(*) FROM audit_entries
        WHERE resource_type = 'deal' AND resource_id = :deal_id AND created_at > :moment
          AND action = 'update' AND new_values ? 'stage_id'
    )
""")


async def versions(
    request: CrmRequest, repository: Repository[Any], record_id: int, query: VersionQuery
) -> Response[Page[AuditEntry]]:
    """A record's audit entries, newest first, for whoever may read the record. Raises AppError: not found."""
    async with transaction(request) as tx:
        await _require_readable(tx, repository, record_id)
        scope = {"resource_type": [repository.resource.kind], "resource_id": [record_id]}
        show = (lambda entry: entry) if tx.actor.can(Permission.AUDIT) else _without_origin
        return await read_page(request, tx, VERSIONS, query, scope=scope, show=show)


async def as_of(request: CrmRequest, repository: Repository[Any], record_id: int, moment: str) -> Response[Any]:
    """The record's own fields as they were. Raises AppError: not found, now or then."""
    async with transaction(request) as tx:
        await _require_readable(tx, repository, record_id)
        until = upper_bound(moment, await zone_of(tx)).moment
        values = await history.as_of(tx, repository.resource, record_id, until)
        if values is None or (values.get("deleted_at") is not None and not tx.actor.can(Permission.DELETE)):
            raise repository.not_found()
        return answer(tx, await _shown(tx, repository, values, until), version=values["version"])


async def undo(request: CrmRequest, repository: Repository[Any], record_id: int, data: EntryUndo) -> Response[Any]:
    """Take one change of a record back; answers the record, or what it was if it is gone. Raises as `undo_entry`."""
    async with transaction(request) as tx:
        before = await repository.get_in_trash_too(tx, record_id)
        await undo_entry(tx, repository, record_id, data.entry_id, request.app.state.settings)
        return answer(tx, await repository.get_in_trash_too(tx, record_id) or before)


async def _require_readable(tx: Transaction, repository: Repository[Any], record_id: int) -> None:
    """Whoever may delete records may see those in the trash too."""
    if tx.actor.can(Permission.DELETE):
        if await repository.get_in_trash_too(tx, record_id) is None:
            raise repository.not_found()
    else:
        await repository.ensure_exists(tx, record_id)


async def _shown(tx: Transaction, repository: Repository[Any], values: history.Values, moment: datetime) -> Any:
    """The columns that answers show; a deal's stage by the name and kind that it has now."""
    if "stage_id" in values:
        found = await tx.connection.execute(STAGE, {"stage_id": values["stage_id"]})
        values["stage"], values["status"] = found.one()
        entered = {"deal_id": values["id"], "moment": moment}
        values["stage_entered_at"] = (await tx.connection.execute(STAGE_ENTERED_AT, entered)).scalar_one()
    return present({name: values[name] for name in repository.columns if name in values})


def _without_origin(entry: AuditEntry) -> AuditEntry:
    entry.ip_address = entry.user_agent = None
    return entry
