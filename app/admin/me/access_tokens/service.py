"""A person's access tokens."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import (
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    text,
    type_coerce,
    update,
)

from app.access.access_tokens import hashed, make_access_token
from app.admin.me.access_tokens.schemas import USUAL_DAYS, AccessToken, AccessTokenCreate
from app.models import AccessToken as Row
from app.records.json_columns import selected, view_columns
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

MOST_TOKENS = 20
# So many that ended are kept, so that whoever still has one is told what became of it.
MOST_ENDED = 100

c = Row.__table__.c
COLUMNS = view_columns(AccessToken, Row.__table__, token=type_coerce(null(), Text).label(None))
IS_GOOD = c.revoked_at.is_(None) & (c.expires_at > func.now())
ALL: Select[Any] = select(*selected(COLUMNS)).where(c.revoked_at.is_(None)).order_by(c.id)
ONE: Select[Any] = select(*selected(COLUMNS)).where(c.id == bindparam("token_id"))
COUNT = select(func.count()).select_from(Row).where(IS_GOOD)
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('tokens ' || current_setting('crm.user'), 0))")
ENDED = select(c.id).where(or_(c.revoked_at.is_not(None), c.expires_at <= func.now()))
PRUNE = delete(Row).where(c.id.in_(ENDED.order_by(c.id.desc()).offset(MOST_ENDED)))
KEPT = ("tenant_id", "user_id", "name", "scope", "secret_hash")
VALUES: dict[str, Any] = {name: bindparam(name) for name in KEPT} | {
    "expires_at": func.now() + func.make_interval(0, 0, 0, cast(bindparam("days"), Integer))
}
MAKE = insert(Row).values(VALUES).returning(c.id)
TRY = insert(Row).values(VALUES | {"id": bindparam("id")}).returning(c.id)
REVOKE = (
    update(Row).where(c.id == bindparam("token_id"), c.revoked_at.is_(None)).values(revoked_at=func.now())
).returning(c.id)


async def list_all(tx: Transaction) -> list[AccessToken]:
    """The person's access tokens that were not revoked, the oldest first."""
    return [AccessToken(*row) for row in await tx.connection.execute(ALL)]


async def create(tx: Transaction, data: AccessTokenCreate) -> tuple[AccessToken, str]:
    """A new access token of this person's: what is shown of it, and itself. Raises AppError LIMIT_REACHED."""
    await tx.connection.execute(ONE_AT_A_TIME)
    if (await tx.connection.execute(COUNT)).scalar_one() >= MOST_TOKENS:
        raise AppError(Code.LIMIT_REACHED, data={"max": MOST_TOKENS})
    await tx.connection.execute(PRUNE)
    token = make_access_token()
    values: dict[str, Any] = {
        "tenant_id": tx.actor.tenant_id,
        "user_id": tx.actor.user_id,
        "name": data.name,
        "scope": data.scope.value,
        "secret_hash": hashed(token),
        "days": USUAL_DAYS if data.expires_in_days is UNSET else data.expires_in_days,
    }
    if tx.dry_run:
        made = await tx.connection.execute(TRY, values | {"id": tx.placeholder_id()})
    else:
        made = await tx.connection.execute(MAKE, values)
    row = (await tx.connection.execute(ONE, {"token_id": made.scalar_one()})).one()
    return AccessToken(*row), token


async def revoke(tx: Transaction, token_id: int) -> None:
    """End an access token of this person's. Raises AppError ACCESS_TOKEN_NOT_FOUND."""
    if (await tx.connection.execute(REVOKE, {"token_id": token_id})).first() is None:
        raise AppError(Code.ACCESS_TOKEN_NOT_FOUND)
