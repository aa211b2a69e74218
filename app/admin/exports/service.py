"""Exports a list: the database writes it to a temporary file, from which it is sent when the transaction is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec import UNSET, to_builtins
from sqlalchemy import ColumnElement, bindparam, func, text
from sqlalchemy import literal_column as sql
from sqlalchemy.dialects.postgresql import JSONB

from app.admin.exports.columns import Column
from app.admin.exports.copying import CSV, JSON_LINES, Copying
from app.admin.exports.schemas import ExportFormat, ExportQuery
from app.admin.http import origin_of, transaction
from app.files.xlsx import MOST_ROWS, write_rows
from app.records.calendar import day_of, zone_of
from app.records.listing import Listing
from app.records.resources import Resource
from app.records.transaction import Transaction, writing
from app.storage.spool import Spool
from app.web.errors import AppError, Code
from app.web.file_names import file_headers
from app.web.input import CrmRequest
from app.web.large_responses import MadeFile
from app.web.limits import RELEASE, ConcurrencyLimiter
from app.web.paging import NOT_FILTERS

EXPORT_SECONDS = 300
# In one worker at a time, since each holds a connection; of one organization in each worker, until it is sent.
MOST_OF_WORKER, MOST_OF_TENANT = 4, 2
BOM = b"\xef\xbb\xbf"
CONTENT_TYPES = {
    ExportFormat.CSV: "text/csv",
    ExportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ExportFormat.JSONL: "application/jsonl",
}
# What an export takes beside what the list takes.
OWN = frozenset(ExportQuery.__struct_fields__)
# What people typed into these filters may name somebody, and no erasure would find it in the audit log.
TYPED = frozenset({"search", "external_id"})

# Of one organization, in all workers: two.
TAKE_TURN = text("""
    SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended('export 1 ' || current_setting('crm.tenant'), 0))
        THEN true ELSE pg_try_advisory_xact_lock(hashtextextended('export 2 ' || current_setting('crm.tenant'), 0)) END
""")
LOG = text("SELECT crm_log_export(:kind, :details)").bindparams(bindparam("details", type_=JSONB))


class Export(NamedTuple):
    """A list that can be exported."""

    resource: Resource
    listing: Listing[Any]
    columns: Mapping[str, Callable[[], Column]]
    query: type[ExportQuery]


class Exports:
    """What this worker exports at the same time."""

    def __init__(self) -> None:
        self._of_tenant = ConcurrencyLimiter(MOST_OF_TENANT, "exports of your organization running")
        self._copying = 0

    def count(self, request: CrmRequest) -> None:
        """Count this export until it is sent. Raises AppError RATE_LIMITED."""
        self._of_tenant.acquire(request.user.tenant_id, request.scope)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Read from the database inside. Raises AppError SERVICE_UNAVAILABLE where too many do."""
        if self._copying >= MOST_OF_WORKER:
            raise AppError(Code.SERVICE_UNAVAILABLE, "Too many exports are running", headers={"Retry-After": "5"})
        self._copying += 1
        try:
            yield
        finally:
            self._copying -= 1


async def export(request: CrmRequest, kind: Export, wanted: ExportQuery) -> MadeFile:
    """The whole list as a file. Raises AppError RATE_LIMITED, SERVICE_UNAVAILABLE, 403 for the trash, and
    TOO_MANY_RECORDS for a workbook.
    """
    exports: Exports = request.app.state.exports
    exports.count(request)
    format_ = ExportFormat.CSV if wanted.format is UNSET else wanted.format
    names = list(kind.columns) if wanted.columns is UNSET else list(map(str, dict.fromkeys(wanted.columns)))
    spool = spool_of(request)
    with exports.turn():
        async with transaction(request, standby=True) as tx:
            await take_turn(tx)
            day = day_of(datetime.now(UTC), await zone_of(tx))
            rows = await _write(tx, kind, wanted, names, format_, spool)
    if format_ is ExportFormat.XLSX:
        lines, spool = spool, spool_of(request)
        await write_rows(kind.resource.table.name, names, lines.file, spool.file)
    await log_export(request, kind.resource.kind, _details(wanted, names, format_) | {"rows": rows})
    headers = file_headers(f"{kind.resource.table.name}-{day}.{format_}") | {"Cache-Control": "private, no-store"}
    return MadeFile(spool.file, CONTENT_TYPES[format_], headers)


def spool_of(request: CrmRequest) -> Spool:
    """A temporary file that is there until the request is over."""
    spool = Spool()
    request.scope["state"][RELEASE].callback(spool.file.close)
    return spool


async def take_turn(tx: Transaction) -> None:
    """Raise AppError RATE_LIMITED where two of the organization read already; else be one of them until the end of the
    transaction.
    """
    if not (await tx.connection.execute(TAKE_TURN)).scalar_one():
        message = f"Your organization has {MOST_OF_TENANT} exports running: try again when one of them has ended"
        raise AppError(Code.RATE_LIMITED, message, headers={"Retry-After": "5"})


async def log_export(request: CrmRequest, kind: str, details: Mapping[str, Any]) -> None:
    """Note in the audit log what is about to be sent. Raises AppError."""
    async with writing(request.app.state.database, request.user, origin_of(request)) as tx:
        await tx.connection.execute(LOG, {"kind": kind, "details": details})


def _details(wanted: ExportQuery, names: list[str], format_: ExportFormat) -> dict[str, Any]:
    """What the audit log says of an export."""
    given = to_builtins(wanted)
    filters = {name: "…" if name in TYPED else value for name, value in given.items() if name not in NOT_FILTERS | OWN}
    return {"format": format_, "columns": names, "filters": filters}


async def _write(
    tx: Transaction, kind: Export, wanted: ExportQuery, names: list[str], format_: ExportFormat, spool: Spool
) -> int:
    """Let the database write the list; answers how many rows it has."""
    columns = [kind.columns[name]() for name in names]
    options, line_end, most = JSON_LINES, b"\n", None
    selected: list[ColumnElement[Any]]
    if format_ is ExportFormat.CSV:
        options, line_end = CSV, b"\r\n"
        selected = [column.cell.label(column.name) for column in columns]
        await spool.write((BOM if wanted.bom is True else b"") + ",".join(names).encode() + line_end)
    elif format_ is ExportFormat.XLSX:
        most = MOST_ROWS - 1
        selected = [func.json_build_array(*(column.plain for column in columns))]
    else:
        pairs = (part for column in columns for part in (sql(f"'{column.name}'"), column.json))
        selected = [func.json_build_object(*pairs)]
    query = kind.listing.query(**{name: getattr(wanted, name) for name in wanted.__struct_fields__ if name not in OWN})
    statements, parameters = await kind.listing.whole(tx, query, selected)
    copying = Copying(tx, spool.write, EXPORT_SECONDS, most=most)
    for statement in statements:
        await copying.copy(statement, parameters, options, line_end)
    await spool.finish()
    return copying.rows
