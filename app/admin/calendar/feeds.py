"""Feeds: addresses that calendar programs subscribe to, each for whoever knows its secret."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from sqlalchemy import Select, Text, bindparam, delete, func, insert, null, select, text, type_coerce

from app.access.access_tokens import hashed
from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.calendar.schemas import Feed, FeedCreate, FeedPart
from app.db.database import Database
from app.models import CalendarFeed as Row
from app.records.json_columns import selected, view_columns
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

MOST_FEEDS = 20
SECRET_BYTES = 32

c = Row.__table__.c
COLUMNS = view_columns(Feed, Row.__table__, url=type_coerce(null(), Text).label(None))
ALL: Select[Any] = select(*selected(COLUMNS)).order_by(c.id)
ONE: Select[Any] = select(*selected(COLUMNS)).where(c.id == bindparam("feed_id"))
COUNT = select(func.count()).select_from(Row)
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('feeds ' || current_setting('crm.user'), 0))")
KEPT = ("tenant_id", "user_id", "name", "include", "secret_hash")
MAKE = insert(Row).values({name: bindparam(name) for name in KEPT}).returning(c.id)
TRY = insert(Row).values({name: bindparam(name) for name in ("id", *KEPT)}).returning(c.id)
REMOVE = delete(Row).where(c.id == bindparam("feed_id")).returning(c.id)
FIND = text("SELECT tenant_id, user_id, name, include FROM crm_find_calendar_feed(:hash)")


class Subscription(NamedTuple):
    """A feed that somebody asks for by its secret: whose it is, and what is in it."""

    tenant_id: str
    user_id: str
    name: str
    include: list[str]

    @property
    def actor(self) -> Actor:
        """Its person. Nothing in it needs another role than an agent's: it is the person's own."""
        return Actor(user_id=self.user_id, tenant_id=self.tenant_id, role=Role.AGENT)


async def list_all(tx: Transaction) -> list[Feed]:
    """The person's feeds, the oldest first."""
    return [Feed(*row) for row in await tx.connection.execute(ALL)]


async def create(tx: Transaction, data: FeedCreate) -> tuple[Feed, str]:
    """A new feed of this person's, and its secret. Raises AppError LIMIT_REACHED."""
    await tx.connection.execute(ONE_AT_A_TIME)
    if (await tx.connection.execute(COUNT)).scalar_one() >= MOST_FEEDS:
        raise AppError(Code.LIMIT_REACHED, data={"max": MOST_FEEDS})
    secret = secrets.token_urlsafe(SECRET_BYTES)
    values = {"include": list(FeedPart), **data.given(), "secret_hash": hashed(secret)}
    values["include"] = [part for part in FeedPart if part in values["include"]]
    values |= {"tenant_id": tx.actor.tenant_id, "user_id": tx.actor.user_id}
    if tx.dry_run:
        made = await tx.connection.execute(TRY, values | {"id": tx.placeholder_id()})
    else:
        made = await tx.connection.execute(MAKE, values)
    row = (await tx.connection.execute(ONE, {"feed_id": made.scalar_one()})).one()
    return Feed(*row), secret


async def remove(tx: Transaction, feed_id: int) -> None:
    """End a feed of this person's. Raises AppError FEED_NOT_FOUND."""
    if (await tx.connection.execute(REMOVE, {"feed_id": feed_id})).first() is None:
        raise AppError(Code.FEED_NOT_FOUND)


async def find(database: Database, secret: str) -> Subscription:
    """The feed with this secret. Raises AppError NOT_FOUND where there is none, or its person is shut out."""
    async with database.maintenance() as session:
        row = (await session.execute(FIND, {"hash": hashed(secret)})).one_or_none()
    if row is None:
        raise AppError(Code.NOT_FOUND)
    return Subscription(*row)
