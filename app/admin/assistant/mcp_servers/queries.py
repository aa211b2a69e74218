"""MCP servers as the database has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from app.models import McpServer as Row
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

c = Row.__table__.c
MOST = 20


class Stored(NamedTuple):
    """A server."""

    id: int
    name: str
    url: str
    auth: str
    secret: bytes | None
    secret_end: str | None
    allowed_tools: list[str] | None
    tools: list[dict[str, Any]]
    listed_at: datetime | None
    problem: str | None
    created_at: datetime

    def allows(self, tool: str) -> bool:
        """Whether the tool may be called."""
        return self.allowed_tools is None or tool in self.allowed_tools


ALL: Select[Any] = select(*(c[name] for name in Stored._fields)).order_by(c.id)
ONE: Select[Any] = ALL.where(c.id == bindparam("server_id"))
# Until the transaction ends, nobody else of the organization adds one.
WRITTEN = tuple(name for name in ("tenant_id", *Stored._fields) if name not in {"id", "created_at"})
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('servers ' || current_setting('crm.tenant'), 0))")
NAMED = select(func.count()).where(c.name == bindparam("server_name"))
COUNT = select(func.count()).select_from(Row)
MAKE = insert(Row).values({name: bindparam(name, type_=c[name].type) for name in WRITTEN}).returning(c.id)
KEEP_SECRET = update(Row).where(c.id == bindparam("server_id")).values(secret=bindparam("encrypted"))
REMOVE = delete(Row).where(c.id == bindparam("server_id")).returning(c.id)
LISTED = (
    update(Row)
    .where(c.id == bindparam("server_id"))
    .values(tools=bindparam("found", type_=JSONB), listed_at=func.now(), problem=None)
)
FAILED = update(Row).where(c.id == bindparam("server_id")).values(problem=bindparam("why"))
LOG_CALL = text("SELECT crm_log_call(:server_id, :tool)")


async def all_of(tx: Transaction) -> list[Stored]:
    """Every server, the oldest first."""
    return [Stored(*row) for row in await tx.connection.execute(ALL)]


async def get(tx: Transaction, server_id: int) -> Stored:
    """Raises AppError MCP_SERVER_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"server_id": server_id})).one_or_none()
    if row is None:
        raise AppError(Code.MCP_SERVER_NOT_FOUND)
    return Stored(*row)


async def log_call(tx: Transaction, server_id: int, tool: str) -> None:
    """Note in the audit log that a tool is about to be called. What it is called with is not for the log."""
    await tx.connection.execute(LOG_CALL, {"server_id": server_id, "tool": tool})
