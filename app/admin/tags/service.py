"""What can be done with tags."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select, update

from app import models
from app.admin.tags.queries import COLUMNS
from app.admin.tags.schemas import Tag, TagChange, TagCreate
from app.db.driver import patience
from app.db.transaction import Transaction
from app.records.json_columns import selected
from app.records.records import Records
from app.web.errors import AppError, Code
from app.web.paging import Everything

tag = models.Tag.__table__.c
customer = models.Customer.__table__.c
worn = models.CustomerTag.__table__.c

REMOVAL_SECONDS = 60
# They are listed whole.
MOST = 1000
RECORDS = Records(models.Tag, Code.TAG_NOT_FOUND, owned=False, most=MOST)

ALL: Select[Any] = select(*selected(COLUMNS)).order_by(tag.name_folded, tag.id)
ONE: Select[Any] = select(*selected(COLUMNS)).where(tag.id == bindparam("tag_id"))


async def list_all(tx: Transaction) -> Everything[Tag]:
    """Every tag of the tenant, by name."""
    tags = [Tag(*row) for row in await tx.connection.execute(ALL)]
    return Everything(tags, len(tags))


async def get(tx: Transaction, tag_id: int) -> Tag:
    """Raises AppError TAG_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"tag_id": tag_id})).one_or_none()
    if row is None:
        raise AppError(Code.TAG_NOT_FOUND)
    return Tag(*row)


async def create(tx: Transaction, data: TagCreate) -> Tag:
    """Raises AppError TAG_EXISTS, or LIMIT_REACHED."""
    return await get(tx, await RECORDS.insert(tx, data.given()))


async def change(tx: Transaction, tag_id: int, data: TagChange) -> Tag:
    """Raises AppError TAG_NOT_FOUND, VERSION_CONFLICT or TAG_EXISTS."""
    await RECORDS.update(tx, await RECORDS.lock(tx, tag_id), data.given())
    return await get(tx, tag_id)


async def remove(tx: Transaction, tag_id: int) -> None:
    """Take the tag off every customer, which changes each of them, and delete it."""
    await RECORDS.lock(tx, tag_id)
    # Each customer that wears it changes, with a version and an audit entry: a popular tag takes more than 5 s.
    await tx.connection.execute(select(func.set_config("statement_timeout", f"{REMOVAL_SECONDS}s", True)))
    holders = select(worn.customer_id).where(worn.tag_id == tag_id)
    taken_off = update(models.Customer).where(customer.id.in_(holders))
    with patience(REMOVAL_SECONDS + 1):
        await tx.connection.execute(taken_off.values(tags=func.array_remove(customer.tags, tag_id)))
    await tx.connection.execute(delete(models.Tag).where(tag.id == tag_id))
