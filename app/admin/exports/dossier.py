"""All that is kept about one customer, the trash and the audit log included, as one document: for those who ask what is
known of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, func, literal_column, or_, select, tuple_, union

from app.access.permissions import Permission
from app.admin.activities import queries as activities
from app.admin.attachments import queries as attachments
from app.admin.contacts import queries as contacts
from app.admin.customers import queries as customers
from app.admin.deals import queries as deals
from app.admin.exports.copying import JSON_LINES, Copying
from app.admin.exports.service import Exports, log_export, spool_of, take_turn
from app.admin.http import transaction
from app.admin.notes import queries as notes
from app.admin.projects import queries as projects
from app.models import AuditEntry
from app.records import resources
from app.records.audit_values import with_stage_name
from app.records.json_columns import Columns, JsonColumn, json_object
from app.records.resources import Resource
from app.storage.spool import Spool
from app.web.errors import AppError
from app.web.file_names import file_headers
from app.web.input import CrmRequest
from app.web.large_responses import MadeFile

SECONDS = 60
audit = AuditEntry.__table__.c

_id: ColumnElement[int] = bindparam("customer_id", type_=customers.c.id.type)
_contacts = select(contacts.c.id).where(contacts.c.customer_id == _id)
_deals = select(deals.c.id).where(deals.c.customer_id == _id)
_projects = select(projects.c.id).where(projects.c.customer_id == _id)
_of_activity = or_(
    activities.c.customer_id == _id,
    activities.c.deal_id.in_(_deals),
    activities.c.project_id.in_(_projects),
    activities.c.contact_id.in_(_contacts),
)
_activities = select(activities.c.id).where(_of_activity)


# Times are shown with a Z, also inside of objects. A quotation mark in a text is escaped, so that no text is meant.
_TIME, _SHOWN_TIME = (
    literal_column("""'("[a-z_]+_(at|date)" ?: ?"[0-9T:.-]+)[+]00:00"'""", Text),
    literal_column(r"""'\1Z"'""", Text),
)


def _in_one_line(columns: Columns) -> ColumnElement[str]:
    """As JSON. The server writes line breaks between rows that are nested; those in texts are escaped."""
    line_break, blank = literal_column(r"E'\n'", Text), literal_column("' '", Text)
    line = func.translate(cast(json_object(columns), Text), line_break, blank, type_=Text)
    return func.regexp_replace(line, _TIME, _SHOWN_TIME, literal_column("'g'", Text), type_=Text)


class Part(NamedTuple):
    """Records of one kind that are kept about the customer, live or in the trash, in the shape that the API has."""

    resource: Resource
    columns: Columns
    condition: ColumnElement[bool]

    @property
    def rows(self) -> Select[Any]:
        """Each as JSON."""
        return select(_in_one_line(self.columns)).where(self.condition).order_by(self.resource.table.c.id)

    @property
    def ids(self) -> Select[Any]:
        """Each as the audit log names it."""
        return select(literal_column(f"'{self.resource.kind}'", Text).label("kind"), self.resource.table.c.id).where(
            self.condition
        )


def _belongs(c: Any) -> ColumnElement[bool]:
    return or_(
        c.customer_id == _id,
        c.deal_id.in_(_deals),
        c.project_id.in_(_projects),
        c.activity_id.in_(_activities),
    )


THE_CUSTOMER = Part(resources.CUSTOMERS, customers.COLUMNS, customers.c.id == _id)
PARTS = (
    Part(resources.CONTACTS, contacts.COLUMNS, contacts.c.customer_id == _id),
    Part(
        resources.DEALS,
        deals.COLUMNS | {"stage_history": deals.DETAILS["stage_history"]},
        deals.c.customer_id == _id,
    ),
    Part(resources.PROJECTS, projects.COLUMNS, projects.c.customer_id == _id),
    Part(resources.ACTIVITIES, activities.COLUMNS, _of_activity),
    Part(resources.NOTES, notes.COLUMNS, _belongs(notes.c)),
    Part(resources.ATTACHMENTS, attachments.COLUMNS, _belongs(attachments.c)),
)


def _in_log(name: str) -> ColumnElement[str]:
    return audit.old_values.op("->>", return_type=Text())(literal_column(f"'{name}'"))


# What belonged to it and is gone for good.
_purged = select(audit.resource_type, audit.resource_id).where(
    audit.action == literal_column("'delete'"),
    or_(
        _in_log("customer_id") == cast(_id, Text),
        _in_log("deal_id").in_(select(cast(_deals.subquery().c.id, Text))),
        _in_log("project_id").in_(select(cast(_projects.subquery().c.id, Text))),
    ),
)


def _history(*, with_origin: bool) -> Select[Any]:
    """What the audit log has of all of them. Who asked from where is for admins."""
    columns: Columns = {
        column.name: column
        for column in AuditEntry.__table__.columns
        if column.name not in HIDDEN and (with_origin or column.name not in ORIGIN)
    }
    columns |= {name: JsonColumn(with_stage_name(audit[name]), Any) for name in ("old_values", "new_values")}
    about = union(*(part.ids for part in (THE_CUSTOMER, *PARTS)), _purged).subquery("about")
    named = tuple_(audit.resource_type, audit.resource_id).in_(select(about))
    return select(_in_one_line(columns)).where(named).order_by(audit.id)


ORIGIN = frozenset({"ip_address", "user_agent"})
HIDDEN = frozenset({"tenant_id", "salt", "old_digest", "new_digest", "erased_by"})
HISTORY = {with_origin: _history(with_origin=with_origin) for with_origin in (False, True)}


async def dossier(request: CrmRequest, customer_id: int) -> MadeFile:
    """The document. Raises AppError CUSTOMER_NOT_FOUND, RATE_LIMITED or SERVICE_UNAVAILABLE."""
    exports: Exports = request.app.state.exports
    exports.count(request)
    spool = spool_of(request)
    with exports.turn():
        async with transaction(request, standby=True) as tx:
            await take_turn(tx)
            if (await tx.connection.execute(THE_CUSTOMER.ids, {"customer_id": customer_id})).first() is None:
                raise AppError(resources.CUSTOMERS.not_found)
            writer = _Writer(spool)
            copying = Copying(tx, writer.write, SECONDS)
            history = HISTORY[tx.actor.can(Permission.AUDIT)]
            lists = [(str(part.resource.table.name), part.rows) for part in PARTS] + [("history", history)]
            await spool.write(b'{"customer":')
            await copying.copy(THE_CUSTOMER.rows, {"customer_id": customer_id}, JSON_LINES, b",")
            await writer.end_list(b"")
            for name, rows in lists:
                await spool.write(f',"{name}":['.encode())
                await copying.copy(rows, {"customer_id": customer_id}, JSON_LINES, b",")
                await writer.end_list(b"]")
            await spool.write(b"}")
            await spool.finish()
    await log_export(request, resources.CUSTOMERS.kind, {"format": "dossier", "customer_id": customer_id})
    headers = file_headers(f"customer-{customer_id}.json") | {"Cache-Control": "private, no-store"}
    return MadeFile(spool.file, "application/json", headers)


class _Writer:
    """Writes rows with commas between them: the last comma of a list is held back."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._held = b""

    async def write(self, block: bytes) -> None:
        await self._spool.write(self._held + block[:-1])
        self._held = block[-1:]

    async def end_list(self, end: bytes) -> None:
        self._held = b""
        await self._spool.write(end)
