"""Objects of the store whose rows are gone: the database lists them until the store has deleted them."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from app.db.database import Database
from app.storage.objects import ObjectStore

AT_ONCE = 100

LIST = text("SELECT crm_list_removed_objects(:most)")
FORGET = text("SELECT crm_forget_removed_objects(CAST(:keys AS text[]))")


async def delete_removed_objects(database: Database, store: ObjectStore) -> int:
    """Delete a batch of them; returns how many are done with. While the store is away, they stay listed, and an upload
    as long as its address takes a file. Raises AppError if the database is away.
    """
    if not store.configured:
        return 0
    async with database.maintenance() as connection:
        keys = list((await connection.execute(LIST, {"most": AT_ONCE})).scalars())
    # At the same time, as many as the store has threads.
    done = await asyncio.gather(*map(store.delete, keys), return_exceptions=True)
    deleted = [key for key, failure in zip(keys, done, strict=True) if failure is None]
    if not deleted:
        return 0
    async with database.maintenance() as connection:
        return int((await connection.execute(FORGET, {"keys": deleted})).scalar_one())
