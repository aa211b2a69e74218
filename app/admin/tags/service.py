"""The rules of tags, beyond those of every record."""

from __future__ import annotations

from sqlalchemy import delete, func, select, update

from app import models
from app.admin.tags.queries import ALL, TAGS
from app.admin.tags.schemas import Tag
from app.db.pool import response_timeout
from app.records.transaction import Transaction
from app.web.paging import Everything

tag = models.Tag.__table__.c
customer = models.Customer.__table__.c
tagged = models.CustomerTag.__table__.c

REMOVAL_SECONDS = 60


async def list_all(tx: Transaction) -> Everything[Tag]:
    """Every tag of the tenant, by name."""
    tags = [Tag(*row) for row in await tx.connection.execute(ALL)]
    return Everything(tags, len(tags))


async def remove(tx: Transaction, tag_id: int) -> None:
    """Take the tag off every customer, which changes each of them, and delete it."""
    await TAGS.get_for_update(tx, tag_id)
    # Each customer that wears it changes, with a version and an audit entry: a popular tag takes more than 5 s.
    await tx.connection.execute(select(func.set_config("statement_timeout", f"{REMOVAL_SECONDS}s", True)))
    holders = select(tagged.customer_id).where(tagged.tag_id == tag_id)
    taken_off = update(models.Customer).where(customer.id.in_(holders))
    with response_timeout(REMOVAL_SECONDS + 1):
        await tx.connection.execute(taken_off.values(tags=func.array_remove(customer.tags, tag_id)))
    await tx.connection.execute(delete(models.Tag).where(tag.id == tag_id))
