"""Records that were merged into others: they are in the trash, and the others stand for them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Select, bindparam, select

from app.models import Mergeable
from app.records.repository import NotLiveError
from app.records.resources import Resource
from app.records.transaction import Transaction
from app.web.errors import AppError, Code


async def explained(tx: Transaction, error: NotLiveError) -> AppError:
    """The error, or MERGED with the live record that this one was merged into, if this person sees both."""
    if error.record_id is None or not issubclass(error.resource.model, Mergeable):
        return error
    found = await tx.connection.execute(_merged_into(error.resource), {"record_id": error.record_id})
    into = found.scalar_one_or_none()
    return error if into is None else AppError(Code.MERGED, data={"merged_into": into})


@lru_cache
def _merged_into(resource: Resource) -> Select[Any]:
    merged, kept = resource.table.c, resource.table.alias("kept").c
    return select(kept.id).where(
        merged.id == bindparam("record_id"),
        merged.deleted_at.is_not(None),
        kept.id == merged.merged_into,
        kept.deleted_at.is_(None),
    )
