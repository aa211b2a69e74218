"""Repositories of records that have a trash. The database trashes and restores what belongs to a record with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

from sqlalchemy import Executable, bindparam, func, select, text, update

from app.db.result import RowMapping
from app.records.repository import Repository, Shown
from app.records.resources import RESOURCES, Resource
from app.records.transaction import Transaction
from app.web.errors import AppError, Code


class TrashRepository(Repository[Shown]):
    """The records of one kind that has a trash."""

    async def trash(self, tx: Transaction, record_id: int, at: datetime | None = None) -> None:
        """Put a record into the trash, as if it were there since then. Raises AppError as `get_for_update`."""
        await self.trash_row(tx, await self.get_for_update(tx, record_id), at)

    async def trash_many(self, tx: Transaction, ids: Collection[int]) -> None:
        """Put live records into the trash by one statement. Raises AppError as `get_for_update` if one is not live."""
        trashed = (await tx.connection.execute(self._all_into_trash, {"ids": sorted(ids)})).scalars().all()
        if len(trashed) < len(ids):
            raise self.not_found()

    @cached_property
    def _all_into_trash(self) -> Executable:
        # Each has a time of its own: see below.
        return text(f"""
            UPDATE {self.resource.table.name} AS live
            SET deleted_at = since.began + wanted.place * interval '1 microsecond'
            FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (id, place),
                (SELECT clock_timestamp() AS began OFFSET 0) AS since
            WHERE live.id = wanted.id AND live.deleted_at IS NULL RETURNING live.id
        """)  # noqa: S608 -- our own name

    async def trash_row(self, tx: Transaction, row: RowMapping, at: datetime | None = None) -> None:
        """Put a locked record into the trash."""
        await tx.connection.execute(self._into_trash, {"record_id": row["id"], "since": at})

    @cached_property
    def _into_trash(self) -> Executable:
        table = self.resource.table
        since = bindparam("since", type_=table.c.deleted_at.type)
        return (
            update(table)
            .where(table.c.id == bindparam("record_id"))
            # Not the transaction's time: what goes with a record has the record's time, and nothing else may have it.
            .values(deleted_at=func.coalesce(since, func.clock_timestamp()))
        )

    async def restore(self, tx: Transaction, record_id: int) -> Shown:
        """Take a record out of the trash. Raises AppError as `get_trashed_for_update` and `restore_row`."""
        await self.restore_row(tx, await self.get_trashed_for_update(tx, record_id))
        return await self.get(tx, record_id)

    async def get_trashed_for_update(self, tx: Transaction, record_id: int) -> RowMapping:
        """A record in the trash, locked. Raises AppError: not found, or NOT_DELETED."""
        row = await self._find(tx, record_id)
        if row is None:
            raise self.not_found()
        if row["deleted_at"] is None:
            raise AppError(Code.NOT_DELETED)
        return row

    async def restore_row(
        self, tx: Transaction, row: RowMapping, changes: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Take a locked record out of the trash, with these changes.

        Raises AppError PARENT_DELETED, or as for a new record: a key may have been given to another one meanwhile.
        """
        await self.require_live(tx, row)
        along = {
            other.external_id_key: partial(_external_id_exists_along, other, row["deleted_at"])
            for other in RESOURCES
            if other is not self.resource and "external_id" in other.table.c
        }
        # What was merged into another record is one of its own again.
        apart = {"merged_into": None} if row.get("merged_into") is not None else {}
        await self._store(tx, row, {"deleted_at": None, **apart, **changes}, along)


async def _external_id_exists_along(
    other: Resource, trashed_at: datetime, tx: Transaction, _: Mapping[str, Any]
) -> AppError:
    """The error if something that would be restored with the record has an external_id that is taken by now."""
    live, back = other.table.c, other.table.alias("back").c
    held = select(live.id).where(
        back.deleted_at == trashed_at, live.external_id == back.external_id, live.deleted_at.is_(None)
    )
    holder = (await tx.connection.execute(held.order_by(live.id).limit(1))).scalar_one_or_none()
    message = f"Another {other.kind} has the external_id of one that would be restored too"
    data = {"type": other.kind} | ({} if holder is None else {f"{other.kind}_id": holder})
    return AppError(Code.EXTERNAL_ID_EXISTS, message, data=data)
