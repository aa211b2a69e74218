"""Connected calendars as the database has them: a person's own, and nobody else's."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, delete, func, insert, select, text, update

from app.admin.connections.schemas import Connection
from app.models import CalendarConnection as Row
from app.models import OAuthState
from app.records.json_columns import selected, view_columns
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

MOST_CONNECTIONS = 5
# Of one person's consents that are under way, the newest are kept.
MOST_STATES = 5
STATE_MINUTES = 10

c, state = Row.__table__.c, OAuthState.__table__.c
COLUMNS = view_columns(Connection, Row.__table__)
# Row-level security says so, too, but would look at everybody's.
MINE = c.user_id == func.current_setting("crm.user")
ALL: Select[Any] = select(*selected(COLUMNS)).where(MINE).order_by(c.id)
ONE: Select[Any] = select(*selected(COLUMNS)).where(c.id == bindparam("connection_id"))
COUNT = select(func.count()).select_from(Row).where(MINE)
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('connections ' || current_setting('crm.user'), 0))")
SAME = select(c.id).where(MINE, c.provider == bindparam("of_provider"), c.calendar == bindparam("of_calendar"))
KEPT = ("tenant_id", "user_id", "provider", "account", "calendar", "calendar_name", "secret")
MAKE = insert(Row).values({name: bindparam(name) for name in KEPT}).returning(c.id)
TRY = insert(Row).values({name: bindparam(name) for name in ("id", *KEPT)}).returning(c.id)
# What is connected again goes on where it was. A sync that is under way with what let in before counts no more.
AGAIN = (
    update(Row)
    .where(c.id == bindparam("connection_id"))
    .values(
        account=bindparam("of_account"),
        calendar_name=bindparam("named"),
        secret=bindparam("encrypted"),
        status="active",
        failures=0,
        last_error=None,
        next_sync_at=func.now(),
        claimed_until=None,
        operation_id=None,
    )
)
KEEP_SECRET = (
    update(Row)
    .where(c.id == bindparam("connection_id"), c.claims == bindparam("of_claims"), c.operation_id.is_not(None))
    .values(secret=bindparam("encrypted"))
)
REMOVE = delete(Row).where(c.id == bindparam("connection_id")).returning(c.provider, c.secret)
DECIDE = (
    update(Row)
    .where(c.id == bindparam("connection_id"), c.status == "needs_confirmation")
    .values(status="active", vanished=None, decision=bindparam("decided"), next_sync_at=func.now(), failures=0)
    .returning(c.id)
)
MAKE_STATE = insert(OAuthState).values(
    tenant_id=bindparam("tenant_id"),
    state_hash=bindparam("state_hash"),
    user_id=bindparam("user_id"),
    provider=bindparam("provider"),
    verifier=bindparam("verifier"),
    expires_at=func.now() + func.make_interval(0, 0, 0, 0, 0, STATE_MINUTES),
)
_newest = select(state.state_hash).order_by(state.expires_at.desc()).limit(MOST_STATES)
PRUNE_STATES = delete(OAuthState).where((state.expires_at <= func.now()) | state.state_hash.not_in(_newest))
USE_STATE = (
    delete(OAuthState)
    .where(state.state_hash == bindparam("state_hash"), state.expires_at > func.now())
    .returning(state.provider, state.verifier)
)


class Removed(NamedTuple):
    """A connection that was just deleted."""

    id: int
    provider: str
    secret: bytes


async def list_all(tx: Transaction) -> list[Connection]:
    """The person's connections, the oldest first."""
    return [Connection(*row) for row in await tx.connection.execute(ALL)]


async def get(tx: Transaction, connection_id: int) -> Connection:
    """Raises AppError CONNECTION_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"connection_id": connection_id})).one_or_none()
    if row is None:
        raise AppError(Code.CONNECTION_NOT_FOUND)
    return Connection(*row)


async def remove(tx: Transaction, connection_id: int) -> Removed:
    """Delete a connection. Raises AppError CONNECTION_NOT_FOUND."""
    row = (await tx.connection.execute(REMOVE, {"connection_id": connection_id})).one_or_none()
    if row is None:
        raise AppError(Code.CONNECTION_NOT_FOUND)
    return Removed(connection_id, *row)
